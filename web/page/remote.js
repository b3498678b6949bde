/** Explains with the server that the page is from: in place of the module's Explainer, which runs the model here. */

import { Explanation, OnnxplainError, place } from "./onnxplain.js";

export class RemoteExplainer {
  #model;

  /** @param {object} model Of page.json. */
  constructor(model) {
    this.#model = model;
    this.metadata = { preprocessing: model.preprocessing, labels: { length: model.classes } };
  }

  /** As Explainer.explain does, of the file that the image was read from. */
  async explain(image, { file, target, method }) {
    const { name, classes, preprocessing, patch_grid: grid } = this.#model;
    const query = new URLSearchParams({ model: name, method, target, top_k: classes, map: "input" });
    const response = await this.#ask(`explain?${query}`, file);
    const { predictions, width, height, explanations: [found] } = response;
    if (width !== image.width || height !== image.height) {
      throw new OnnxplainError(`the server reads this image with ${width} x ${height} pixels; save it in another format`);
    }
    return new Explanation({
      image,
      map: readMap(found.map),
      isPlaced: false,
      placement: place(image, preprocessing),
      grid,
      target: found.target,
      label: found.label,
      score: found.score,
      predictions,
      method: found.method,
    });
  }

  async #ask(address, body) {
    let response;
    try {
      response = await fetch(address, { method: "POST", body, headers: { accept: "application/json" } });
    } catch {
      throw new OnnxplainError("the server cannot be reached");
    }
    const document = await response.json().catch(() => ({ error: `the server answers ${response.status}` }));
    if (!response.ok) throw new OnnxplainError(document.error);
    return document;
  }
}

function readMap({ b64 }) {
  const bytes = Uint8Array.from(atob(b64), (letter) => letter.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  return Float32Array.from({ length: bytes.length / 4 }, (_, at) => view.getFloat32(4 * at, true));
}
