/** The worker as an object with a promise for each call. */

/** What calls are rejected with that were under way when the engine was stopped. */
export class Stopped extends Error {}

export class Engine {
  #worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  #waiting = new Map();
  #next = 0;

  /** @param {(progress: {stage: string, loaded: number, total: number}) => void} onProgress */
  constructor(onProgress) {
    this.#worker.addEventListener("message", ({ data }) => {
      if (data.progress) return onProgress(data.progress);
      const { resolve, reject } = this.#waiting.get(data.id);
      this.#waiting.delete(data.id);
      return data.error === undefined ? resolve(data.result) : reject(new Error(data.error));
    });
    this.#worker.addEventListener("error", ({ message }) => {
      this.#reject(new Error(`the worker cannot go on: ${message ?? "it did not load"}`));
    });
  }

  /** Calls one of the functions in worker.js. */
  call(call, values) {
    return new Promise((resolve, reject) => {
      this.#waiting.set(this.#next, { resolve, reject });
      this.#worker.postMessage({ id: this.#next++, call, values });
    });
  }

  /** Ends whatever is under way. */
  stop() {
    this.#worker.terminate();
    this.#reject(new Stopped());
  }

  #reject(error) {
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }
}
