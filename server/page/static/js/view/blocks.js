/** A Markdown text on the screen: what is there already stays as it is while the rest is added. */

import { Blocks } from "../blocks.js";
import { htmlOf } from "../markdown.js";
import { CodeView } from "./code.js";
import { el } from "./dom.js";
import { mathElement } from "./math.js";
import { sanitised } from "./sanitised.js";

/**
 * @typedef {import("../../vendor/marked.js").Token} Token
 * @typedef {{ raw: string, element: HTMLElement, code: CodeView | null, language: string }} Shown
 */

/** Blocks in one part: with each piece of text the browser goes over the parts, and over the blocks of the last one. */
const PART = 24;
/** Elements within which the last line of a text may stand. */
const FRAMES = new Set("DIV P UL OL LI BLOCKQUOTE PRE CODE FIGURE TABLE THEAD TBODY TR TD TH H1 H2 H3 H4 H5 H6".split(" "));

export class TextView {
  #page;
  #blocks = new Blocks();
  /** @type {Shown[]} */
  #shown = [];
  /** Index of the last block. */
  #last = 0;
  #cursor = el("span", { class: "cursor" });
  element;

  /** @param {import("./code.js").Page} page @param {string} name of its class */
  constructor(page, name) {
    this.#page = page;
    this.element = el("div", { class: name });
  }

  /** @param {string} source @param {boolean} coming whether more may follow */
  update(source, coming) {
    this.#cursor.remove();
    const blocks = this.#blocks.update(source, !coming);
    const last = blocks.length - 1;
    const same = blocks.findIndex((block, index) => block.raw !== this.#shown[index]?.raw);
    const first = same < 0 ? blocks.length : same;
    blocks.slice(first).forEach((block, more) => this.#put(block, first + more, coming && first + more === last));
    for (const { element } of this.#shown.splice(blocks.length)) element.remove();
    for (const part of [...this.element.children].slice(Math.ceil(blocks.length / PART))) part.remove();
    // What was the last one until now has all of its text, and its colours with it.
    for (let index = Math.min(first, this.#last); index < blocks.length; index += 1) {
      if (index < last || !coming) this.#shown[index].code?.update(codeOf(blocks[index]), false);
    }
    this.#last = Math.max(0, last);
    if (coming) lastLine(this.element).append(this.#cursor);
  }

  /** @param {Token} block @param {number} index @param {boolean} coming */
  #put(block, index, coming) {
    const shown = this.#shown[index];
    if (shown?.code && block.type === "code" && shown.language === languageOf(block)) {
      shown.code.update(codeOf(block), coming);
      shown.raw = block.raw;
      return;
    }
    const fresh = this.#view(block, coming);
    if (shown) shown.element.replaceWith(fresh.element);
    else this.#partOf(index).append(fresh.element);
    this.#shown[index] = fresh;
  }

  /** @param {number} index of a block */
  #partOf(index) {
    const at = Math.floor(index / PART);
    if (!this.element.children[at]) this.element.append(el("div", { class: "part" }));
    return this.element.children[at];
  }

  /** @param {Token} block @param {boolean} coming @returns {Shown} */
  #view(block, coming) {
    const { raw } = block;
    const frame = el("div", { class: "block", dir: "auto" });
    const language = languageOf(block);
    if (block.type !== "code" || language === "math") {
      frame.append(sanitised(htmlOf(block)));
      this.#furnish(frame);
      return { raw, element: frame, code: null, language };
    }
    const code = new CodeView(language, this.#page);
    code.update(codeOf(block), coming);
    frame.append(code.element);
    return { raw, element: frame, code, language };
  }

  /** Formulas, code within lists, tables that are wider than the page. @param {HTMLElement} frame */
  #furnish(frame) {
    for (const code of frame.querySelectorAll("code.language-math, code.language-math-display")) {
      const pre = code.closest("pre");
      const formula = mathElement(code.textContent ?? "", Boolean(pre) || code.classList.contains("language-math-display"));
      (pre ?? code).replaceWith(formula);
    }
    for (const pre of frame.querySelectorAll("pre")) {
      const language = (pre.querySelector("code")?.className ?? "").replace("language-", "");
      const view = new CodeView(language, this.#page);
      view.update(pre.textContent ?? "", false);
      pre.replaceWith(view.element);
    }
    for (const table of frame.querySelectorAll("table")) {
      const scroll = el("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": this.#page.text("table") });
      table.replaceWith(scroll);
      scroll.append(table);
    }
  }
}

/** @param {Token} block */
function languageOf(block) {
  const [language = ""] = /^[\w+#.-]{1,30}/.exec("lang" in block ? (block.lang ?? "") : "") ?? [];
  return language;
}

/** @param {Token} block */
function codeOf(block) {
  const text = "text" in block ? String(block.text) : "";
  return text === "" || text.endsWith("\n") ? text : `${text}\n`;
}

/** The element that the text ends in. @param {HTMLElement} element @returns {Element} */
function lastLine(element) {
  /** @type {Element} */
  let last = element;
  while (last.lastElementChild && FRAMES.has(last.lastElementChild.tagName)) {
    const next = last.lastElementChild;
    // Text behind the last element: it ends here.
    if (last.lastChild !== next && last.lastChild?.textContent?.trim()) break;
    last = next;
  }
  return last;
}
