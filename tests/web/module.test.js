/** The module in Node: equal to the Python runtime, from the image's bytes to the overlay's. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import * as ort from "onnxruntime-web";

import { Explainer, OnnxplainError, preprocess, readMetadata } from "../../web/onnxplain.js";
import { readPng } from "./png.js";
import { FOLDER, limit, readBytes, readFloats, readJson, relativeError } from "./support.js";

const cases = readJson("explanations.json");
const opened = new Map();

async function open(artifact) {
  if (!opened.has(artifact)) opened.set(artifact, await Explainer.open(readBytes(artifact), { ort }));
  return opened.get(artifact);
}

test("preprocessing equals Python's bit for bit", () => {
  const images = new Map();
  const wrong = [];
  const listed = readJson("preprocessing.json");
  for (const { image, preprocessing, placement, pixels } of listed) {
    if (!images.has(image)) images.set(image, readPng(`${FOLDER}/${image}`));
    const found = preprocess(images.get(image), preprocessing);
    const isSame = Buffer.from(found.pixels.buffer).equals(readBytes(pixels));
    if (!isSame || JSON.stringify(found.placement) !== JSON.stringify(placement)) wrong.push({ image, preprocessing });
  }
  assert.deepEqual(wrong, []);
  assert.ok(listed.length > 700);
});

test("heatmaps, classes and overlays equal Python's", async (context) => {
  for (const expected of cases) {
    const { artifact, image, method, target } = expected;
    await context.test(`${artifact} ${image} ${method} ${target}`, async () => {
      const explainer = await open(artifact);
      const found = await explainer.explain(readPng(`${FOLDER}/${image}`), { target, method });
      assert.equal(found.target, expected.index);
      const { top, bottom, left, right } = found.seen;
      assert.deepEqual([[top, bottom], [left, right]], expected.seen);
      assert.ok(Math.abs(found.score - expected.score) < 1e-4);
      found.predictions.forEach(({ index, label, probability }, at) => {
        assert.deepEqual([index, label], expected.predictions[at].slice(0, 2));
        assert.ok(Math.abs(probability - expected.predictions[at][2]) < 1e-5);
      });
      const error = relativeError(found.heatmap, readFloats(expected.heatmap));
      assert.ok(error <= limit(expected), `${error}`);
      const drawn = found.overlay();
      const overlay = readPng(`${FOLDER}/${expected.overlay}`);
      if (limit(expected) === 1e-4) assertSameColours(drawn, overlay, isFilled(expected) ? 5e-3 : 1e-4);
    });
  }
});

/** Values at the border of two levels of colour may fall on either side: a share of the bytes. */
function assertSameColours(found, expected, share) {
  const off = bytesOff(found, expected);
  assert.ok(off <= expected.data.length * share, `${off} of ${expected.data.length} bytes differ`);
}

/** Whether the image has fewer pixels than its map over the input, the rest of which is filled: hardly, in float64. */
function isFilled({ artifact, image }) {
  return artifact === "signed.onnx" && image === "transparent.png";
}

function bytesOff(found, expected) {
  assert.equal(found.data.length, expected.data.length);
  return expected.data.filter((value, at) => value !== found.data[at]).length;
}

/** onnxruntime, but for the map, which is what Python's gave. */
function replaying(expected) {
  return { ...ort, InferenceSession: { create: async (...given) => {
    const session = await ort.InferenceSession.create(...given);
    const map = { data: readFloats(expected.given) };
    const run = async (...asked) => ({ ...(await session.run(...asked)), [`heatmap_${expected.method}`]: map });
    return { run };
  } } };
}

test("overlays of the same map are those of Python, to the byte", async () => {
  for (const expected of cases) {
    const { artifact, image, method, target, overlay, faint } = expected;
    const explainer = await Explainer.open(readBytes(artifact), { ort: replaying(expected) });
    const found = await explainer.explain(readPng(`${FOLDER}/${image}`), { target, method });
    for (const [file, options] of [[overlay, {}], [faint.file, { opacity: faint.opacity }]]) {
      assertSameColours(found.overlay(options), readPng(`${FOLDER}/${file}`), isFilled(expected) ? 5e-3 : 0);
    }
  }
});

test("several targets in one run are what single ones are", async () => {
  const explainer = await open("several.onnx");
  const image = readPng(`${FOLDER}/square.png`);
  const together = await explainer.explain(image, { target: ["five", -2], method: "legrad" });
  for (const [at, target] of ["five", -2].entries()) {
    const alone = await explainer.explain(image, { target, method: "legrad" });
    assert.equal(together[at].label, alone.label);
    assert.ok(relativeError(together[at].heatmap, alone.heatmap) < 1e-6);
  }
});

test("colours laid over the bare image are the overlay", async () => {
  const explanation = await (await open("one.onnx")).explain(readPng(`${FOLDER}/wide.png`));
  const [bare, colours, overlay] = [explanation.overlay({ opacity: 0 }), explanation.colours(), explanation.overlay()];
  for (let at = 0; at < overlay.data.length; at++) {
    const alpha = (0.85 * colours.data[at - (at % 4) + 3]) / 255;
    const mixed = at % 4 === 3 ? 255 : bare.data[at] * (1 - alpha) + colours.data[at] * alpha;
    assert.ok(Math.abs(mixed - overlay.data[at]) <= 1.5);
  }
});

test("only the flag of the method that is asked for is true", async () => {
  const fed = [];
  const spy = { ...ort, InferenceSession: { create: async (...given) => {
    const session = await ort.InferenceSession.create(...given);
    return { run: (feeds, fetches) => (fed.push(feeds), session.run(feeds, fetches)) };
  } } };
  const explainer = await Explainer.open(readBytes("several.onnx"), { ort: spy });
  await explainer.explain(readPng(`${FOLDER}/square.png`), { method: "rollout" });
  const flags = Object.entries(fed[0]).filter(([name]) => name.startsWith("with_"));
  assert.equal(flags.length, explainer.methods.length);
  for (const [name, { data, dims }] of flags) {
    assert.deepEqual([[...data], dims], [[Number(name === "with_heatmap_rollout")], [1]]);
  }
});

const image = { data: new Uint8ClampedArray(4 * 12).fill(255), width: 4, height: 3 };

for (const [what, options, message] of [
  ["a method", { method: "grad_rollout" }, /no heatmap grad_rollout .* it has: transformer_attribution, /],
  ["a label", { target: "eleven" }, /target eleven is no label .* classes 0 to 9 and the ranks -1 to -10/],
  ["an index", { target: 10 }, /target 10 is no label/],
  ["what is no target", { target: null }, /target null is no label/],
]) {
  test(`${what} that is not there is refused in one line`, async () => {
    const explainer = await open("several.onnx");
    await assert.rejects(explainer.explain(image, options), { name: "OnnxplainError", message });
  });
}

test("onnxruntime has to be given", async () => {
  for (const options of [undefined, {}, { ort: {} }]) {
    const opening = Explainer.open(new Uint8Array(100), options);
    await assert.rejects(opening, { name: "OnnxplainError", message: /^give ort/ });
  }
});

test("an image without pixels is refused", async () => {
  const explainer = await open("several.onnx");
  const nothing = { data: [], width: 0, height: 0 };
  await assert.rejects(explainer.explain(nothing), /an image must have width, height and data/);
});

test("what is no plain artifact, or a damaged one, is refused", async () => {
  const good = readBytes("one.onnx");
  const damaged = Uint8Array.from(good);
  damaged[good.length >> 1] ^= 1;
  await assert.rejects(Explainer.open(damaged, { ort }), /damaged or changed since export/);
  await assert.rejects(Explainer.open(good.subarray(0, -70), { ort }), OnnxplainError);
  const unreadable = Uint8Array.from(good);
  unreadable[good.indexOf('{"schema"')] = 0;
  await assert.rejects(Explainer.open(unreadable, { ort }), { name: "OnnxplainError", message: /metadata is not JSON/ });
  await assert.rejects(Explainer.open(readFileSync(`${FOLDER}/square.png`), { ort }), /not an ONNX file/);
  await assert.rejects(Explainer.open("http://127.0.0.1:9/a.onnx", { ort }), /cannot fetch http:\S+a.onnx: /);
});

/** A protobuf message with one entry of metadata_props behind a field of each kind, one of them a long varint. */
function modelWith(document) {
  const field = (number, bytes) => [number * 8 + 2, 0x80 + (bytes.length & 127), bytes.length >> 7, ...bytes];
  const entry = [...field(1, Buffer.from("onnxplain")), ...field(2, Buffer.from(JSON.stringify(document)))];
  const before = [0x08, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x11, ...Array(8).fill(7), 0x1d, 1, 2, 3, 4];
  return Uint8Array.from([...before, ...field(7, Array(300).fill(0xff)), ...field(14, entry)]);
}

test("metadata are found wherever they stand, and a full artifact is refused", () => {
  assert.deepEqual(readMetadata(modelWith({ schema: 4, heatmaps: { rollout: {} } })).heatmaps, { rollout: {} });
  for (const heatmaps of [undefined, {}]) {
    assert.throws(() => readMetadata(modelWith({ schema: 4, heatmaps })), /with: onnxplain export --heatmaps/);
  }
  assert.throws(() => readMetadata(modelWith({ schema: 5, heatmaps: {} })), /schema is 5, this version reads 4/);
  assert.throws(() => readMetadata(Uint8Array.of()), /it has no metadata/);
});
