/** Runs the model, so that the page stays responsive: answers the calls of engine.js. */

import { Explainer, OnnxplainError, download, readImage } from "./onnxplain.js";
import { RemoteExplainer } from "./remote.js";

const LONGEST = 1600; // pixels of an edge that are shown

let explainer;
let image;
let imageFile; // which it was read from
let explanation;

const calls = {
  /** Loads onnxruntime and the artifact, unless the server has them. */
  async open({ runtime, model }) {
    explainer = runtime ? await openHere(runtime, model) : new RemoteExplainer(model);
    const { preprocessing, labels } = explainer.metadata;
    return { size: preprocessing.size, classes: labels.length };
  },

  /** Decodes an image file, which the next explanations are of. */
  async read({ file }) {
    image = await readImage(file);
    imageFile = file;
    return { image: await shown(image) };
  },

  /** Explains a class: what lies under the heatmap, its colours, the legend's, and all classes' probabilities. */
  async explain({ target, method }) {
    report("Explaining");
    const start = performance.now();
    explanation = await explainer.explain(image, { file: imageFile, target, method, topK: Infinity });
    const seconds = (performance.now() - start) / 1000;
    const { predictions, label, isSigned } = explanation;
    const layers = [explanation.overlay({ opacity: 0 }), explanation.colours(), explanation.colourBar()];
    const [base, colours, bar] = await Promise.all(layers.map(shown));
    return { base, colours, bar, isSigned, predictions, label, target: explanation.target, seconds };
  },

  /** The last explanation as a PNG file of the image's size, or twice as wide beside the image. */
  async save({ opacity, isBeside }) {
    const { width, height } = explanation.image;
    const canvas = new OffscreenCanvas(isBeside ? 2 * width : width, height);
    const context = canvas.getContext("2d");
    if (isBeside) context.putImageData(explanation.image, 0, 0);
    context.putImageData(explanation.overlay({ opacity }), isBeside ? width : 0, 0);
    return { file: await canvas.convertToBlob({ type: "image/png" }) };
  },
};

async function openHere(runtime, model) {
  const ort = await loadRuntime(runtime);
  const bytes = await download(model.file, { onProgress: reporter("Loading the model", model.bytes) });
  report("Preparing the model");
  return Explainer.open(bytes, { ort });
}

/**
 * Loads onnxruntime-web. From another server its files come with their integrity. `import` has no place for that in a
 * worker, where import maps do not apply; so the script is fetched, which checks it, and imported from memory.
 */
async function loadRuntime({ script, wasm, integrity }) {
  report("Loading onnxruntime");
  let address = new URL(script, import.meta.url);
  if (integrity) {
    const code = await download(address, { integrity: integrity.script });
    address = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
  }
  const ort = await import(address);
  const onProgress = reporter("Loading onnxruntime", 0);
  const binary = await download(new URL(wasm, import.meta.url), { integrity: integrity?.wasm, onProgress });
  ort.env.wasm.wasmBinary = binary.buffer;
  return ort;
}

/** As much of an image as a screen shows. */
function shown(whole) {
  const lengths = [whole.width, whole.height];
  const scale = Math.min(1, LONGEST / Math.max(...lengths));
  const [resizeWidth, resizeHeight] = lengths.map((length) => Math.max(1, Math.round(length * scale)));
  return createImageBitmap(whole, { resizeWidth, resizeHeight, resizeQuality: "high" });
}

function report(stage, loaded = 0, total = 0) {
  postMessage({ progress: { stage, loaded, total } });
}

function reporter(stage, size) {
  return (loaded, total) => report(stage, loaded, total || size);
}

async function answer({ id, call, values }) {
  try {
    const result = await calls[call](values);
    postMessage({ id, result }, Object.values(result).filter((value) => value instanceof ImageBitmap));
  } catch (error) {
    postMessage({ id, error: error instanceof OnnxplainError ? error.message : `unexpected ${error}` });
  }
}

let last = Promise.resolve();

addEventListener("message", ({ data }) => {
  if (data.call === "open") answer(data); // images can be read meanwhile
  else last = last.then(() => answer(data));
});
