/** Formulas, by KaTeX. It is loaded when the first one comes, as most conversations have none. */

import { el } from "./dom.js";

/**
 * @typedef {{ render(tex: string, element: HTMLElement, options: object): void }} Katex
 */

const OPTIONS = { throwOnError: true, trust: false, strict: "ignore", maxSize: 20, maxExpand: 500 };
const MOST_KEPT = 300;

/** @type {Katex | null} */
let katex = null;
/** @type {Promise<void> | null} */
let loading = null;
/** Formulas that were drawn before: a paragraph is drawn again with each piece of it. @type {Map<string, Element>} */
const drawn = new Map();

/**
 * @param {string} tex
 * @param {boolean} display on lines of its own
 * @returns {HTMLElement} the source, until it can be drawn
 */
export function mathElement(tex, display) {
  const element = el("span", { class: display ? "math display" : "math", tabindex: display && "0", role: display && "math" }, el("code", { text: tex }));
  if (katex) draw(tex, display, element);
  else void load().then(() => draw(tex, display, element));
  return element;
}

function load() {
  loading ??= (async () => {
    document.head.append(el("link", { rel: "stylesheet", href: new URL("../../vendor/katex.css", import.meta.url).href }));
    await import("../../vendor/katex.js");
    katex = /** @type {any} */ (globalThis).katex;
  })().catch(() => {
    // Without a network the source stays; the next formula tries again.
    loading = null;
  });
  return loading;
}

/** @param {string} tex @param {boolean} display @param {HTMLElement} element */
function draw(tex, display, element) {
  if (!katex) return;
  const key = `${display} ${tex}`;
  let formula = drawn.get(key);
  if (!formula) {
    const frame = el("span");
    try {
      katex.render(tex, frame, { ...OPTIONS, displayMode: display });
    } catch {
      // What KaTeX does not know stays as it was written.
      return;
    }
    formula = /** @type {Element} */ (frame.firstElementChild);
    if (drawn.size >= MOST_KEPT) drawn.clear();
    drawn.set(key, formula);
  }
  element.replaceChildren(formula.cloneNode(true));
}
