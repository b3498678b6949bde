/** The page: what the user chooses goes to the worker, what it answers is drawn. page.json says what there is. */

import { Classes, percent } from "./classes.js";
import { Engine, Stopped } from "./engine.js";

const LONG = 2000; // milliseconds
const ENDS = ["less", "more"]; // of the legend
const SIGNED_ENDS = ["against", "for"];

const elements = Object.fromEntries(
  ["stage", "progress", "before", "after", "image", "base", "heat", "empty", "status", "legend", "lowest", "bar",
    "highest", "error", "opacity", "percent", "save", "file", "samples", "model", "models", "methods", "facts",
    "drop"].map(
    (id) => [id, document.getElementById(id)]
  )
);

const { runtime, models, samples } = await (await fetch("page.json")).json();

let engine;
let model; // of page.json
let isReady = false; // the model
let method;
let target = null; // a class; null for the most probable one
let chosen = null; // {name, file}: the image given last
let image = null; // the one that is shown
let explained = null; // the answer that is shown
let isExplaining = false;
let isChanged = false; // what is to be explained, since the run under way began
let underWay = 0;

const classes = new Classes((index) => {
  target = index;
  return explain();
});

// --- Models, methods, images ---

function openModel(wanted) {
  model = wanted;
  engine?.stop();
  engine = new Engine(showProgress);
  [isReady, isExplaining, target, explained] = [false, false, null, null];
  if (!model.methods.some(({ name }) => name === method)) method = model.methods[0].name;
  listMethods();
  classes.clear();
  elements.facts.textContent = "";
  if (chosen) readImage(chosen);
  return attempt(async () => {
    const { size, classes: count } = await engine.call("open", { runtime, model });
    isReady = true;
    elements.facts.textContent =
      `${model.name}: ${count} classes, input ${size[1]} × ${size[0]} pixels, ${megabytes(model.bytes)}`;
    announce("The model is ready.");
    await explain();
  });
}

function readImage(given) {
  const before = image;
  chosen = given;
  return attempt(async () => {
    try {
      const answer = await engine.call("read", { file: given.file });
      if (given !== chosen) return;
      [image, target, explained] = [given, null, null];
      show(answer);
    } catch (error) {
      if (!(error instanceof Stopped) && given === chosen) chosen = before;
      throw error;
    }
    await explain();
  });
}

/** Explains what is chosen; of choices made meanwhile only the last one counts. */
async function explain() {
  isChanged = true;
  if (isExplaining || !isReady || !image) return;
  isExplaining = true;
  await attempt(async () => {
    while (isChanged) {
      isChanged = false;
      const asked = method;
      const answer = await engine.call("explain", { target: target ?? -1, method: asked });
      if (!isChanged) showExplanation({ ...answer, method: asked });
    }
  });
  isExplaining = false;
}

function show(answer) {
  draw(elements.image, answer.image);
  elements.image.ariaLabel = `The image ${image.name}`;
  elements.empty.hidden = true;
  elements.after.hidden = true;
  elements.legend.hidden = true;
  elements.save.disabled = true;
  for (const button of elements.samples.querySelectorAll("button")) {
    button.ariaPressed = String(button.dataset.name === image.name);
  }
  arrange();
}

function showExplanation(answer) {
  explained = answer;
  draw(elements.base, answer.base);
  draw(elements.heat, answer.colours);
  showLegend(answer);
  const { probability } = answer.predictions.find(({ index }) => index === answer.target);
  const title = `${answer.label} (${percent(probability)}) by ${words(answer.method)}`;
  elements.base.ariaLabel = `The image ${image.name} with the heatmap of ${title}`;
  elements.after.hidden = false;
  elements.save.disabled = false;
  classes.show(answer.predictions, answer.target);
  announce(`${title} in ${answer.seconds.toFixed(answer.seconds < 1 ? 2 : 1)} s`);
  arrange();
}

/** Does something that takes long; if it fails, says why. */
async function attempt(work) {
  elements.error.hidden = true;
  elements.stage.ariaBusy = "true";
  underWay++;
  try {
    await work();
  } catch (error) {
    if (!(error instanceof Stopped)) {
      announce("");
      elements.error.textContent = error.message;
      elements.error.hidden = false;
    }
  }
  underWay--;
  if (underWay) return;
  elements.stage.ariaBusy = "false";
  elements.progress.hidden = true;
}

// --- What is drawn ---

function draw(canvas, bitmap) {
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  canvas.closest("figure")?.style.setProperty("--aspect", bitmap.width / bitmap.height);
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  bitmap.close();
}

function showLegend({ bar, isSigned }) {
  draw(elements.bar, bar);
  const [lowest, highest] = isSigned ? SIGNED_ENDS : ENDS;
  elements.lowest.textContent = lowest;
  elements.highest.textContent = highest;
  elements.bar.ariaLabel = `Colours of the heatmap, from ${lowest} to ${highest}`;
  elements.legend.hidden = false;
}

/** The image alone until there is an explanation, which stands beside it if that is the view. */
function arrange() {
  elements.before.hidden = !(image && (!explained || isBeside()));
}

function isBeside() {
  return document.querySelector("[name=view]:checked").value === "beside";
}

function showOpacity() {
  for (const layer of [elements.heat, elements.bar]) layer.style.opacity = elements.opacity.value / 100;
  elements.percent.textContent = `${elements.opacity.value}\u00a0%`;
}

let stage; // of the progress, told to screen readers when it changes

function showProgress({ stage: next, loaded, total }) {
  elements.progress.hidden = false;
  if (loaded && total) {
    elements.progress.value = loaded / total;
    elements.status.dataset.detail = `${megabytes(loaded)} of ${megabytes(total)}`;
  } else {
    elements.progress.removeAttribute("value");
    delete elements.status.dataset.detail;
  }
  if (stage !== next) elements.status.textContent = `${next} …`;
  stage = next;
}

function announce(text) {
  stage = undefined;
  delete elements.status.dataset.detail;
  elements.status.textContent = text;
}

function listMethods() {
  elements.methods.replaceChildren(
    ...model.methods.map(({ name, summary }) => {
      const label = document.createElement("label");
      const [input, title, text] = ["input", "strong", "span"].map((tag) => document.createElement(tag));
      Object.assign(input, { type: "radio", name: "method", value: name, checked: name === method });
      title.textContent = words(name);
      text.textContent = summary;
      label.append(input, title, text);
      return label;
    })
  );
}

function words(name) {
  return name.replaceAll("_", " ");
}

function megabytes(bytes) {
  return `${(bytes / 1e6).toFixed(1)}\u00a0MB`;
}

// --- What the user does ---

async function save() {
  await attempt(async () => {
    const opacity = elements.opacity.value / 100;
    const { file } = await engine.call("save", { opacity, isBeside: isBeside() });
    const link = document.createElement("a");
    link.href = URL.createObjectURL(file);
    const name = [image.name, model.name, explained.method, explained.label].join(".");
    link.download = `${name.replace(/[^\p{L}\p{N}_.-]+/gu, "_")}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), LONG);
  });
}

/** Takes the first image among files that were dropped, pasted or chosen; of others the decoder says what is wrong. */
function take(files) {
  const file = [...files].find(({ type }) => type.startsWith("image/")) ?? files[0];
  if (file) readImage({ name: file.name, file });
}

async function takeSample(sample) {
  await attempt(async () => {
    const response = await fetch(sample.file);
    if (!response.ok) throw new Error(`cannot fetch ${sample.file}: ${response.status}`);
    await readImage({ name: sample.name, file: await response.blob() });
  });
}

function listen() {
  elements.file.addEventListener("change", () => {
    take(elements.file.files);
    elements.file.value = ""; // so that the same file can be chosen again
  });
  elements.model.addEventListener("change", () => openModel(models[elements.model.value]));
  elements.methods.addEventListener("change", (event) => {
    method = event.target.value;
    explain();
  });
  elements.opacity.addEventListener("input", showOpacity);
  elements.save.addEventListener("click", save);
  for (const view of document.querySelectorAll("[name=view]")) view.addEventListener("change", arrange);

  addEventListener("paste", ({ clipboardData }) => take(clipboardData.files));
  addEventListener("dragover", (event) => {
    event.preventDefault();
    elements.drop.hidden = false;
  });
  addEventListener("dragleave", ({ relatedTarget }) => {
    if (!relatedTarget) elements.drop.hidden = true;
  });
  addEventListener("drop", (event) => {
    event.preventDefault();
    elements.drop.hidden = true;
    take(event.dataTransfer.files);
  });
}

function listSamples() {
  elements.samples.hidden = !samples.length;
  elements.samples.append(
    ...samples.map((sample) => {
      const [item, button, thumbnail] = ["li", "button", "img"].map((tag) => document.createElement(tag));
      Object.assign(button, { type: "button", ariaPressed: "false" });
      button.dataset.name = sample.name;
      button.addEventListener("click", () => takeSample(sample));
      Object.assign(thumbnail, { src: sample.file, alt: `Sample ${sample.name}` });
      button.append(thumbnail);
      item.append(button);
      return item;
    })
  );
}

elements.models.hidden = models.length === 1;
elements.model.append(...models.map(({ name }, index) => new Option(name, index)));
listSamples();
listen();
showOpacity();
openModel(models[0]);
if (samples.length) takeSample(samples[0]);
