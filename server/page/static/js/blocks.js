/** The blocks of a Markdown text that grows: what stands before the last one is not read again. */

import { lex } from "./markdown.js";

/** @typedef {import("../vendor/marked.js").Token} Token */

export class Blocks {
  #source = "";
  /** @type {Token[]} */
  #tokens = [];

  /**
   * @param {string} source
   * @param {boolean} whole nothing follows: links may be named behind where they are used, so all is read again
   * @returns {Token[]} each paragraph, list, table or piece of code with the source that it was made from
   */
  update(source, whole) {
    const text = source.replace(/\r\n?/g, "\n");
    const grows = !whole && text.startsWith(this.#source);
    const settled = grows ? this.#tokens.slice(0, this.#lastBlock()) : [];
    const read = settled.reduce((sum, { raw }) => sum + raw.length, 0);
    this.#tokens = [...settled, ...lex(text.slice(read))];
    this.#source = text;
    return this.#tokens.filter((token) => token.type !== "space");
  }

  /** Where the last one that is no space stands. */
  #lastBlock() {
    return Math.max(0, this.#tokens.findLastIndex((token) => token.type !== "space"));
  }
}
