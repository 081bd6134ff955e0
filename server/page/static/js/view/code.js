/** Pieces of code, coloured by highlight.js, which is loaded when the first one comes. */

import { el } from "./dom.js";
import { sanitisedCode } from "./sanitised.js";

/**
 * @typedef {object} Highlighter
 * @property {(name: string) => unknown} getLanguage
 * @property {(code: string, options: { language: string, ignoreIllegals: boolean }) => { value: string }} highlight
 *
 * @typedef {{ text: import("../texts.js").Text, copied: (content: string, button: HTMLElement) => void }} Page
 */

/** Milliseconds between two colourings of code that still comes, and characters past which it is left plain. */
const EVERY = 250;
const LONGEST = 60_000;

/** @type {Highlighter | null} */
let highlighter = null;
/** @type {Promise<void> | null} */
let loading = null;

function load() {
  loading ??= import("../../vendor/highlight.js")
    .then((module) => {
      highlighter = module.default;
    })
    .catch(() => {
      loading = null;
    });
  return loading;
}

export class CodeView {
  #code = el("code");
  /** What comes behind the part that has its colours. */
  #rest = document.createTextNode("");
  #text = "";
  #coloured = "";
  #coming = true;
  #due = 0;
  #language;

  /** @param {string} language @param {Page} page */
  constructor(language, page) {
    this.#language = language;
    const button = el("button", { type: "button", class: "small copy", text: page.text("copyCode") });
    button.addEventListener("click", () => page.copied(this.#text, button));
    this.element = el(
      "figure",
      { class: "code" },
      el("figcaption", {}, el("span", { text: language }), button),
      el("pre", { tabindex: "0" }, this.#code),
    );
    this.#code.append(this.#rest);
  }

  /** @param {string} text @param {boolean} coming whether more of it may follow */
  update(text, coming) {
    if (text === this.#text && coming === this.#coming) return;
    this.#text = text;
    this.#coming = coming;
    if (!text.startsWith(this.#coloured)) this.#plain();
    this.#rest.data = text.slice(this.#coloured.length);
    if (!this.#language || text.length > LONGEST) return;
    if (highlighter) this.#colour(coming);
    else void load().then(() => this.#colour(this.#coming));
  }

  #plain() {
    this.#coloured = "";
    this.#code.replaceChildren(this.#rest);
  }

  /** @param {boolean} coming */
  #colour(coming) {
    const now = performance.now();
    if (!highlighter?.getLanguage(this.#language) || (coming && now < this.#due)) return;
    const { value } = highlighter.highlight(this.#text, { language: this.#language, ignoreIllegals: true });
    this.#coloured = this.#text;
    this.#rest.data = "";
    this.#code.replaceChildren(sanitisedCode(value), this.#rest);
    this.#due = now + EVERY + 5 * (performance.now() - now);
  }
}
