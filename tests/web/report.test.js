/** The report of `explain` in Chromium, opened from its folder without a server, against its own CSV file. */

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import test, { after, before } from "node:test";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

import { FOLDER, readBytes } from "./support.js";

const FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync"];
const CARDS = "#gallery button";
const rows = readCsv(readBytes("report/results.csv").toString());
const legrad = rows.filter(({ method }) => method === "legrad"); // the first method is the one shown
let browser;
let profile;

before(async () => {
  profile = mkdtempSync(join(tmpdir(), "chromium-"));
  browser = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM || "/usr/bin/chromium", args: FLAGS, viewport: { width: 1280, height: 900 },
  });
});

after(async () => {
  await browser?.close();
  rmSync(profile, { recursive: true, force: true });
});

function readCsv(text) {
  const [names, ...lines] = [...text.matchAll(/(?:"(?:[^"]|"")*"|[^"\n])+/g)].map(([line]) => (
    [...`,${line}`.matchAll(/,("(?:[^"]|"")*"|[^,]*)/g)].map(([, cell]) => (
      cell.startsWith('"') ? cell.slice(1, -1).replaceAll('""', '"') : cell
    ))
  ));
  return lines.map((cells) => Object.fromEntries(cells.map((cell, at) => [names[at], cell])));
}

/** Opens a report; notes what the console says, what the policy forbids, and what is asked for. `change`: of the page. */
async function open(report = "report", change = null) {
  const page = await browser.newPage();
  const noted = { console: [], requests: [] };
  page.on("console", (message) => noted.console.push(message.text()));
  page.on("pageerror", (error) => noted.console.push(String(error)));
  page.on("request", (request) => noted.requests.push(request.url()));
  await page.addInitScript(() => {
    addEventListener("securitypolicyviolation", ({ violatedDirective }) => console.error(violatedDirective));
  });
  const address = pathToFileURL(resolve(FOLDER, report, "index.html")).href;
  if (change) {
    const body = change(readBytes(`${report}/index.html`).toString());
    await page.route(address, (route) => route.fulfill({ body, contentType: "text/html" }));
  }
  await page.goto(address);
  await page.locator(CARDS).first().waitFor();
  return { page, noted };
}

/** A change of a page: of the numbers in it. */
function withData(change) {
  return (text) => text.replace(/(id="data">)(.*?)(<\/script>)/s, (_, head, json, tail) => {
    const data = JSON.parse(json);
    change(data);
    return head + JSON.stringify(data).replaceAll("<", "\\u003c") + tail;
  });
}

/** The cards in the order of their places, as the lines of text on them. */
async function cards(page) {
  return page.locator(CARDS).evaluateAll((found) => found.map((card) => [...card.children].map((each) => each.textContent)));
}

const percent = (share) => `${(100 * share).toFixed(1)} %`.replace("100.0", ">99.9");

/** Waits until the page shows these rows, in this order, as far as cards are in view; and that it says so. */
async function shows(page, expected, what) {
  const pictures = new Set(expected.map(({ image }) => image)).size;
  const text = `${pictures} of ${legrad.length} images · ${expected.length} map`;
  await page.locator("#count", { hasText: text }).waitFor({ timeout: 3000 }).catch(async () => {
    assert.fail(`${what}: "${await page.locator("#count").textContent()}" in place of "${text}"`);
  });
  const shown = await cards(page);
  assert.ok(shown.length >= Math.min(expected.length, 8), what);
  const heights = await page.locator(CARDS).evaluateAll((found) => found.map((card) => card.offsetHeight));
  assert.equal(new Set(heights).size, 1, what); // rows are placed by it
  shown.forEach(([, label, truth, name], at) => {
    const row = expected[at];
    assert.equal(label, row.label + percent(row.probability), what);
    assert.equal(truth, { "": "", true: "✓ right", false: `✗ true: ${row.true_label}` }[row.right], what);
    assert.ok(row.image.endsWith(`/pictures/${name}`), what);
  });
}

test("it opens from its folder and shows what the CSV file holds, and nothing is asked of any server", async () => {
  const { page, noted } = await open();
  await shows(page, legrad, "at the start");
  const known = legrad.filter(({ right }) => right);
  const right = known.filter((row) => row.right === "true").length;
  const told = await page.locator("#count").textContent();
  assert.ok(told.endsWith(`${right} of ${known.length} predicted rightly (${percent(right / known.length)})`), told);
  await page.waitForFunction((selector) => (
    [...document.querySelectorAll(`${selector} img`)].slice(0, 8).every((image) => image.naturalWidth > 100)
  ), CARDS);
  const folder = pathToFileURL(resolve(FOLDER, "report")).href;
  assert.ok(noted.requests.length > 8 && noted.requests.every((url) => url.startsWith(`${folder}/`)));
  assert.deepEqual(noted.console, []);

  const forbidden = await page.evaluate(async () => {
    const image = new Image();
    const loaded = new Promise((done) => ([image.onload, image.onerror] = [() => done("yes"), () => done("no")]));
    image.src = "http://127.0.0.1:9/x.png";
    return [await loaded, await fetch("http://127.0.0.1:9/").then(() => "yes", () => "no")];
  });
  assert.deepEqual(forbidden, ["no", "no"]);
  for (const directive of ["img-src", "connect-src"]) { // by the policy, whether there is a network or not
    while (!noted.console.includes(directive)) await page.waitForEvent("console", { timeout: 3000 });
  }
  await page.close();
});

test("each filter leaves the rows of the CSV file that it should, and each order is one of them", async () => {
  const { page } = await open();
  const reset = () => page.getByRole("button", { name: "Reset" }).click();
  const { predicted_label: predicted, true_label: truth } = legrad.find(({ right }) => right === "false");
  const filters = {
    predicted: [() => page.getByLabel("Predicted class").fill(predicted.toUpperCase()), (row) => row.predicted_label === predicted],
    "predicted, by index": [() => page.getByLabel("Predicted class").fill(legrad[0].predicted), (row) => row.predicted === legrad[0].predicted],
    "predicted, a part": [() => page.getByLabel("Predicted class").fill("e"), (row) => row.predicted_label.includes("e")],
    true: [() => page.getByLabel("True class").fill(truth), (row) => row.true_label === truth],
    right: [() => page.getByLabel("right", { exact: true }).check({ force: true }), (row) => row.right === "true"],
    wrong: [() => page.getByLabel("wrong", { exact: true }).check({ force: true }), (row) => row.right === "false"],
    least: [() => page.getByLabel("at least").fill("95.5"), (row) => row.probability >= 0.955],
    most: [() => page.getByLabel("at most").fill("95.5"), (row) => row.probability <= 0.955],
    name: [() => page.getByLabel("Image’s name").fill("IMG1"), (row) => row.image.includes("img1")],
    method: [() => page.getByLabel("Method").selectOption("rollout"), (row) => row.method === "rollout", rows],
    methods: [() => page.getByLabel("Method").selectOption("all"), () => true, rows],
  };
  for (const [what, [fill, keeps, all = legrad]] of Object.entries(filters)) {
    const expected = all.filter(keeps);
    assert.ok(expected.length > 0 && (expected.length < legrad.length || all === rows), what);
    await fill();
    await shows(page, expected, what);
    await reset();
    await shows(page, legrad, `after ${what}`);
  }
  await filters.true[0]();
  await filters.wrong[0]();
  await shows(page, legrad.filter((row) => row.true_label === truth && row.right === "false"), "both");
  await reset();
  const by = (key) => [...legrad].sort((one, other) => key(one) - key(other));
  const number = (row) => +/(\d+)\.png/.exec(row.image)[1];
  const folder = (row) => ["seven", "unknown", "zero"].indexOf(row.image.split("/").at(-2));
  for (const [order, expected] of Object.entries({
    high: by((row) => -row.probability), low: by((row) => +row.probability), name: by((row) => 100 * folder(row) + number(row)),
  })) {
    await page.getByLabel("Sort by").selectOption(order);
    await shows(page, expected, order);
  }
  await page.getByLabel("Sort by").selectOption("true");
  const truths = (await cards(page)).map(([, , , name]) => name.split("/")[0]);
  assert.deepEqual(truths, [...truths].sort((one, other) => (one === "unknown") - (other === "unknown") || one.localeCompare(other)));
  await page.getByLabel("Predicted class").fill("nothing of the kind");
  await page.locator("#count", { hasText: "0 of" }).waitFor();
  assert.equal(await page.locator(CARDS).count(), 0);
  await page.close();
});

test("everything can be done with the keyboard", async () => {
  const { page, noted } = await open();
  const press = async (key, times = 1) => {
    for (let time = 0; time < times; time++) await page.keyboard.press(key);
  };
  const focused = () => page.evaluate(() => document.activeElement.closest("li")?.ariaPosInSet ?? document.activeElement.id);
  await press("Tab", 2); // past the summary
  assert.equal(await focused(), "predicted");
  for (let time = 0; time < 20 && (await focused()) !== "reset"; time++) await press("Tab");
  await press("Tab");
  assert.equal(await focused(), "1");
  const columns = await page.locator(CARDS).evaluateAll((found) => (
    found.filter((card) => card.getBoundingClientRect().top === found[0].getBoundingClientRect().top).length
  ));
  assert.ok(columns > 2);
  await press("ArrowDown", 3);
  assert.equal(await focused(), `${1 + 3 * columns}`);
  await press("ArrowUp");
  await press("ArrowRight");
  await press("ArrowLeft", 2);
  assert.equal(await focused(), `${2 * columns}`);
  await press("End");
  assert.equal(await focused(), `${legrad.length}`);
  const box = await page.locator(":focus").boundingBox();
  assert.ok(box.y >= 0 && box.y + box.height <= 900);
  await press("Home");
  await press("ArrowRight", 2);
  await press("Enter");
  const viewer = page.getByRole("dialog");
  await viewer.waitFor();
  const seen = () => viewer.locator("#place").textContent();
  assert.equal(await seen(), `3 of ${legrad.length}`);
  await press("ArrowRight");
  assert.equal(await seen(), `4 of ${legrad.length}`);
  for (const [name, column] of [["map", "map"], ["image", "image_file"]]) {
    assert.ok((await viewer.locator(`#${name}`).getAttribute("src")).endsWith(legrad[3][column]));
    await page.waitForFunction((id) => document.getElementById(id).naturalWidth >= 384, name);
  }
  const facts = await viewer.locator("#facts").textContent();
  const { target, label, x, y, score, true: truth, true_label: trueLabel, right, probability } = legrad[3];
  for (const fact of [`${label} (class ${target})`, `pixel x ${x}, y ${y}`, (+score).toFixed(3), "legrad", `${trueLabel} (class ${truth})`]) {
    assert.ok(facts.includes(fact), fact);
  }
  const judged = right === "true" ? "✓ right" : `✗ true: ${trueLabel}`;
  assert.equal(await viewer.locator("#title").textContent(), `${label} ${percent(probability)} ${judged}`);
  const [first] = await viewer.locator("#predictions tr").allInnerTexts();
  assert.equal(first.replace(/\s+/g, " "), `${legrad[3].predicted_label} ${percent(legrad[3].predicted_probability)}`);
  for (let time = 0; time < 8; time++) { // the focus stays in the viewer
    await press("Tab");
    assert.ok(await page.evaluate(() => document.activeElement === document.body || document.activeElement.closest("dialog")));
  }
  await press("End");
  assert.equal(await seen(), `${legrad.length} of ${legrad.length}`);
  await press("ArrowRight");
  assert.equal(await seen(), `${legrad.length} of ${legrad.length}`);
  await press("ArrowLeft");
  await press("Escape");
  assert.ok(await viewer.isHidden());
  // The dialog gives the focus back to what had it; its close event, which moves it on, comes in a later task.
  await page.waitForFunction((place) => document.activeElement.closest("li")?.ariaPosInSet === place, `${legrad.length - 1}`);
  assert.deepEqual(noted.console, []);
  await page.close();
});

test("a click enlarges, and beside the viewer closes it", async () => {
  const { page } = await open();
  await page.locator(CARDS).nth(1).click();
  const viewer = page.getByRole("dialog");
  await page.getByRole("button", { name: "Next image" }).click();
  assert.equal(await viewer.locator("#place").textContent(), `3 of ${legrad.length}`);
  await page.getByRole("button", { name: "Previous image" }).click();
  await page.getByRole("button", { name: "Previous image" }).click();
  assert.equal(await viewer.locator("#place").textContent(), `1 of ${legrad.length}`);
  assert.ok(await page.getByRole("button", { name: "Previous image" }).isDisabled());
  await page.mouse.click(5, 5);
  assert.ok(await viewer.isHidden());
  await page.locator(CARDS).nth(0).click();
  await page.getByRole("button", { name: "Close" }).click();
  assert.ok(await viewer.isHidden());
  await page.close();
});

test("of twenty thousand images only those in view are in the document", async () => {
  const many = 20000;
  const { page } = await open("report", withData((data) => {
    const [first] = data.images;
    data.images = Array.from({ length: many }, (_, at) => [`a${at}.png`, ...first.slice(1)]);
    data.maps = data.images.map((_, at) => [at, 0, 0, ...data.maps[0].slice(3)]);
  }));
  const last = page.getByRole("button", { name: `a${many - 1}.png` });
  assert.ok((await page.locator(CARDS).count()) < 100);
  await page.evaluate(() => scrollTo(0, document.documentElement.scrollHeight));
  await last.waitFor();
  assert.ok((await page.locator(CARDS).count()) < 100);
  await page.getByLabel("Image’s name").fill("a1999");
  await page.locator("#count", { hasText: `11 of ${many} images` }).waitFor();
  assert.deepEqual((await cards(page)).map(([, , , name]) => name).slice(0, 2), ["a1999.png", "a19990.png"]);
  assert.ok(await page.getByRole("button", { name: "a1999.png" }).isVisible());
  await page.close();
});

test("where another class is explained, what is predicted and what is true have a line each", async () => {
  const { page, noted } = await open("report", withData((data) => {
    const explained = data.maps.find(([at]) => data.images[at][1] !== null && data.images[at][1] !== data.images[at][2][0][0]);
    explained[3] = data.images[explained[0]][1]; // the true class of an image that is predicted wrongly
  }));
  const shown = (await cards(page)).map(([, , ...lines]) => lines.slice(0, 2));
  assert.equal(shown.filter(([first, second]) => /^✗ predicted: \w+$/.test(first) && /^true: \w+$/.test(second)).length, 1);
  assert.ok(shown.some(([first, second]) => first === "✓ right" && second === ""));
  const heights = await page.locator(CARDS).evaluateAll((found) => found.map((card) => card.offsetHeight));
  assert.equal(new Set(heights).size, 1);
  assert.deepEqual(noted.console, []);
  await page.close();
});

test("hostile labels and names are text", async () => {
  const { page, noted } = await open("hostile");
  const hostile = readCsv(readBytes("hostile/results.csv").toString());
  await page.locator(CARDS).nth(3).waitFor();
  const shown = await cards(page);
  assert.deepEqual(shown.map(([, label]) => label), hostile.map((row) => row.label + percent(row.probability)));
  const words = hostile.map((row) => (row.target === row.predicted ? "" : `predicted: ${row.predicted_label}`));
  assert.deepEqual(shown.map(([, , verdict]) => verdict), words);
  assert.ok(words.some((text) => text));
  await page.locator(CARDS).nth(1).click();
  assert.ok((await page.locator("#title").textContent()).startsWith("<img src=x onerror="));
  assert.equal(await page.locator("b b, dialog img").count(), 2);
  assert.equal(await page.title(), "Where <b>x</b> looks");
  await page.keyboard.press("Escape");
  await page.getByLabel("Explained class").fill("</SCRIPT>");
  await page.locator("#count", { hasText: "2 of 2 images · 2 maps" }).waitFor();
  assert.deepEqual(noted.console, []);
  await page.close();
});

test("every control has a name", async () => {
  const { page } = await open();
  const session = await page.context().newCDPSession(page);
  const named = async () => {
    const { nodes } = await session.send("Accessibility.getFullAXTree");
    const wanted = new Set(["button", "combobox", "dialog", "image", "list", "radio", "searchbox", "spinbutton", "group"]);
    const found = nodes.filter(({ ignored, role }) => !ignored && wanted.has(role?.value));
    assert.deepEqual(found.filter(({ name }) => !name?.value).map(({ role }) => role.value), []);
    return { roles: new Set(nodes.map(({ role }) => role?.value)), names: found.map(({ name }) => name.value) };
  };
  const { roles, names } = await named();
  for (const role of ["button", "combobox", "list", "radio", "searchbox", "spinbutton", "status"]) assert.ok(roles.has(role), role);
  const { image, label, probability } = legrad[0];
  assert.ok(names.some((name) => name.startsWith(`${image}, ${label} ${percent(probability)}, `)));
  await page.locator(CARDS).first().click();
  const opened = await named();
  for (const role of ["dialog", "image"]) assert.ok(opened.roles.has(role), role);
  await page.close();
});

for (const scheme of ["light", "dark"]) {
  test(`nothing is cut off in a narrow window, and all text can be read (${scheme})`, async () => {
    const { page } = await open();
    await page.emulateMedia({ colorScheme: scheme, reducedMotion: "reduce" });
    await page.setViewportSize({ width: 360, height: 740 });
    for (const seen of [() => {}, () => page.locator(CARDS).first().click()]) {
      await seen();
      await page.waitForFunction(() => document.documentElement.scrollWidth === 360, null, { timeout: 3000 });
      const low = await page.evaluate(lowContrast);
      assert.deepEqual(low, []);
    }
    const [red] = await page.evaluate(() => getComputedStyle(document.body).backgroundColor.match(/\d+/g).map(Number));
    assert.equal(red > 128, scheme === "light");
    await page.close();
  });
}

/** Texts whose contrast is below 4.5 to 1, as WCAG 2 computes it; runs in the page. */
function lowContrast() {
  const channels = (colour) => colour.match(/[\d.]+/g).map(Number);
  const luminance = (colour) => channels(colour).slice(0, 3).reduce((sum, value, at) => {
    const share = value / 255;
    return sum + [0.2126, 0.7152, 0.0722][at] * (share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4);
  }, 0);
  const behind = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const { backgroundColor } = getComputedStyle(each);
      if (channels(backgroundColor)[3] !== 0) return backgroundColor;
    }
    return "rgb(255, 255, 255)";
  };
  const low = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
    if (!own || !element.checkVisibility() || element.closest("script, datalist, :disabled")) continue;
    const [one, other] = [luminance(getComputedStyle(element).color), luminance(behind(element))];
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (ratio < 4.5) low.push(`${element.textContent.trim().slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return low;
}
