/** A line above the messages for what concerns the page as a whole. */

import { byId, el, iconButton } from "./dom.js";

/**
 * @typedef {{ about?: string, news?: boolean, label?: string, click?: () => void }} NoticeOptions
 *   `about`: what it is hidden with; `news`: nothing went wrong
 */

export class Notice {
  #root = byId("notice");
  #about = "";
  #close;

  /** @param {() => string} close the label of the button that closes it */
  constructor(close) {
    this.#close = close;
  }

  /** @param {string} message @param {NoticeOptions} [options] */
  show(message, { about = "", news = false, label, click } = {}) {
    const act = () => {
      this.#root.hidden = true;
      click?.();
    };
    const button = label && click ? [el("button", { type: "button", class: "small", text: label, click: act })] : [];
    this.#about = about;
    this.#root.classList.toggle("news", news);
    this.#root.replaceChildren(el("span", { text: message }), ...button, iconButton("close", this.#close(), () => this.hide(this.#about)));
    this.#root.hidden = false;
  }

  /** @param {string} about */
  hide(about) {
    if (about === this.#about) this.#root.hidden = true;
  }
}
