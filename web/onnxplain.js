/**
 * Explains Vision Transformers in JavaScript: where in an image does the model see a class?
 *
 * Reads a plain artifact, which is a file of `onnxplain export --heatmaps METHOD,…`, and runs it with onnxruntime.
 * Works in browsers, in workers and in Node, with onnxruntime-web or onnxruntime-node. Preprocessing, heatmaps and
 * overlays are those of the Python package.
 *
 *     import * as ort from "onnxruntime-web";
 *     import { Explainer, readImage } from "./onnxplain.js";
 *
 *     const explainer = await Explainer.open("vit.onnx", { ort });
 *     const image = await readImage(file);
 *     const explanation = await explainer.explain(image, { target: "tabby" });
 *     context.putImageData(explanation.overlay(), 0, 0);
 *
 * Arrays are row-major; shapes are written as [height, width].
 *
 * @module
 */

/**
 * An image as canvases have it: RGBA, 4 bytes for each pixel. Transparent parts are put on white.
 * @typedef {{data: Uint8ClampedArray | Uint8Array, width: number, height: number}} ImageLike
 */
/** @typedef {{index: number, label: string, probability: number}} Prediction */
/**
 * Where the model's input lies in the image; all sizes are [height, width] in pixels.
 * @typedef {object} Placement
 * @property {[number, number]} original The image's size.
 * @property {[number, number]} resized The size that it was resized to.
 * @property {[number, number]} offset [top, left] of the input in the resized image; negative where it was padded.
 * @property {[number, number]} crop The input's size.
 */
/**
 * A part of the image or of the input: from `top` and `left` to before `bottom` and `right`.
 * @typedef {{top: number, bottom: number, left: number, right: number}} Part
 */

const METADATA_KEY = "onnxplain";
const SCHEMA = 4;
const MAX_PIXELS = 2 ** 26; // of an image, given or resized
const OPACITY = 0.85; // of the colour where the map is highest; the image must stay visible there as well
const FULL = 0.6; // share of the scale from which on colours have their full opacity
const LEVELS = 256; // of colours
const [ZERO, HALF] = [128, 127]; // of signed maps: the level of zero, and the levels on either side of it
const DESATURATION = 0.7; // of the image below the colours, which would be mistaken for theirs
const [GREY, GREY_OPACITY] = [128, 0.5]; // of the grey over what the model did not see
const PIXEL_QUANTILE = 0.99; // of a pixel-level map's values: what gets the brightest colour
// What kind of maps methods make; those of many runs are in no artifact that runs here, but a server explains by them
const PIXEL_LEVEL = new Set(["attnlrp", "cp_lrp", "full", "input_x_gradient", "gradient", "integrated_gradients",
  "smoothgrad", "rise"]);
const SIGNED = new Set(["attnlrp", "cp_lrp", "full", "input_x_gradient", "gradient", "integrated_gradients",
  "smoothgrad"]); // below 0 is against the class
const RELATIVE = new Set(["vit_reciprocam"]); // maps without a zero: only differences have a meaning

/** What the caller can put right: one line that says what was given, what is valid and what to do. */
export class OnnxplainError extends Error {
  name = "OnnxplainError";
}

/** An artifact that explains images. Make one with {@link Explainer.open}. */
export class Explainer {
  #ort;
  #session;

  /** @private */
  constructor(ort, session, metadata) {
    this.#ort = ort;
    this.#session = session;
    /** The artifact's JSON document: `model`, `preprocessing`, `patch_grid`, `activation`, … */
    this.metadata = metadata;
    /** @type {string[]} One for each class. */
    this.labels = metadata.labels;
    /** @type {string[]} The methods whose heatmaps the artifact gives; the first is the default. */
    this.methods = Object.keys(metadata.heatmaps);
  }

  /**
   * Opens an artifact.
   *
   * @param {string | URL | ArrayBuffer | Uint8Array} source An address to fetch, or the file's bytes.
   * @param {object} options
   * @param {object} options.ort The namespace of onnxruntime-web or onnxruntime-node.
   * @param {(loaded: number, total: number) => void} [options.onProgress] Called with the bytes fetched so far and in
   *     all; `total` is 0 if the server does not say.
   * @param {object} [options.sessionOptions] As onnxruntime takes them, such as `executionProviders`.
   * @returns {Promise<Explainer>}
   * @throws {OnnxplainError} It cannot be fetched, is no plain artifact, or was changed since export; `ort` is missing.
   */
  static async open(source, { ort, onProgress, sessionOptions = {} } = {}) {
    if (!ort?.InferenceSession) throw new OnnxplainError("give ort, which is onnxruntime-web or onnxruntime-node");
    const isAddress = typeof source === "string" || source instanceof URL;
    const bytes = isAddress ? await download(source, { onProgress }) : asBytes(source);
    const metadata = readMetadata(bytes);
    await checkDigest(bytes);
    const session = await ort.InferenceSession.create(bytes, { logSeverityLevel: 3, ...sessionOptions });
    return new Explainer(ort, session, metadata);
  }

  /**
   * Explains one class, or several, in one run.
   *
   * @param {ImageLike} image
   * @param {object} [options]
   * @param {number | string | (number | string)[]} [options.target] The class: its index, its label, or a rank (-1 the
   *     top-1 class, -2 the runner-up, …).
   * @param {string} [options.method] One of `methods`.
   * @param {number} [options.topK] How many predictions to list.
   * @returns {Promise<Explanation | Explanation[]>} An array if `target` is one.
   * @throws {OnnxplainError} There is no such class or method, the image has no pixels, or the numbers are not finite.
   */
  async explain(image, { target = -1, method = this.methods[0], topK = 5 } = {}) {
    if (!this.methods.includes(method)) {
      throw new OnnxplainError(`there is no heatmap ${method} in the artifact; it has: ${this.methods.join(", ")}`);
    }
    const targets = [target].flat().map((each) => resolveTarget(each, this.labels));
    const output = `heatmap_${method}`;
    const { feeds, placement } = this.#feeds(opaque(image), targets, method);
    const results = await this.#session.run(feeds, ["logits", "class_index", output]);
    const logits = results.logits.data;
    checkFinite("the logits", logits);
    checkFinite(`the values of ${output}`, results[output].data);

    const predictions = topPredictions(logits, this.labels, this.metadata.activation, topK);
    const length = results[output].data.length / targets.length;
    const explanations = targets.map((_, at) => {
      const index = Number(results.class_index.data[at]);
      return new Explanation({
        image,
        map: results[output].data.slice(at * length, (at + 1) * length),
        isPlaced: this.metadata.input === "image",
        placement,
        grid: this.metadata.patch_grid,
        target: index,
        label: this.labels[index],
        score: logits[index],
        predictions,
        method,
      });
    });
    return Array.isArray(target) ? explanations : explanations[0];
  }

  /** Frees the memory of the artifact; it cannot be used after that. */
  async release() {
    await this.#session.release();
  }

  #feeds(image, targets, method) {
    const { Tensor } = this.#ort;
    const { preprocessing, input, flags } = this.metadata;
    const feeds = { target: new Tensor("int64", BigInt64Array.from(targets, BigInt), [1, targets.length]) };
    if (flags === "required") {
      for (const name of this.methods.length > 1 ? this.methods : []) {
        feeds[`with_heatmap_${name}`] = new Tensor("bool", Uint8Array.of(name === method), [1]);
      }
    }
    if (input === "image") {
      feeds.image = new Tensor("uint8", withoutAlpha(image), [1, image.height, image.width, 3]);
      return { feeds, placement: place(image, preprocessing) };
    }
    const { pixels, placement } = preprocess(image, preprocessing);
    feeds.pixels = new Tensor("float32", pixels, [1, 3, ...preprocessing.size]);
    return { feeds, placement };
  }
}

/** Where a model sees one class in one image. */
export class Explanation {
  #inputHeatmap;
  #heatmap;
  #levels;

  /** @private */
  constructor({ image, map, isPlaced, placement, grid, target, label, score, predictions, method }) {
    if (isPlaced) this.#heatmap = map;
    else this.#inputHeatmap = map;
    /** @type {ImageLike} */
    this.image = image;
    /** @type {Placement} */
    this.placement = placement;
    /** @type {[number, number]} Rows and columns of patches in the input. */
    this.grid = grid;
    /** @type {number} The class's index. */
    this.target = target;
    /** @type {string} */
    this.label = label;
    /** @type {number} The class's logit. */
    this.score = score;
    /** @type {Prediction[]} Best first. */
    this.predictions = predictions;
    /** @type {string} */
    this.method = method;
  }

  /**
   * The map over the model's input, unscaled: Float32Array [H, W]. Of an artifact that takes whole images, what the map
   * over the image shows of it, exact up to rounding as far as it does.
   * @returns {Float32Array}
   */
  get inputHeatmap() {
    this.#inputHeatmap ??= this.#recover();
    return this.#inputHeatmap;
  }

  /**
   * The map over the whole image, unscaled: Float32Array [height, width]. What the model did not see is 0, or the map's
   * minimum where only differences have a meaning.
   * @returns {Float32Array}
   */
  get heatmap() {
    this.#heatmap ??= this.#place();
    return this.#heatmap;
  }

  /**
   * Whether values below 0 have a meaning: they count against the class.
   * @returns {boolean}
   */
  get isSigned() {
    return SIGNED.has(this.method);
  }

  /**
   * Draws the heatmap over the image: the higher a value, the more opaque its colour, and in signed maps the lower a
   * value below 0. The image is desaturated; what the model did not see of it is grey.
   *
   * @param {object} [options]
   * @param {number} [options.opacity] Of the colour where the map is highest, from 0 to 1.
   * @returns {ImageLike} An ImageData where there is that class. Of the image's size.
   */
  overlay({ opacity = OPACITY } = {}) {
    const { width, height } = this.image;
    const data = new Uint8ClampedArray(opaque(this.image).data);
    fade(data, width, height, this.seen);
    const { palette, alphas } = findColours(this.isSigned, opacity);
    const levels = this.#placedLevels();
    for (let pixel = 0; pixel < levels.length; pixel++) {
      const alpha = alphas[levels[pixel]];
      if (alpha === 0) continue;
      for (let channel = 0; channel < 3; channel++) {
        const colour = palette[3 * levels[pixel] + channel];
        data[4 * pixel + channel] = divide255(data[4 * pixel + channel] * (255 - alpha) + colour * alpha);
      }
    }
    return imageOf(data, width, height);
  }

  /**
   * The heatmap's colours alone, to be laid over `overlay({ opacity: 0 })` with an opacity of one's own.
   * @returns {ImageLike} RGBA of the image's size.
   */
  colours() {
    return this.#coloured(this.#placedLevels(), this.image);
  }

  /**
   * The colours from those of the lowest value to those of the highest, for a legend; as opaque as in `colours`.
   * @returns {ImageLike} RGBA of 256 x 1 pixels.
   */
  colourBar() {
    return this.#coloured(Uint8Array.from({ length: LEVELS }, (_, level) => level), { width: LEVELS, height: 1 });
  }

  /**
   * The part of the image that the model saw: the pixels whose centres are in its input.
   * @returns {Part}
   */
  get seen() {
    return span2d(positions(this.placement), this.placement.crop);
  }

  #place() {
    const outside = RELATIVE.has(this.method) ? least(this.inputHeatmap) : 0;
    return placeMap(this.inputHeatmap, this.placement, outside);
  }

  #recover() {
    const { placement, grid } = this;
    if (PIXEL_LEVEL.has(this.method)) return recoverMap(this.heatmap, placement, placement.crop);
    const tokens = recoverMap(this.heatmap, placement, grid);
    return placeMap(tokens, { original: placement.crop, resized: grid, offset: [0, 0], crop: grid }, 0);
  }

  /** 0..255 for each pixel of the image. */
  #placedLevels() {
    if (this.#levels) return this.#levels;
    const scaled = placeMap(this.#scaled(), this.placement, 0);
    const [lowest, steps, zero] = this.isSigned ? [-1, HALF, ZERO] : [0, LEVELS - 1, 0];
    this.#levels = new Uint8Array(scaled.length);
    for (let at = 0; at < scaled.length; at++) {
      const value = Math.min(Math.max(scaled[at], lowest), 1);
      this.#levels[at] = roundEven(Math.fround(value * steps)) + zero;
    }
    return this.#levels;
  }

  #coloured(levels, { width, height }) {
    const { palette, alphas } = findColours(this.isSigned, 1);
    const data = new Uint8ClampedArray(4 * levels.length);
    for (let pixel = 0; pixel < levels.length; pixel++) {
      const level = levels[pixel];
      for (let channel = 0; channel < 3; channel++) data[4 * pixel + channel] = palette[3 * level + channel];
      data[4 * pixel + 3] = alphas[level];
    }
    return imageOf(data, width, height);
  }

  /**
   * The map over the input, scaled so that 0 is drawn bare and 1 in the brightest colour, and so is -1 if it is signed.
   * Only what shows the image counts; pixel-level maps are first averaged over half patches.
   */
  #scaled() {
    const { inputHeatmap: map, placement, grid } = this;
    const { crop } = placement;
    const isPixelLevel = PIXEL_LEVEL.has(this.method);
    const cells = crop.map((length, axis) => Math.min(2 * grid[axis], length));
    const drawn = isPixelLevel ? smoothed(map, crop, cells) : map;
    const shown = cut(drawn, crop[1], shownInInput(placement));
    const values = this.isSigned ? shown.map(Math.abs) : shown;
    const lowest = this.isSigned ? 0 : least(values);
    const low = RELATIVE.has(this.method) ? lowest : Math.max(lowest, 0);
    let high = most(values);
    if (isPixelLevel && high > low) high = quantile(values.filter((value) => value > low), PIXEL_QUANTILE);
    const isConstant = least(map) === most(map) || high <= low;
    return isConstant ? new Float32Array(map.length) : drawn.map((value) => (value - low) / (high - low));
  }
}

/**
 * Decodes an image file as the Python package does: upright, RGB as it is in the file, transparency on white. For
 * browsers and workers. PNG gives the same bytes as there; of other formats it depends on the browser's decoder.
 *
 * @param {Blob} file
 * @returns {Promise<ImageData>}
 * @throws {OnnxplainError} It is no image that the browser can decode, or too large.
 */
export async function readImage(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { colorSpaceConversion: "none", imageOrientation: "from-image" });
  } catch {
    throw new OnnxplainError(`${file.name ?? "the file"} is not an image that this browser can read, or it is damaged`);
  }
  const { width, height } = bitmap;
  if (width * height > MAX_PIXELS) {
    throw new OnnxplainError(`an image of ${width} x ${height} pixels is more than ${MAX_PIXELS}; make it smaller`);
  }
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return context.getImageData(0, 0, width, height);
}

/**
 * Fetches a file, and tells how far it is.
 *
 * @param {string | URL} address
 * @param {object} [options]
 * @param {(loaded: number, total: number) => void} [options.onProgress] As of {@link Explainer.open}.
 * @param {string} [options.integrity] What the file must be, as `sha384-…`.
 * @returns {Promise<Uint8Array>}
 * @throws {OnnxplainError} It cannot be fetched, or is another file.
 */
export async function download(address, { onProgress = () => {}, integrity = "" } = {}) {
  try {
    const response = await fetch(address, { integrity });
    if (!response.ok) throw new Error(`${response.status} ${response.statusText}`.trim());
    const total = response.headers.has("content-encoding") ? 0 : Number(response.headers.get("content-length"));
    let loaded = 0;
    const counting = new TransformStream({
      transform(part, controller) {
        loaded += part.length;
        onProgress(loaded, total);
        controller.enqueue(part);
      },
    });
    return new Uint8Array(await new Response(response.body.pipeThrough(counting)).arrayBuffer());
  } catch (error) {
    throw new OnnxplainError(`cannot fetch ${address}: ${error.message}`);
  }
}

// --- The artifact ---

function asBytes(source) {
  return ArrayBuffer.isView(source) ? new Uint8Array(source.buffer, source.byteOffset, source.byteLength) :
    new Uint8Array(source);
}

/**
 * Reads the JSON document out of a plain artifact.
 *
 * @param {Uint8Array} bytes The ONNX file.
 * @returns {object} See contract/metadata.py for its fields.
 * @throws {OnnxplainError} It is no plain artifact.
 */
export function readMetadata(bytes) {
  const text = metadataProperties(bytes).get(METADATA_KEY);
  if (text === undefined) {
    throw new OnnxplainError("not an onnxplain artifact: it has no metadata; write one with: onnxplain export");
  }
  let metadata;
  try {
    metadata = JSON.parse(text);
  } catch (error) {
    throw new OnnxplainError(`not an onnxplain artifact: metadata is not JSON (${error.message})`);
  }
  if (metadata.schema !== SCHEMA) {
    throw new OnnxplainError(`metadata schema is ${metadata.schema}, this version reads ${SCHEMA}; export it again`);
  }
  if (Object.keys(metadata.heatmaps ?? {}).length === 0) {
    throw new OnnxplainError(
      "the artifact has no heatmaps in its graph, which only Python can make of its outputs; export it again with: " +
        "onnxplain export --heatmaps METHOD"
    );
  }
  return metadata;
}

/** The entries of metadata_props, field 14 of the protobuf message ModelProto; all other fields are skipped. */
function metadataProperties(bytes) {
  const properties = new Map();
  for (const { number, value } of fields(bytes)) {
    if (number !== 14 || !value) continue;
    const entry = new Map(); // 1: key, 2: value
    for (const part of fields(value)) entry.set(part.number, new TextDecoder().decode(part.value));
    properties.set(entry.get(1), entry.get(2));
  }
  return properties;
}

/** The fields of a protobuf message: their numbers, and the bytes of those that have a length. */
function* fields(bytes) {
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = bytes[at++];
      if (byte === undefined || factor > 2 ** 63) throw new OnnxplainError("not an ONNX file, or it is damaged");
      value += (byte & 127) * factor; // no shifts, which end at 32 bits
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const tag = varint();
    const number = Math.floor(tag / 8);
    const wire = tag % 8;
    let value;
    if (wire === 0) varint();
    else if (wire === 1) at += 8;
    else if (wire === 5) at += 4;
    else if (wire === 2) {
      const length = varint();
      value = bytes.subarray(at, at + length);
      at += length;
    }
    if (at > bytes.length || ![0, 1, 2, 5].includes(wire)) {
      throw new OnnxplainError("not an ONNX file, or it is damaged");
    }
    yield { number, value };
  }
}

/** Checks the SHA-256 that the file ends with; pages that are not served securely have no function for that. */
async function checkDigest(bytes) {
  if (!globalThis.crypto?.subtle) return;
  const stored = new TextDecoder().decode(bytes.subarray(-64));
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes.subarray(0, -64)));
  if (stored !== Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("")) {
    throw new OnnxplainError("the artifact was damaged or changed since export; fetch it again, or export it again");
  }
}

/** A target as the graph takes it: a class's index, or a rank below 0. */
function resolveTarget(target, labels) {
  const found = typeof target === "string" ? findLabel(target, labels) : target;
  if (!Number.isInteger(found) || found < -labels.length || found >= labels.length) {
    throw new OnnxplainError(
      `target ${target} is no label of the artifact, nor one of the classes 0 to ${labels.length - 1} and the ranks ` +
        `-1 to ${-labels.length}`
    );
  }
  return found;
}

/** A whole label, else one of its comma-separated synonyms, else a number in digits. */
function findLabel(query, labels) {
  const plain = (label) => label.normalize("NFC").toUpperCase().toLowerCase().trim().split(/\s+/).join(" ");
  const wanted = plain(query);
  const matching = (fits) => labels.flatMap((label, index) => (fits(label) ? [index] : []));
  let matches = matching((label) => plain(label) === wanted);
  if (!matches.length) matches = matching((label) => label.split(",").some((part) => plain(part) === wanted));
  if (matches.length > 1) {
    const which = matches.map((index) => `${index} (${labels[index]})`).join(", ");
    throw new OnnxplainError(`the label ${query} is ambiguous: it names the classes ${which}; give the index`);
  }
  return matches.length ? matches[0] : /^-?\d+$/.test(wanted) ? Number(wanted) : NaN;
}

/** @returns {Prediction[]} */
function topPredictions(logits, labels, activation, count) {
  const highest = most(logits);
  const exponentials = Float64Array.from(logits, (logit) => Math.exp(logit - highest));
  const total = exponentials.reduce((sum, value) => sum + value, 0);
  const probability = activation === "sigmoid" ? (index) => (1 + Math.tanh(logits[index] / 2)) / 2 :
    (index) => exponentials[index] / total;
  const order = Array.from(logits.keys()).sort((one, other) => logits[other] - logits[one]);
  return order.slice(0, count).map((index) => ({ index, label: labels[index], probability: probability(index) }));
}

function checkFinite(what, values) {
  if (!values.every(Number.isFinite)) throw new OnnxplainError(`${what} are not finite; the weights may be damaged`);
}

// --- From the image to the model's input, as runtime/images/preprocessing.py ---

/**
 * Makes the model's input of an image, equal to that of the Python package: resized as Pillow does, cropped,
 * normalised.
 *
 * @param {ImageLike} image
 * @param {object} preprocessing The artifact's: `size`, `mean`, `std`, `crop_pct`, `crop_mode`, `interpolation`, …
 * @returns {{pixels: Float32Array, placement: Placement}} `pixels` is [3, H, W].
 * @throws {OnnxplainError} The image is too elongated to be resized.
 */
export function preprocess(image, preprocessing) {
  const { size: crop, mean, std, crop_mode } = preprocessing;
  const placement = place(image, preprocessing);
  const { resized, offset: [top, left] } = placement;
  const [height, width] = resized;
  const source = resize(opaque(image), resized, preprocessing.interpolation);
  const area = crop[0] * crop[1];
  const pixels = new Float32Array(3 * area);
  for (let channel = 0; channel < 3; channel++) {
    const normalised = Float32Array.from({ length: 256 }, (_, value) =>
      Math.fround(Math.fround(Math.fround(value / 255) - Math.fround(mean[channel])) / Math.fround(std[channel]))
    );
    // Only border mode pads with the mean colour; center and squash pad black where the crop is larger than the image
    const padding = crop_mode === "border" ? Math.min(Math.max(roundEven(255 * mean[channel]), 0), 255) : 0;
    for (let y = 0; y < crop[0]; y++) {
      for (let x = 0; x < crop[1]; x++) {
        const row = y + top;
        const column = x + left;
        const isInside = row >= 0 && row < height && column >= 0 && column < width;
        const value = isInside ? source[4 * (row * width + column) + channel] : padding;
        pixels[channel * area + y * crop[1] + x] = normalised[value];
      }
    }
  }
  return { pixels, placement };
}

/**
 * Where the model's input lies in an image.
 *
 * @param {{width: number, height: number}} image
 * @param {object} preprocessing As of {@link preprocess}, but for `mean`, `std` and `interpolation`.
 * @returns {Placement}
 * @throws {OnnxplainError} The image is too elongated to be resized.
 */
export function place({ width, height }, preprocessing) {
  const resized = resizedSize([height, width], preprocessing);
  if (resized[0] * resized[1] > MAX_PIXELS) {
    throw new OnnxplainError(
      `an image of ${width} x ${height} pixels is too elongated: preprocessing would make it ${resized[1]} x ` +
        `${resized[0]}; crop it first`
    );
  }
  const crop = preprocessing.size;
  const offset = resized.map((length, axis) => cropOffset(length, crop[axis], preprocessing.crop_rounding));
  return { original: [height, width], resized, offset, crop };
}

function resizedSize([height, width], { size, crop_pct, crop_mode }) {
  const scaled = size.map((length) => Math.floor(length / crop_pct));
  if (crop_mode === "squash") return scaled;
  if (crop_mode === "center" && scaled[0] === scaled[1]) {
    // torchvision's Resize to a shorter edge: integer arithmetic that differs from the ratio below
    const short = scaled[0];
    const long = Math.trunc((short * Math.max(height, width)) / Math.min(height, width));
    return width <= height ? [long, short] : [short, long];
  }
  const ratios = [height / scaled[0], width / scaled[1]];
  const ratio = crop_mode === "border" ? Math.max(...ratios) : Math.min(...ratios);
  return [height, width].map((length) => Math.max(1, roundEven(length / ratio)));
}

/** Where a centred crop starts; torchvision rounds halves to even when cutting and down when padding. */
function cropOffset(length, crop, rounding) {
  if (rounding === "floor") return Math.floor((length - crop) / 2);
  return length >= crop ? roundEven((length - crop) / 2) : -Math.floor((crop - length) / 2);
}

/** The image with its transparent parts on white, as Pillow's alpha_composite. */
function opaque(image) {
  const { data, width, height } = image;
  if (!(width > 0 && height > 0 && data?.length === 4 * width * height)) {
    throw new OnnxplainError("an image must have width, height and data: RGBA, 4 bytes for each pixel");
  }
  let isOpaque = true;
  for (let at = 3; isOpaque && at < data.length; at += 4) isOpaque = data[at] === 255;
  if (isOpaque) return image;
  const result = new Uint8ClampedArray(data.length).fill(255);
  for (let at = 0; at < data.length; at += 4) {
    const alpha = data[at + 3];
    for (let channel = 0; channel < 3; channel++) {
      const sum = (data[at + channel] * alpha + 255 * (255 - alpha) + 128) * 128;
      result[at + channel] = ((sum >> 8) + sum) >> 15;
    }
  }
  return { data: result, width, height };
}

function withoutAlpha({ data }) {
  const result = new Uint8Array((data.length / 4) * 3);
  for (let from = 0, to = 0; from < data.length; from += 4, to += 3) {
    result[to] = data[from];
    result[to + 1] = data[from + 1];
    result[to + 2] = data[from + 2];
  }
  return result;
}

// --- Pillow's resize: separable, antialiased, in fixed-point numbers ---

const PRECISION = 2 ** 22; // of Pillow's coefficients for 8-bit images

/** How far each filter reaches, and its weight at a distance, in pixels of the smaller of the two images. */
const FILTERS = {
  box: [0.5, (x) => (x > -0.5 && x <= 0.5 ? 1 : 0)],
  bilinear: [1, (x) => Math.max(0, 1 - Math.abs(x))],
  hamming: [1, (x) => {
    if (x === 0) return 1;
    if (Math.abs(x) >= 1) return 0;
    const angle = Math.abs(x) * Math.PI;
    return (Math.sin(angle) / angle) * (Math.fround(0.54) + Math.fround(0.46) * Math.cos(angle));
  }],
  bicubic: [2, (distance) => {
    const x = Math.abs(distance);
    if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
  }],
  lanczos: [3, (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0)],
};

function sinc(x) {
  return x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI);
}

/** RGBA of the image resized to [height, width]; the last channel is not looked at. */
function resize(image, size, interpolation) {
  if (interpolation === "nearest") return nearest(image, ...size);
  return resample(image.data, [image.height, image.width], size, FILTERS[interpolation], { step: 4, channels: 3 });
}

/** Values [oldHeight, oldWidth, step] resized to [height, width, step]; of bytes the result is rounded and clipped. */
function resample(values, [oldHeight, oldWidth], [height, width], filter, { step = 1, channels = 1 } = {}) {
  const isFloat = values instanceof Float32Array;
  const make = (length) => (isFloat ? new Float32Array(length) : new Uint8ClampedArray(length));
  const taps = (from, to) => (isFloat ? coefficients(from, to, filter) : fixedPoint(coefficients(from, to, filter)));
  const horizontally = (source, rows) => {
    if (oldWidth === width) return source;
    const [fromLine, toLine] = [oldWidth * step, width * step];
    const sizes = { lines: rows, fromLine, toLine, step, channels };
    return convolve(source, make(rows * toLine), taps(oldWidth, width), sizes);
  };
  const vertically = (source, columns) => {
    if (oldHeight === height) return source;
    const sizes = { lines: columns, fromLine: step, toLine: step, step: columns * step, channels };
    return convolve(source, make(height * columns * step), taps(oldHeight, height), sizes);
  };
  // The order decides how values are rounded in between. Pillow began with the rows of every image until version 13
  const isTall = height < oldHeight && oldHeight - height > 2 * (oldWidth - width);
  if (isTall) return horizontally(vertically(values, oldWidth), height);
  return vertically(horizontally(values, oldHeight), width);
}

/** For each index of the result: the first index of the source that counts, how many do, and their weights. */
function coefficients(from, to, [reach, weigh]) {
  const scale = from / to;
  const stretch = Math.max(scale, 1);
  const support = reach * stretch;
  const most = Math.ceil(support) * 2 + 1;
  const first = new Int32Array(to);
  const count = new Int32Array(to);
  const weights = new Float64Array(to * most);
  for (let index = 0; index < to; index++) {
    const centre = (index + 0.5) * scale;
    first[index] = Math.max(0, Math.trunc(centre - support + 0.5));
    count[index] = Math.min(from, Math.trunc(centre + support + 0.5)) - first[index];
    let sum = 0;
    for (let tap = 0; tap < count[index]; tap++) {
      const weight = weigh((tap + first[index] - centre + 0.5) * (1 / stretch));
      weights[index * most + tap] = weight;
      sum += weight;
    }
    for (let tap = 0; sum !== 0 && tap < count[index]; tap++) weights[index * most + tap] /= sum;
  }
  return { first, count, weights, most, start: 0, unit: 1 };
}

/** The coefficients as Pillow has them for bytes; sums of such products are exact in floating point. */
function fixedPoint(table) {
  const weights = table.weights.map((weight) => Math.trunc(weight * PRECISION + (weight < 0 ? -0.5 : 0.5)));
  return { ...table, weights, start: PRECISION / 2, unit: PRECISION };
}

/** Filters each line of `source`, of 1 or 3 channels, into `target`; a Uint8ClampedArray clips what it is given. */
function convolve(source, target, { first, count, weights, most, start, unit }, sizes) {
  const { lines, fromLine, toLine, step, channels } = sizes;
  for (let line = 0; line < lines; line++) {
    for (let index = 0; index < first.length; index++) {
      let from = line * fromLine + first[index] * step;
      const to = line * toLine + index * step;
      const end = index * most + count[index];
      let [one, two, three] = [start, start, start];
      for (let tap = index * most; tap < end; tap++, from += step) {
        const weight = weights[tap];
        one += source[from] * weight;
        if (channels === 1) continue;
        two += source[from + 1] * weight;
        three += source[from + 2] * weight;
      }
      target[to] = unit === 1 ? one : Math.floor(one / unit);
      if (channels === 1) continue;
      target[to + 1] = Math.floor(two / unit);
      target[to + 2] = Math.floor(three / unit);
    }
  }
  return target;
}

function nearest(image, height, width) {
  const [rows, columns] = [[image.height, height], [image.width, width]].map(([from, to]) => {
    const scale = from / to;
    let position = scale * 0.5;
    return Int32Array.from({ length: to }, () => {
      const found = Math.trunc(position);
      position += scale; // added up, as Pillow does, with the same rounding errors
      return found;
    });
  });
  const result = new Uint8ClampedArray(4 * width * height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (rows[y] >= image.height || columns[x] >= image.width) continue;
      for (let channel = 0; channel < 3; channel++) {
        result[4 * (y * width + x) + channel] = image.data[4 * (rows[y] * image.width + columns[x]) + channel];
      }
    }
  }
  return result;
}

// --- From the model's input back to the image, as runtime/images/geometry.py ---

/** Where in the input the centres of the image's rows lie, and of its columns. */
function positions({ original, resized, offset }) {
  return original.map((length, axis) =>
    Float64Array.from({ length }, (_, at) => (at + 0.5) * (resized[axis] / length) - offset[axis])
  );
}

/** Which of the ascending positions lie in 0 .. length; if none does, the nearest on either side. */
function span(places, length) {
  let first = places.findIndex((place) => place >= 0);
  if (first < 0) first = places.length;
  let end = places.findIndex((place) => place >= length);
  if (end < 0) end = places.length;
  const beyond = first === end ? 1 : 0;
  return [Math.max(0, first - beyond), Math.min(places.length, end + beyond)];
}

function span2d([rows, columns], [height, width]) {
  const [top, bottom] = span(rows, height);
  const [left, right] = span(columns, width);
  return { top, bottom, left, right };
}

/** The part of the input that shows the image; the rest is padding. */
function shownInInput({ resized, offset, crop }) {
  const [[top, bottom], [left, right]] = [0, 1].map((axis) => [
    Math.max(0, -offset[axis]), Math.min(crop[axis], resized[axis] - offset[axis]),
  ]);
  return { top, bottom, left, right };
}

/** For each position: the two indices that are interpolated between, and the second one's weight. */
function samples(places, length) {
  return Array.from(places, (place) => {
    const centre = Math.min(Math.max(place - 0.5, 0), length - 1); // half a pixel at the border repeats its value
    const lower = Math.trunc(centre);
    return { lower, upper: Math.min(lower + 1, length - 1), weight: centre - lower };
  });
}

/** Brings a map over the input, Float32Array `crop`, onto the image: Float32Array `original`, bilinear. */
function placeMap(map, placement, outside) {
  const [height, width] = placement.original;
  const [cropHeight, cropWidth] = placement.crop;
  const [rows, columns] = positions(placement);
  const { top, bottom, left, right } = span2d([rows, columns], placement.crop);
  const rowSamples = samples(rows.subarray(top, bottom), cropHeight);
  const columnSamples = samples(columns.subarray(left, right), cropWidth);
  const placed = new Float32Array(height * width).fill(outside);
  const line = new Float32Array(cropWidth);
  const { fround } = Math; // each step is rounded as that of an array of float32 is
  rowSamples.forEach(({ lower, upper, weight }, row) => {
    const share = fround(weight);
    for (let x = 0; x < cropWidth; x++) {
      const value = map[lower * cropWidth + x];
      line[x] = fround(fround(map[upper * cropWidth + x] - value) * share) + value;
    }
    const start = (top + row) * width + left;
    for (let column = 0; column < columnSamples.length; column++) {
      const { lower, upper, weight } = columnSamples[column];
      placed[start + column] = fround(fround(line[upper] - line[lower]) * fround(weight)) + line[lower];
    }
  });
  return placed;
}

const SMOOTH = 1e-4; // weight of the differences between neighbours in a recovered map: only where nothing else tells
const TAPS = 4; // of a grid's values, how many a value of the image depends on along an axis

/**
 * The map over `grid` that was enlarged to the input and then placed on the image: the inverse of both, by least
 * squares. Where the image does not tell, neighbours get values as alike as possible.
 */
function recoverMap(placed, placement, grid) {
  const { original, crop } = placement;
  const places = positions(placement);
  const { top, bottom, left, right } = span2d(places, crop);
  const rows = gridTaps(places[0].subarray(top, bottom), crop[0], grid[0]);
  const columns = gridTaps(places[1].subarray(left, right), crop[1], grid[1]);
  const sums = new Float64Array(grid[0] * grid[1]);
  for (let row = 0; row < bottom - top; row++) {
    const line = new Float64Array(grid[1]);
    for (let tap = 0; tap < columns.index.length; tap++) {
      const column = left + Math.floor(tap / TAPS);
      line[columns.index[tap]] += columns.weight[tap] * placed[(top + row) * original[1] + column];
    }
    for (let tap = row * TAPS; tap < (row + 1) * TAPS; tap++) {
      const start = rows.index[tap] * grid[1];
      for (let at = 0; at < grid[1]; at++) sums[start + at] += rows.weight[tap] * line[at];
    }
  }
  const byColumn = transposed(leastSquares(rows, sums, grid[0]), grid);
  return Float32Array.from(transposed(leastSquares(columns, byColumn, grid[1]), [grid[1], grid[0]]));
}

/** Along an axis, for each position in the input: the indices of TAPS values of the grid, and their weights. */
function gridTaps(places, crop, count) {
  const enlarged = samples(Float64Array.from({ length: crop }, (_, at) => (at + 0.5) * (count / crop)), count);
  const both = ({ lower, upper, weight }) => [[lower, 1 - weight], [upper, weight]];
  const taps = samples(places, crop).flatMap((sample) =>
    both(sample).flatMap(([at, share]) => both(enlarged[at]).map(([index, weight]) => [index, share * weight]))
  );
  return { index: Int32Array.from(taps, ([index]) => index), weight: Float64Array.from(taps, ([, weight]) => weight) };
}

/** Solves the normal equations along an axis of `count` values, for `sums` [count, n]. */
function leastSquares({ index, weight }, sums, count) {
  const matrix = new Float64Array(count * count);
  for (let tap = 0; tap < index.length; tap++) {
    const first = tap - (tap % TAPS);
    for (let other = first; other < first + TAPS; other++) {
      matrix[index[tap] * count + index[other]] += weight[tap] * weight[other];
    }
  }
  for (let at = 1; at < count; at++) {
    for (const [row, column, sign] of [[at, at, 1], [at - 1, at - 1, 1], [at, at - 1, -1], [at - 1, at, -1]]) {
      matrix[row * count + column] += sign * SMOOTH ** 2;
    }
  }
  return solve(matrix, sums, count);
}

/** matrix [count, count] x = values [count, n] for x, in place, by Gauss; of a positive definite matrix. */
function solve(matrix, values, count) {
  const length = values.length / count;
  const subtract = (array, width, row, pivot, factor) => {
    for (let at = 0; at < width; at++) array[row * width + at] -= factor * array[pivot * width + at];
  };
  for (let pivot = 0; pivot < count; pivot++) {
    for (let row = pivot + 1; row < count; row++) {
      const factor = matrix[row * count + pivot] / matrix[pivot * count + pivot];
      if (factor === 0) continue; // nearly everywhere: only neighbours depend on each other
      subtract(matrix, count, row, pivot, factor);
      subtract(values, length, row, pivot, factor);
    }
  }
  for (let pivot = count - 1; pivot >= 0; pivot--) {
    for (let at = 0; at < length; at++) values[pivot * length + at] /= matrix[pivot * count + pivot];
    for (let row = 0; row < pivot; row++) {
      const factor = matrix[row * count + pivot];
      if (factor !== 0) subtract(values, length, row, pivot, factor);
    }
  }
  return values;
}

function transposed(values, [rows, columns]) {
  return values.map((_, at) => values[(at % rows) * columns + Math.floor(at / rows)]);
}

// --- Colours, as runtime/figures/ ---

// Red, green and blue of each level: `find_colours(None, signed, 1).palette` in runtime/figures/colours.py, from cmap
/** cmasher:ember */
const SEQUENTIAL = decoded(
  "AAAAAAAAAAAAAAABAQEBAQEBAQECAQIDAgIEAgMFAwMGAwQHBAQIBQUKBgULBgYNBwcOCQcQCggRCwkTDQkUDgoWDwsXEQsYEgwaEw0bFQ0cFg4d" +
  "GA4fGQ8gGxAhHBAiHhEjHxEkIRIlIhImJBMoJRMpJxMqKBQrKhQsKxUsLRUtLhUuMBYvMRYwMxYxNBcyNhczNxc0ORg0Oxg1PBg2Phg3Pxk3QRk4" +
  "Qxk5RBk6Rhk6Rxk7SRo7Sxo8TBo9Tho9UBo+URo+Uxo/VRo/VhpAWBpAWhpBWxpBXRpCXxpCYBpCYhpDZBpDZRpDZxpEaRpEahpEbBlFbhlFcBlF" +
  "cRlFcxlFdRhFdhhGeBhGehhGfBdGfRdGfxdGgRZGghZGhBVGhhVFiBVFiRRFixRFjRNFjxNFkBJEkhJElBFElRBDlxBDmQ9Dmw9CnA5Cng1BoA1B" +
  "oQxAowxApQs/pgs/qAo+qgo9qwo9rQo8rgk7sAk6sQo6swo5tQo4tgs3tww2uQw1ug00vA4zvRAzvxEywBIxwRQwwhUvxBcuxRgtxhosxxsryB0q" +
  "yh8pyyEozCInzSQmziYlzygk0Ckj0Ssi0i0h0y8g0zAf1DIf1TQe1jYd1zgc2Dkb2Dsa2T0Z2j8Y20AY20IX3EQW3UYV3UcU3kkT30sS30wS4E4R" +
  "4VAQ4VEP4lMO4lUN41cM5FgM5FoL5VwK5V0J5l8I5mEH52IH52QG6GYF6GcF6WkE6WsE6mwD6m4D6m8C63EC63MC7HQC7HYB7HgB7XkB7XsB7X0B" +
  "7n4B7oAB7oEB74MB74UC74YC8IgC8IoD8IsD8I0E8Y8F8ZAF8ZIG8ZMH8pUI8pcJ8pgK8poL8pwM850N858O86EP86IR86QS86YT86cU86kV86sW" +
  "9KwX9K4Z9K8a9LEb9LMc9LQd9LYf9Lgg9Lkh9Lsi9L0j9L8l9MAm9MIn9MQo88Up88cr88ks88ot88wu884w888x89Ey8tMz8tU18tY28tg38to5" +
  "8ds68d078d888eE+"
);
/** matplotlib:coolwarm */
const DIVERGING = decoded(
  "O0zAO0zAPE7CPVDDPlHFP1PGQFXIQlfJQ1jLRFrMRVzORl7PSF/RSWHSSmPTS2TVTGbWTmjYT2nZUGvaUW3bU27dVHDeVXLfVnPgWHXhWXfjWnjk" +
  "W3rlXXzmXn3nX3/oYYDpYoLqY4TrZIXsZoftZ4juaIrvaovva43wbI/xbpDyb5LzcJPzcpX0c5b1dZf2dpn2d5r3eZz4ep34e5/5faD5fqH6gKP6" +
  "gaT7gqb7hKf8haj8hqn8iKv9iaz9i639jK/+jbD+j7H+kLL+krT+k7X+lLb/lrf/l7j/mLn/mrv/m7z/nb3/nr7/n7//ocD/osH/o8L+pcP+psT+" +
  "p8X+qcb9qsf9q8j9rcn9rsn8r8r8scv8ssz7s837tc36ts76t8/5udD5utD4u9H4vNL3vtL2v9P2wNT1wdT0w9X0xNXzxdbyxtbxx9fwydfwytjv" +
  "y9juzNntzdnsztrrz9rq0drp0tvo09vn1Nvm1dvl1tzk19zj2Nzi2dzh2tzg29ze3dzc3tzb39vZ4NvY4drW4trV49nT5NnS5djR5tfP59fO6NbM" +
  "6dXL6tXJ6tTI69PG7NPF7dLD7dHC7tDA78+/78698M278c268cy48su38sq18sm088iy88ex9Mav9MWt9cSs9cKq9cGp9cCn9r+m9r6k9r2i97yh" +
  "97qf97me97ic97eb97WZ97SX97OW97GU97CT96+R962Q96yO96qM96mL96iJ96aI9qWG9qOF9qKD9aCB9Z+A9Z1+9Zx99Jp79Jh685d485V385R1" +
  "8pJ08pBy8Y9x8Y1v8Itu8Ips74hr7oZp7oRo7YNm7IFl7H9j631i6ntg6Xpf6Xhd6HZc53Rb5nJZ5XBY5G5W42xV42tU4mlS4WdR4GVP32NO3mFN" +
  "3V9L3F1K2lpJ2VhH2FZG11RF1lJE1VBC1E5B0ktA0Uk/0Ec9z0U8zUI7zEA6yz44yjs3yDg2xzY1xTM0xDAywy4xwSswwCgvviQuvR8tuxssuhYr" +
  "uBIqtw0otQkntAQm"
);

function decoded(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

/** The colours of the levels and, 0..255, how opaque each is: low values leave the image as it is. */
function findColours(isSigned, opacity) {
  const alphas = Uint8Array.from({ length: LEVELS }, (_, level) => {
    const value = isSigned ? (level - ZERO) / HALF : level / (LEVELS - 1);
    const share = Math.min(1, Math.abs(value) / FULL);
    return roundEven(255 * opacity * share * share * (3 - 2 * share));
  });
  return { palette: isSigned ? DIVERGING : SEQUENTIAL, alphas };
}

/** Desaturates what the model saw of the RGBA `data`, and makes the rest pale grey. */
function fade(data, width, height, { top, bottom, left, right }) {
  for (let y = 0; y < height; y++) {
    const isSeen = y >= top && y < bottom;
    for (let x = 0; x < width; x++) {
      const at = 4 * (y * width + x);
      const grey = (data[at] * 19595 + data[at + 1] * 38470 + data[at + 2] * 7471 + 0x8000) >> 16;
      if (isSeen && x >= left && x < right) {
        for (let channel = at; channel < at + 3; channel++) data[channel] = blend(data[channel], grey, DESATURATION);
      } else {
        data[at] = data[at + 1] = data[at + 2] = blend(grey, GREY, GREY_OPACITY);
      }
    }
  }
}

/** As Pillow blends bytes, in float32. */
function blend(one, other, share) {
  return Math.trunc(Math.fround(one + Math.fround(Math.fround(share) * (other - one))));
}

/** The means over so many cells, interpolated to the map's size again. */
function smoothed(map, size, cells) {
  return resample(resample(map, size, cells, FILTERS.box), cells, size, FILTERS.bicubic);
}

/** The values of a map that are in the window, without their places. */
function cut(map, width, { top, bottom, left, right }) {
  const values = new Float32Array((bottom - top) * (right - left));
  for (let row = top; row < bottom; row++) {
    values.set(map.subarray(row * width + left, row * width + right), (row - top) * (right - left));
  }
  return values;
}

function quantile(values, share) {
  values.sort();
  const place = share * (values.length - 1);
  const below = values[Math.floor(place)];
  return below + (values[Math.ceil(place)] - below) * (place - Math.floor(place));
}

function least(values) {
  return values.reduce((one, other) => Math.min(one, other), Infinity);
}

function most(values) {
  return values.reduce((one, other) => Math.max(one, other), -Infinity);
}

/** Halves to even, as Python and NumPy round. */
function roundEven(value) {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}

/** value / 255, rounded, as Pillow divides. */
function divide255(value) {
  return (((value + 128) >> 8) + value + 128) >> 8;
}

function imageOf(data, width, height) {
  return globalThis.ImageData ? new ImageData(data, width, height) : { data, width, height };
}
