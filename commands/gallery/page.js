// The gallery: what the filters leave, as cards of which only those in view are in the document; and the viewer.

const MARGIN = 600; // pixels above and below the window in which there are cards too
const GAP = 14;
const LEAST_WIDTH = { wide: 176, narrow: 132 }; // of a card, in pixels
const NARROW = 560; // pixels of the gallery

const element = (id) => document.getElementById(id);
const [form, gallery, viewer] = ["form", "gallery", "viewer"].map(element);
const data = JSON.parse(element("data").textContent);
const labels = new Map(Object.entries(data.labels).map(([index, label]) => [Number(index), label]));
const images = data.images.map(([name, truth, predictions], at) => {
  const predicted = predictions[0][0];
  return { number: at + 1, name, truth, predictions, predicted, right: truth === null ? null : truth === predicted };
});
const maps = data.maps.map(([image, place, method, target, score, probability, x, y]) => (
  { image: images[image], place, method, target, score, probability, x, y }
));

/** An element with a class and a text, or with children. */
function make(kind, name, ...content) {
  const made = document.createElement(kind);
  if (name) made.className = name;
  made.append(...content);
  return made;
}

function percent(share) {
  const value = 100 * share;
  return value > 0 && value < 0.05 ? "<0.1 %" : value < 100 && value > 99.95 ? ">99.9 %" : `${value.toFixed(1)} %`;
}

const file = ({ image, place }, folder) =>
  `${data.folders[folder]}/${String(image.number).padStart(6, "0")}${place < 0 ? "" : `-${place + 1}`}.jpg`;
const judged = ({ right }) => (right === null ? "" : right ? "right" : "wrong");

/** Whether the prediction is right, as a sign and a word, and what it is where that is not the explained class. */
function verdict({ target, image }) {
  const { predicted, truth, right } = image;
  const parts = target === predicted ? [] : [`predicted: ${labels.get(predicted)}`];
  if (right === false) parts.push(`true: ${labels.get(truth)}`);
  if (right === null) return { lines: parts, told: parts.join(", ") };
  const [first = "right", ...rest] = parts;
  return { lines: [`${right ? "✓" : "✗"} ${first}`, ...rest], told: [judged(image), ...parts].join(", ") };
}

const known = images.some(({ truth }) => truth !== null);
const topOnly = maps.every(({ target, image }) => target === image.predicted);
const several = maps.length > images.length;
const shared = sharedFolder(images.map(({ name }) => name));

/** What all names begin with, as far as it is a folder. */
function sharedFolder(names) {
  let start = names[0];
  for (const name of names) while (!name.startsWith(start)) start = start.slice(0, -1);
  return start.slice(0, Math.max(start.lastIndexOf("/"), start.lastIndexOf("\\")) + 1);
}

// Filters

/** Orders texts as people do, img2 before img10; by rank, as comparing them anew takes long. */
function ranks(texts) {
  const { compare } = new Intl.Collator("en", { numeric: true });
  return new Map([...new Set(texts)].sort(compare).map((text, rank) => [text, rank]));
}

const nameRanks = ranks(images.map(({ name }) => name));
const labelRanks = ranks(labels.values());
const ofClass = (index) => labelRanks.get(labels.get(index)) ?? Infinity;
const ORDERS = {
  order: null,
  name: (map) => nameRanks.get(map.image.name),
  high: (map) => -map.probability,
  low: (map) => map.probability,
  predicted: (map) => ofClass(map.image.predicted),
  true: (map) => ofClass(map.image.truth),
};
const ROLES = { predicted: (map) => map.image.predicted, explained: (map) => map.target, true: (map) => map.image.truth };

const plain = (text) => text.trim().toLowerCase();

/** The classes that a text names: by the label or a synonym, else by the index, else by a part of the label; or null. */
function classesOf(text) {
  const wanted = plain(text);
  if (!wanted) return null;
  const all = [...labels.keys()];
  const names = (index) => [labels.get(index), ...labels.get(index).split(",")].map(plain);
  const same = all.filter((index) => names(index).includes(wanted));
  if (same.length) return new Set(same);
  const numbered = all.filter((index) => String(index) === wanted);
  return new Set(numbered.length ? numbered : all.filter((index) => plain(labels.get(index)).includes(wanted)));
}

function filtered() {
  const { least, most, method, name, sort, right } = form.elements;
  const wanted = Object.entries(ROLES).map(([role, of]) => [of, classesOf(form.elements[role].value)]);
  const roles = wanted.filter(([, classes]) => classes);
  const [low, high] = [least.value === "" ? -Infinity : +least.value, most.value === "" ? Infinity : +most.value];
  const part = plain(name.value);
  const found = maps.filter((map) =>
    roles.every(([of, classes]) => classes.has(of(map))) &&
    (!right.value || String(map.image.right) === right.value) &&
    100 * map.probability >= low && 100 * map.probability <= high &&
    (method.value === "" || map.method === +method.value) &&
    (!part || map.image.name.toLowerCase().includes(part)));
  const key = ORDERS[sort.value];
  if (!key) return found;
  const keyed = found.map((map) => [key(map), map]);
  keyed.sort(([one], [other]) => (one < other ? -1 : one > other ? 1 : 0));
  return keyed.map(([, map]) => map);
}

function told() {
  const found = new Set(shown.map(({ image }) => image));
  const known = [...found].filter(({ right }) => right !== null);
  const right = known.filter((image) => image.right).length;
  const parts = [`${found.size} of ${images.length} images`];
  if (several) parts.push(`${shown.length} ${shown.length === 1 ? "map" : "maps"}`);
  if (known.length) parts.push(`${right} of ${known.length} predicted rightly (${percent(right / known.length)})`);
  return parts.join(" · ");
}

let shown = [];

function update() {
  shown = filtered();
  element("count").textContent = told();
  current = 0;
  cards.clear();
  gallery.replaceChildren();
  const above = gallery.getBoundingClientRect().top;
  layout();
  if (above < 0) scrollBy(0, above - element("count").offsetHeight - GAP);
}

// Cards

const cards = new Map(); // by place among the shown
let current = 0; // the card that the Tab key comes to
let columns = 1;
let width = LEAST_WIDTH.wide;
let height = 0; // from row to row

function card(at) {
  const map = shown[at];
  const { image } = map;
  const thumbnail = make("img");
  Object.assign(thumbnail, { loading: "lazy", decoding: "async", alt: "", src: file(map, "thumbnails") });
  const [label, words] = [labels.get(map.target), verdict(map)];
  const button = make("button", "card", thumbnail,
    make("span", "label", make("span", "", label), make("b", "", percent(map.probability))),
    make("span", "name", image.name.slice(shared.length)));
  for (let line = 0; line < known + !topOnly; line++) { // cards are all of one height
    button.lastChild.before(make("span", judged(image), words.lines[line] ?? ""));
  }
  if (data.methods.length > 1) button.append(make("span", "name", data.methods[map.method]));
  button.type = "button";
  button.setAttribute("aria-label", [image.name, `${label} ${percent(map.probability)}`, words.told,
    data.methods[map.method]].filter(Boolean).join(", "));
  button.addEventListener("click", () => open(at));
  const item = make("li", "", button);
  item.setAttribute("aria-posinset", at + 1);
  item.setAttribute("aria-setsize", shown.length);
  cards.set(at, item);
  return item;
}

function place(item, at) {
  const [row, column] = [Math.floor(at / columns), at % columns];
  item.style.width = `${width}px`;
  item.style.transform = `translate(${column * (width + GAP)}px, ${row * height}px)`;
  item.firstChild.tabIndex = at === current ? 0 : -1;
}

/** Finds the size of cards in this window. */
function layout() {
  const whole = gallery.clientWidth;
  columns = Math.max(1, Math.floor((whole + GAP) / ((whole < NARROW ? LEAST_WIDTH.narrow : LEAST_WIDTH.wide) + GAP)));
  width = (whole - (columns - 1) * GAP) / columns;
  if (shown.length) {
    const [item] = cards.size ? cards.values() : [gallery.appendChild(card(0))];
    item.style.width = `${width}px`;
    height = item.offsetHeight + GAP;
  }
  gallery.style.height = `${Math.ceil(shown.length / columns) * height}px`;
  show();
}

/** Puts the cards in view into the document, and takes the others out of it. */
function show() {
  const top = -gallery.getBoundingClientRect().top;
  const row = (pixels) => Math.min(Math.max(0, pixels / height), shown.length);
  const first = Math.floor(row(top - MARGIN)) * columns;
  const end = Math.min(shown.length, Math.ceil(row(top + innerHeight + MARGIN)) * columns);
  if (!gallery.contains(document.activeElement)) current = Math.min(Math.ceil(row(top)) * columns, shown.length - 1);
  const wanted = new Set(Array.from({ length: Math.max(0, end - first) }, (_, at) => first + at));
  if (current >= 0 && shown.length) wanted.add(current);
  for (const [at, item] of cards) {
    if (wanted.has(at)) continue;
    cards.delete(at);
    item.remove();
  }
  let next = gallery.firstChild;
  for (const at of [...wanted].sort((one, other) => one - other)) {
    const item = cards.get(at) ?? card(at);
    place(item, at);
    if (item === next) next = next.nextSibling;
    else gallery.insertBefore(item, next);
  }
}

function focusCard(at) {
  current = Math.min(Math.max(0, at), shown.length - 1);
  const top = gallery.getBoundingClientRect().top + Math.floor(current / columns) * height;
  if (top < 0) scrollBy(0, top - GAP);
  else if (top + height > innerHeight) scrollBy(0, top + height - innerHeight);
  cards.get(current) ?? gallery.append(card(current));
  cards.get(current).firstChild.focus({ preventScroll: true });
  show();
}

gallery.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  const page = columns * Math.max(1, Math.floor(innerHeight / height));
  const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns, PageDown: page, PageUp: -page,
    Home: -Infinity, End: Infinity };
  if (!(event.key in steps)) return;
  event.preventDefault();
  focusCard(current + steps[event.key]);
});
gallery.addEventListener("focusin", ({ target }) => {
  current = [...cards].find(([, item]) => item.contains(target))?.[0] ?? current;
  for (const [at, item] of cards) item.firstChild.tabIndex = at === current ? 0 : -1;
});

// The viewer

let opened = 0;

function open(at) {
  opened = at;
  const map = shown[at];
  const { image } = map;
  const label = labels.get(map.target);
  const words = make("b", judged(image), verdict(map).lines.join(", "));
  element("title").replaceChildren(make("span", "", label), " ", make("b", "", percent(map.probability)), " ", words);
  element("place").textContent = `${at + 1} of ${shown.length}`;
  const [drawn, bare] = [element("map"), element("image")];
  [drawn.src, drawn.alt] = [file(map, "maps"), `${image.name} with the map of ${label}`];
  [bare.src, bare.alt] = [file({ image, place: -1 }, "images"), `The image ${image.name}`];
  const facts = {
    image: image.name,
    explained: `${label} (class ${map.target})`,
    score: map.score.toFixed(3),
    method: data.methods[map.method],
    "highest at": map.x === null ? "nowhere: the map is the same everywhere, or nowhere above zero" : `pixel x ${map.x}, y ${map.y}`,
  };
  if (image.truth !== null) facts.true = `${labels.get(image.truth)} (class ${image.truth})`;
  element("facts").replaceChildren(
    ...Object.entries(facts).flatMap(([name, value]) => [make("dt", "", name), make("dd", "", value)]));
  element("predictions").replaceChildren(...image.predictions.map(([index, share]) =>
    make("tr", index === map.target ? "chosen" : "", make("td", "", labels.get(index)), make("td", "", percent(share)))));
  element("previous").disabled = at === 0;
  element("next").disabled = at === shown.length - 1;
  if (!viewer.open) viewer.showModal();
  for (const near of [at + 1, at - 1].filter((other) => shown[other])) new Image().src = file(shown[near], "maps");
}

function step(by) {
  const at = Math.min(Math.max(0, opened + by), shown.length - 1);
  if (at !== opened) open(at);
  if (document.activeElement.disabled || document.activeElement === document.body) element("close").focus();
}

viewer.addEventListener("keydown", (event) => {
  const steps = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity };
  if (!(event.key in steps) || event.altKey || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  step(steps[event.key]);
});
viewer.addEventListener("click", ({ target }) => target === viewer && viewer.close());
viewer.addEventListener("close", () => focusCard(opened));
element("previous").addEventListener("click", () => step(-1));
element("next").addEventListener("click", () => step(1));
element("close").addEventListener("click", () => viewer.close());

// The start

document.querySelectorAll(".needs-truth").forEach((field) => (field.hidden = !known));
element("explained-field").hidden = topOnly;
element("method-field").hidden = data.methods.length === 1;
const choices = data.methods.map((name, at) => new Option(name, at));
element("method").append(...choices, new Option("all", ""));
for (const [role, of] of Object.entries(ROLES)) {
  const present = [...new Set(maps.map(of))].filter((index) => index !== null);
  present.sort((one, other) => ofClass(one) - ofClass(other));
  element(`${role}-classes`).append(...present.map((index) => new Option("", labels.get(index))));
}
if (matchMedia("(max-width: 60rem)").matches) element("filters").open = false;
form.addEventListener("input", update);
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", () => setTimeout(update));
new ResizeObserver(() => requestAnimationFrame(layout)).observe(gallery.parentElement); // it must not change sizes itself
addEventListener("scroll", () => requestAnimationFrame(show), { passive: true });
update();
