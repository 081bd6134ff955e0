/** The list of conversations. */

import { byId, el, icon } from "./dom.js";

/**
 * @typedef {import("../conversation.js").Conversation} Conversation
 * @typedef {"rename" | "asMarkdown" | "asJson" | "remove"} Deed
 */

/** @type {Deed[]} */
const DEEDS = ["rename", "asMarkdown", "asJson", "remove"];

export class Sidebar {
  #root = byId("sidebar");
  #list = byId("conversations");
  #opener = byId("open-sidebar");
  #actions;

  /** @param {{ open: (id: string) => void, begin: () => void, act: (id: string, deed: Deed) => void }} actions */
  constructor(actions) {
    this.#actions = actions;
    byId("new").addEventListener("click", () => {
      this.close();
      actions.begin();
    });
    this.#opener.addEventListener("click", () => this.#open());
    byId("close-sidebar").addEventListener("click", () => this.close());
    this.#root.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.#escape(event);
    });
    document.addEventListener("click", (event) => this.#clickedElsewhere(/** @type {Node} */ (event.target)));
  }

  /** @param {Conversation[]} conversations @param {string} current @param {import("../texts.js").Text} text */
  show(conversations, current, text) {
    this.#list.replaceChildren(...conversations.map((conversation) => this.#entry(conversation, current, text)));
  }

  close() {
    if (!this.#root.classList.contains("open")) return;
    this.#root.classList.remove("open");
    this.#opener.setAttribute("aria-expanded", "false");
    this.#opener.focus();
  }

  #open() {
    this.#root.classList.add("open");
    this.#opener.setAttribute("aria-expanded", "true");
    byId("close-sidebar").focus();
  }

  /** @param {Event} event */
  #escape(event) {
    event.stopPropagation();
    const menu = this.#list.querySelector("details[open]");
    menu?.removeAttribute("open");
    /** @type {HTMLElement | null} */ (menu?.querySelector("summary") ?? null)?.focus();
    if (!menu) this.close();
  }

  /** @param {Node} target */
  #clickedElsewhere(target) {
    for (const menu of this.#list.querySelectorAll("details[open]")) {
      if (!menu.contains(target)) menu.removeAttribute("open");
    }
    if (!this.#root.contains(target) && !this.#opener.contains(target)) this.#root.classList.remove("open");
  }

  /** @param {Conversation} conversation @param {string} current @param {import("../texts.js").Text} text */
  #entry({ id, title }, current, text) {
    const name = title || text("untitled");
    const open = () => {
      this.close();
      this.#actions.open(id);
    };
    const act = (/** @type {Deed} */ deed) => {
      menu.removeAttribute("open");
      this.#actions.act(id, deed);
    };
    const label = text("actionsFor", { title: name });
    const menu = el(
      "details",
      {},
      el("summary", { "aria-label": label, title: label }, icon("more")),
      el("div", { class: "menu" }, ...DEEDS.map((deed) => el("button", { type: "button", text: text(deed), click: () => act(deed) }))),
    );
    const link = el("button", { type: "button", class: "title", text: name, title: name, click: open });
    if (id === current) link.setAttribute("aria-current", "true");
    return el("li", { class: id === current && "current" }, link, menu);
  }
}
