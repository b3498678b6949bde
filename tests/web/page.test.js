/** The page in Chromium, used as a person would, under its own content security policy. */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { after, before } from "node:test";
import { chromium } from "playwright-core";

import { readPng } from "./png.js";
import { sendTheRest, serveSites, stopServing } from "./sites.js";
import { FOLDER, limit, readFloats, readJson, relativeError } from "./support.js";

const FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const NAMED = new Set(["button", "checkbox", "combobox", "image", "link", "progressbar", "radio", "searchbox", "slider",
  "table", "textbox", "group", "region", "list"]);

const cases = readJson("explanations.json");
let origin;
let browser;
let profile;

before(async () => {
  origin = await serveSites();
  profile = mkdtempSync(join(tmpdir(), "chromium-"));
  browser = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM || "/usr/bin/chromium", args: FLAGS, viewport: { width: 1280, height: 900 },
  });
});

after(async () => {
  await browser?.close();
  stopServing();
  rmSync(profile, { recursive: true, force: true });
});

/** Opens a page, and notes what the console says, what the policy forbids, and what is asked of any server. */
async function open(site) {
  const page = await browser.newPage();
  const noted = { console: [], requests: [] };
  page.on("console", (message) => noted.console.push(message.text()));
  page.on("pageerror", (error) => noted.console.push(String(error)));
  page.on("request", (request) => noted.requests.push([request.method(), request.url()]));
  await page.addInitScript(() => {
    addEventListener("securitypolicyviolation", ({ violatedDirective }) => console.error(violatedDirective));
  });
  await page.goto(`${origin}/${site}/index.html`);
  return { page, noted };
}

/** Waits until the line of status says so. */
async function says(page, text) {
  await page.locator("#status", { hasText: text }).waitFor({ timeout: 30000 });
}

async function drop(page, bytes, name, type) {
  await page.evaluate(([values, name, type]) => {
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File([Uint8Array.from(values)], name, { type }));
    for (const kind of ["dragover", "drop"]) dispatchEvent(new DragEvent(kind, { dataTransfer, cancelable: true }));
  }, [[...bytes], name, type]);
}

async function paste(page, bytes, name) {
  await page.evaluate(([values, name]) => {
    const clipboardData = new DataTransfer();
    clipboardData.items.add(new File([Uint8Array.from(values)], name, { type: "image/png" }));
    dispatchEvent(new ClipboardEvent("paste", { clipboardData }));
  }, [[...bytes], name]);
}

async function savedImage(page) {
  const button = page.getByRole("button", { name: "Save" });
  const [download] = await Promise.all([page.waitForEvent("download"), button.click()]);
  const path = join(profile, "saved.png");
  await download.saveAs(path);
  return { name: download.suggestedFilename(), image: readPng(path) };
}

function overlayOf(image, method, target) {
  const found = cases.find((each) => each.image === image && each.method === method && each.target === target);
  return readPng(`${FOLDER}/${found.overlay}`).data;
}

function bytesOff(found, expected) {
  return found.length === expected.length ? expected.filter((value, at) => value !== found[at]).length : Infinity;
}

test("a person drops a file, clicks a class, changes the method, saves", async () => {
  const { page, noted } = await open("own");
  await says(page, "by transformer attribution"); // of the first sample
  assert.equal(await page.getByRole("button", { name: "Sample scene-0" }).getAttribute("aria-pressed"), "true");

  await drop(page, await readFile(`${FOLDER}/wide.png`), "wide.png", "image/png");
  await page.getByLabel("The image wide.png with the heatmap").waitFor();
  await page.getByRole("button", { name: "one", exact: true }).click();
  await says(page, "one (");
  await page.getByRole("radio", { name: "legrad" }).check({ force: true });
  await says(page, "by legrad");
  assert.equal(await page.getByRole("button", { name: "one", exact: true }).getAttribute("aria-pressed"), "true");
  const shown = await page.locator("#base").getAttribute("aria-label");
  assert.match(shown, /^The image wide.png with the heatmap of one \(\d+\.\d\s%\) by legrad$/);

  const saved = await savedImage(page);
  assert.equal(saved.name, "wide.png.several.legrad.one.png");
  assert.ok(bytesOff(saved.image.data, overlayOf("wide.png", "legrad", "one")) < 20);

  await page.getByText("Side by side").click();
  assert.ok(await page.locator("#image").isVisible());
  const beside = await savedImage(page);
  assert.deepEqual([beside.image.width, beside.image.height], [502, 140]);

  await page.getByLabel("Model", { exact: true }).selectOption("one");
  await says(page, "by legrad");
  await paste(page, await readFile(`${FOLDER}/square.png`), "square.png");
  await page.getByLabel("The image square.png with the heatmap").waitFor();
  await page.getByLabel("Choose an image").setInputFiles(`${FOLDER}/wide.png`);
  await page.getByLabel("The image wide.png with the heatmap").waitFor();

  assert.deepEqual(noted.console, []);
  const isOwn = ([method, url]) => method === "GET" && (url.startsWith(origin) || url.startsWith("blob:"));
  assert.ok(noted.requests.every(isOwn));
  await page.close();
});

for (const [method, ends, colours] of [
  ["legrad", "less\nmore", [[0, 0, 0, 0], [241, 225, 62, 255]]], // ends of the palette, the lower one transparent
  ["attnlrp", "against\nfor", [[59, 76, 192, 255], [180, 4, 38, 255]]],
]) {
  test(`what is on the screen is the overlay, and the legend has its colours (${method})`, async () => {
    const { page } = await open("own");
    await says(page, "by transformer attribution");
    await page.getByLabel("Choose an image").setInputFiles(`${FOLDER}/wide.png`);
    await page.getByLabel("The image wide.png with the heatmap").waitFor();
    await page.getByRole("radio", { name: method }).check({ force: true });
    await says(page, `by ${method}`);
    const isWanted = (each) => each.image === "wide.png" && each.method === method && each.target === -1;
    const { overlay, faint } = cases.find(isWanted);
    for (const [file, opacity] of [[overlay], [faint.file, faint.opacity]]) {
      if (opacity) await page.getByRole("slider").fill(String(100 * opacity));
      const shown = await page.evaluate(drawnLayers);
      const isOff = (value, at) => Math.abs(value - shown[at]) > 2; // a canvas has colours times their opacity, rounded
      const off = readPng(`${FOLDER}/${file}`).data.filter(isOff).length;
      assert.ok(off < 20, `${file}: ${off} bytes`);
    }
    assert.equal(await page.locator("#legend").innerText(), ends);
    const pixels = (canvas) => [...canvas.getContext("2d").getImageData(0, 0, 256, 1).data];
    const bar = await page.locator("#bar").evaluate(pixels);
    assert.deepEqual([bar.slice(0, 4), bar.slice(-4)], colours);
    assert.equal(bar[4 * 128 + 3] === 0, method === "attnlrp"); // zero is transparent
    await page.close();
  });
}

/** In the page: the bytes of the layers, laid over each other as the browser does. */
function drawnLayers() {
  const [base, heat] = ["base", "heat"].map((id) => document.getElementById(id));
  const context = new OffscreenCanvas(base.width, base.height).getContext("2d");
  context.drawImage(base, 0, 0);
  context.globalAlpha = getComputedStyle(heat).opacity;
  context.drawImage(heat, 0, 0);
  return [...context.getImageData(0, 0, base.width, base.height).data];
}

test("while the model loads the page says how far it is, and takes an image", async () => {
  const { page, noted } = await open("slow");
  const progress = page.getByRole("progressbar");
  await says(page, "Loading the model …");
  await page.waitForFunction(() => /^[\d.]+\sMB of [\d.]+\sMB$/.test(document.getElementById("status").dataset.detail));
  assert.equal((await progress.evaluate(({ value }) => value)).toFixed(1), "0.5");
  await page.getByLabel("Choose an image").setInputFiles(`${FOLDER}/wide.png`);
  await page.getByLabel("The image wide.png").waitFor();
  sendTheRest();
  await says(page, "by transformer attribution");
  await page.getByLabel("The image wide.png with the heatmap").waitFor();
  assert.ok(await progress.isHidden());
  assert.deepEqual(noted.console, []);
  await page.close();
});

test("among many classes one is found by a part of its name", async () => {
  const { page } = await open("own");
  await says(page, "by transformer attribution");
  await page.evaluate(async () => {
    const { Classes } = await import("./classes.js");
    const label = (index) => `class ${String(index).padStart(3, "0")}`;
    const prediction = (_, index) => ({ index, label: label(index), probability: 0.001 });
    const predictions = Array.from({ length: 1000 }, prediction);
    new Classes((index) => (document.title = label(index))).show(predictions, 700);
  });
  const rows = () => page.locator("#classes button").allInnerTexts();
  assert.equal((await rows()).at(-1), "class 700"); // what is explained is always listed
  await page.getByText("and 989 more").waitFor();
  await page.getByLabel("Find a class").fill("S 99");
  assert.deepEqual(await rows(), Array.from({ length: 10 }, (_, index) => `class 99${index}`));
  await page.getByRole("button", { name: "class 995" }).click();
  assert.equal(await page.title(), "class 995");
  await page.getByLabel("Find a class").fill("eleven");
  await page.getByText("no class has that in its name").waitFor();
  await page.close();
});

test("everything can be done with the keyboard", async () => {
  const { page, noted } = await open("own");
  await says(page, "by transformer attribution");
  const press = async (key, times = 1) => {
    for (let time = 0; time < times; time++) await page.keyboard.press(key);
  };
  const focused = () => page.evaluate(() => document.activeElement.labels?.[0]?.innerText ??
    document.activeElement.getAttribute("aria-label") ?? document.activeElement.innerText ?? "");
  const tabTo = async (wanted) => {
    for (let time = 0; time < 40 && !wanted.test(await focused()); time++) await press("Tab");
    assert.match(await focused(), wanted);
  };
  await tabTo(/^Overlay/);
  await press("ArrowRight");
  assert.ok(await page.locator("#image").isVisible());
  await tabTo(/^Opacity/);
  await press("Home");
  assert.equal(await page.locator("#heat").evaluate((canvas) => getComputedStyle(canvas).opacity), "0");
  await tabTo(/^Save/);
  await tabTo(/^Choose an image/);
  await tabTo(/^(seven|five)/);
  const first = await focused();
  await press("ArrowDown");
  const second = await focused();
  assert.notEqual(first, second);
  await press("Enter");
  await says(page, `${second} (`);
  assert.equal(await focused(), second);
  await tabTo(/^Model/);
  await tabTo(/^transformer attribution/);
  await press("ArrowDown");
  await says(page, `${second} (`);
  await says(page, "by legrad");
  assert.deepEqual(noted.console, []);
  await page.close();
});

test("every control has a name, and results are told", async () => {
  const { page } = await open("own");
  await says(page, "by transformer attribution");
  await page.getByText("Side by side").click();
  const session = await page.context().newCDPSession(page);
  const { nodes } = await session.send("Accessibility.getFullAXTree");
  const controls = nodes.filter(({ ignored, role }) => !ignored && NAMED.has(role?.value));
  assert.deepEqual(controls.filter(({ name }) => !name?.value).map(({ role }) => role.value), []);
  const roles = new Set(controls.map(({ role }) => role.value));
  for (const role of ["button", "radio", "slider", "combobox", "image", "table"]) assert.ok(roles.has(role), role);
  assert.ok(nodes.some(({ role }) => role?.value === "status"));
  const headings = nodes.filter(({ role }) => role?.value === "heading");
  assert.equal(headings[0].name.value, "Where does the model look?");
  await page.close();
});

test("what is no image is refused in one line, and the page goes on", async () => {
  const { page, noted } = await open("own");
  await says(page, "by transformer attribution");
  await drop(page, Buffer.from("no image"), "notes.txt", "text/plain");
  const alert = page.getByRole("alert");
  await alert.waitFor();
  assert.equal(await alert.textContent(), "notes.txt is not an image that this browser can read, or it is damaged");
  await page.getByRole("button", { name: "Sample scene-2" }).click();
  await page.getByLabel("The image scene-2 with the heatmap").waitFor();
  assert.ok(await alert.isHidden());
  assert.deepEqual(noted.console, []);
  await page.close();
});

test("the module reads PNG files in Chromium as in Python", async () => {
  const { page } = await open("own");
  for (const expected of cases.filter(({ artifact, target }) => artifact === "several.onnx" && target === -1)) {
    const found = await page.evaluate(async ({ image, method, artifact }) => {
      const { Explainer, readImage } = await import("./onnxplain.js");
      const ort = await import("./onnxruntime-web/ort.wasm.bundle.min.mjs");
      ort.env.wasm.wasmPaths = { wasm: new URL("onnxruntime-web/ort-wasm-simd-threaded.wasm", location).href };
      globalThis.explainer ??= await Explainer.open(`models/${artifact}`, { ort });
      const file = await (await fetch(`../${image}`)).blob();
      const { heatmap, target } = await globalThis.explainer.explain(await readImage(file), { method });
      return { heatmap: [...heatmap], target };
    }, expected);
    assert.equal(found.target, expected.index);
    const error = relativeError(found.heatmap, readFloats(expected.heatmap));
    assert.ok(error <= limit(expected), `${expected.image} ${expected.method}: ${error}`);
  }
  await page.close();
});

test("onnxruntime-web from elsewhere is the file that was pinned, or is not run", async () => {
  const good = await open("cdn");
  await says(good.page, "by legrad");
  assert.deepEqual(good.noted.console, []);
  assert.equal(good.noted.requests.filter(([, url]) => /cdn\/ort[^/]*$/.test(url)).length, 2);
  await good.page.close();

  const changed = await open("changed");
  const alert = changed.page.getByRole("alert");
  await alert.waitFor();
  assert.match(await alert.textContent(), /^cannot fetch http\S+\.mjs: /);
  await changed.page.close();
});

test("the integrity is that of the pinned package", async () => {
  const { version, address, script, wasm, integrity } = JSON.parse(await readFile("../../web/onnxruntime-web.json"));
  const { devDependencies } = JSON.parse(await readFile("package.json"));
  assert.equal(version, devDependencies["onnxruntime-web"]);
  assert.ok(address.includes(`onnxruntime-web@${version}/`));
  for (const [file, expected] of [[script, integrity.script], [wasm, integrity.wasm]]) {
    const body = await readFile(`node_modules/onnxruntime-web/dist/${file}`);
    assert.equal(`sha384-${createHash("sha384").update(body).digest("base64")}`, expected);
  }
});

for (const scheme of ["light", "dark"]) {
  test(`nothing is cut off in a narrow window (${scheme})`, async () => {
    const { page } = await open("own");
    await page.emulateMedia({ colorScheme: scheme, reducedMotion: "reduce" });
    await page.setViewportSize({ width: 360, height: 740 });
    await says(page, "by transformer attribution");
    for (const view of ["Overlay", "Side by side"]) {
      await page.getByText(view).click();
      assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360);
    }
    const [red] = await page.evaluate(() => getComputedStyle(document.body).backgroundColor.match(/\d+/g).map(Number));
    assert.equal(red > 128, scheme === "light");
    await page.close();
  });
}
