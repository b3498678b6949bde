/** The page of `onnxplain serve` in Chromium, with the service computing: without Ray, in Python's tests.helpers.service. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import test, { after, before } from "node:test";
import { chromium } from "playwright-core";

import { readPng } from "./png.js";
import { FOLDER, readJson } from "./support.js";

const FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync"];

let service;
let origin;
let browser;
let profile;

before(async () => {
  const artifacts = ["one", "several"].map((name) => `${FOLDER}/${name}.onnx`);
  service = spawn(".venv/bin/python", ["-m", "tests.helpers.service", ...artifacts, "demo/demo.onnx"], {
    cwd: "../..", stdio: ["ignore", "pipe", "inherit"],
  });
  const [line] = await once(createInterface(service.stdout), "line");
  origin = `http://127.0.0.1:${line.match(/^listening on (\d+)$/)[1]}`;
  profile = mkdtempSync(join(tmpdir(), "chromium-"));
  browser = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM || "/usr/bin/chromium", args: FLAGS, viewport: { width: 1280, height: 900 },
  });
});

after(async () => {
  await browser?.close();
  service.kill("SIGTERM");
  rmSync(profile, { recursive: true, force: true });
});

async function open() {
  const page = await browser.newPage();
  const noted = { console: [], requests: [] };
  page.on("console", (message) => noted.console.push(message.text()));
  page.on("pageerror", (error) => noted.console.push(String(error)));
  page.on("request", (request) => noted.requests.push([request.method(), new URL(request.url())]));
  await page.goto(origin);
  return { page, noted };
}

async function says(page, text) {
  await page.locator("#status", { hasText: text }).waitFor({ timeout: 30000 });
}

test("the overlay is that of Python, and only the image goes to the service", async () => {
  const { page, noted } = await open();
  await page.getByText("Images are sent to the server").waitFor();
  await page.getByLabel("Model", { exact: true }).selectOption("several");
  await page.getByLabel("Choose an image").setInputFiles(`${FOLDER}/wide.png`);
  await page.getByLabel("The image wide.png with the heatmap").waitFor();
  for (const method of ["legrad", "attnlrp", "vit_reciprocam"]) {
    await page.getByRole("radio", { name: method.replaceAll("_", " ") }).check({ force: true });
    await page.getByRole("button", { name: "one", exact: true }).click();
    await says(page, `by ${method.replaceAll("_", " ")}`);
    await says(page, "one (");
    const [download] = await Promise.all([
      page.waitForEvent("download"), page.getByRole("button", { name: "Save" }).click(),
    ]);
    const path = join(profile, "saved.png");
    await download.saveAs(path);
    const isWanted = (each) => each.artifact === "several.onnx" && each.image === "wide.png" &&
      each.method === method && each.target === "one";
    const { overlay } = readJson("explanations.json").find(isWanted);
    const [found, expected] = [readPng(path).data, readPng(`${FOLDER}/${overlay}`).data];
    const off = expected.filter((value, at) => value !== found[at]).length;
    assert.ok(found.length === expected.length && off < 20, `${method}: ${off} bytes`);
  }
  assert.deepEqual(noted.console, []);
  assert.ok(noted.requests.every(([, url]) => url.origin === origin || url.protocol === "blob:"));
  const posted = noted.requests.filter(([method]) => method === "POST");
  assert.ok(posted.length >= 3 && posted.every(([, url]) => url.pathname === "/explain"));
  await page.close();
});

test("methods that no graph holds are there, and what the service refuses is told", async () => {
  const { page } = await open();
  await page.getByLabel("Model", { exact: true }).selectOption("demo");
  await says(page, "by ");
  await page.getByRole("radio", { name: "integrated gradients" }).check({ force: true });
  await says(page, "by integrated gradients");
  assert.equal(await page.locator("#legend").innerText(), "against\nfor");
  const bytes = await readFile(`${FOLDER}/wide.png`);
  await page.route("**/explain*", (route) => route.fulfill({ status: 429, json: { error: "the queue is full" } }));
  const files = { name: "other.png", mimeType: "image/png", buffer: bytes };
  await page.getByLabel("Choose an image").setInputFiles(files);
  const alert = page.getByRole("alert");
  await alert.waitFor();
  assert.equal(await alert.textContent(), "the queue is full");
  await page.close();
});
