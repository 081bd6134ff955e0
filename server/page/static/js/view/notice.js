/** A line above the messages for what concerns the page as a whole. */

import { byId, el } from "./dom.js";

export class Notice {
  #root = byId("notice");

  /** @param {string} message @param {string} [label] of a button @param {() => void} [click] */
  show(message, label, click) {
    const button = label && click ? [el("button", { type: "button", class: "small", text: label, click })] : [];
    this.#root.replaceChildren(el("span", { text: message }), ...button);
    this.#root.hidden = false;
  }

  hide() {
    this.#root.hidden = true;
  }
}
