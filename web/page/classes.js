/** The table of classes: their probabilities, and a button for each that asks for its heatmap. */

const SHOWN = 10; // classes without a search
const FOUND = 50; // classes that a search lists

const body = document.getElementById("classes");
const find = document.getElementById("find");
const more = document.getElementById("more");

export class Classes {
  #predictions = [];
  #chosen;
  #onChoice;

  /** @param {(index: number) => void} onChoice Called with the class whose button was pressed. */
  constructor(onChoice) {
    this.#onChoice = onChoice;
    find.addEventListener("input", () => this.#draw());
    body.addEventListener("keydown", (event) => moveFocus(event));
  }

  /**
   * @param {import("../onnxplain.js").Prediction[]} predictions Of all classes, best first.
   * @param {number} chosen The class that is explained.
   */
  show(predictions, chosen) {
    this.#predictions = predictions;
    this.#chosen = chosen;
    find.hidden = predictions.length <= SHOWN;
    this.#draw();
  }

  /** Empties the table, as for another model. */
  clear() {
    find.value = "";
    this.show([], null);
    more.hidden = true;
  }

  #draw() {
    const wanted = find.value.trim().toLowerCase();
    const found = this.#predictions.filter(({ label }) => label.toLowerCase().includes(wanted));
    const listed = found.slice(0, wanted ? FOUND : SHOWN);
    const chosen = this.#predictions.find(({ index }) => index === this.#chosen);
    if (!wanted && chosen && !listed.includes(chosen)) listed.push(chosen);
    const focused = document.activeElement?.dataset?.index;
    body.replaceChildren(...listed.map((prediction) => this.#row(prediction)));
    body.querySelector(`[data-index="${focused}"]`)?.focus();
    const rest = found.length - listed.length;
    more.hidden = rest === 0 && found.length > 0;
    const hint = wanted ? "" : "; type a part of a name to find one";
    more.textContent = found.length ? `and ${rest} more${hint}` : "no class has that in its name";
  }

  #row({ index, label, probability }) {
    const row = document.createElement("tr");
    const button = document.createElement("button");
    button.type = "button";
    button.className = "class";
    button.dataset.index = index;
    button.setAttribute("aria-pressed", String(index === this.#chosen));
    button.style.setProperty("--share", `${100 * probability}%`);
    button.append(inSpan(label));
    button.addEventListener("click", () => this.#onChoice(index));
    row.insertCell().append(button);
    row.insertCell().append(inSpan(percent(probability)));
    return row;
  }
}

/** A share as people read it: 97.5 %. */
export function percent(share) {
  return `${(100 * share).toFixed(1)}\u00a0%`;
}

function inSpan(text) {
  const span = document.createElement("span");
  span.textContent = text;
  return span;
}

function moveFocus(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step) return;
  const buttons = [...body.querySelectorAll("button")];
  buttons[buttons.indexOf(event.target) + step]?.focus();
  event.preventDefault();
}
