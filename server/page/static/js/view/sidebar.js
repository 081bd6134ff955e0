/** The list of conversations: searched, under dates, with marks of those that are being answered. */

import { grouped, moment } from "../dates.js";
import { matching } from "../find.js";
import { byId, el, icon } from "./dom.js";
import { openMenu } from "./menu.js";

/**
 * @typedef {import("../conversation.js").Conversation} Conversation
 * @typedef {"rename" | "pin" | "unpin" | "asMarkdown" | "asJson" | "remove"} Deed
 * @typedef {"shortcuts" | "exportAll" | "import" | "removeAll"} ListDeed
 *
 * @typedef {object} Shown
 * @property {Conversation[]} conversations the latest first
 * @property {string} current
 * @property {(id: string) => "" | "running" | "unread"} mark
 * @property {import("../texts.js").Text} text
 * @property {string} locale
 *
 * @typedef {object} SidebarActions
 * @property {(id: string) => void} open
 * @property {() => void} begin
 * @property {(id: string, deed: Deed) => void} act
 * @property {(deed: ListDeed) => void} actOnAll
 */

/** @type {ListDeed[]} */
const LIST_DEEDS = ["shortcuts", "exportAll", "import", "removeAll"];

export class Sidebar {
  #root = byId("sidebar");
  #list = byId("conversations");
  #search = /** @type {HTMLInputElement} */ (byId("search"));
  #opener = byId("open-sidebar");
  #actions;
  /** @type {Shown | null} */
  #shown = null;
  /** The conversation that Tab comes to: the list is one stop, and arrows go on from there. */
  #stop = "";

  /** @param {SidebarActions} actions */
  constructor(actions) {
    this.#actions = actions;
    byId("new").addEventListener("click", () => {
      this.close();
      actions.begin();
    });
    this.#opener.addEventListener("click", () => this.open());
    byId("close-sidebar").addEventListener("click", () => this.close());
    const more = byId("list-menu");
    more.addEventListener("click", () => this.#openListMenu(more));
    this.#search.addEventListener("input", () => this.#draw());
    this.#root.addEventListener("keydown", (event) => this.#key(event));
    document.addEventListener("click", ({ target }) => {
      const within = [this.#root, this.#opener, byId("menu"), byId("dialog")];
      if (!within.some((element) => element.contains(/** @type {Node} */ (target)))) this.#root.classList.remove("open");
    });
  }

  /** @param {Shown} shown */
  show(shown) {
    if (this.#shown?.current !== shown.current) this.#stop = shown.current;
    this.#shown = shown;
    this.#draw();
  }

  /** Ids in the order in which they stand here. @returns {string[]} */
  get order() {
    return this.#titles().map(({ dataset }) => dataset.id ?? "");
  }

  focusSearch() {
    this.open();
    this.#search.focus();
    this.#search.select();
  }

  open() {
    if (getComputedStyle(this.#opener).display === "none") return;
    this.#root.classList.add("open");
    this.#opener.setAttribute("aria-expanded", "true");
    byId("close-sidebar").focus();
  }

  close() {
    if (!this.#root.classList.contains("open")) return;
    this.#root.classList.remove("open");
    this.#opener.setAttribute("aria-expanded", "false");
    this.#opener.focus();
  }

  #draw() {
    if (!this.#shown) return;
    const { conversations, text, locale } = this.#shown;
    const focused = this.#list.contains(document.activeElement);
    const top = this.#list.scrollTop;
    const found = matching(conversations, this.#search.value);
    if (!found.some(({ id }) => id === this.#stop)) this.#stop = found[0]?.id ?? "";
    const groups = grouped(found, Date.now(), text, locale).map(({ label, conversations: within }) =>
      el("section", { "aria-label": label }, el("h2", { text: label }), el("ul", {}, ...within.map((one) => this.#entry(one)))),
    );
    const none = this.#search.value ? [el("p", { class: "note", text: text("nothingFound") })] : [];
    this.#list.replaceChildren(...(groups.length ? groups : none));
    this.#list.scrollTop = top;
    if (focused) this.#titles().find(({ dataset }) => dataset.id === this.#stop)?.focus();
  }

  /** @returns {HTMLElement[]} */
  #titles() {
    return [...this.#list.querySelectorAll(".title")].map((title) => /** @type {HTMLElement} */ (title));
  }

  /** @param {Conversation} conversation */
  #entry(conversation) {
    const { current, mark, text, locale } = /** @type {Shown} */ (this.#shown);
    const { id, title, updated } = conversation;
    const name = title || text("untitled");
    const tabindex = id === this.#stop ? "0" : "-1";
    const open = () => {
      this.close();
      this.#actions.open(id);
    };
    const state = mark(id);
    const link = el(
      "button",
      { type: "button", class: "title", "data-id": id, tabindex, title: `${name}\n${moment(updated, Date.now(), locale)}`, click: open },
      ...(state ? [el("span", { class: `mark ${state}`, role: "img", "aria-label": text(state) })] : []),
      el("span", { class: "name", text: name }),
    );
    if (id === current) link.setAttribute("aria-current", "true");
    const label = text("actionsFor", { title: name });
    const more = el("button", { type: "button", class: "icon more", tabindex, "aria-haspopup": "menu", "aria-expanded": "false", "aria-label": label, title: label }, icon("more"));
    more.addEventListener("click", () => this.#openMenu(more, conversation, label));
    return el("li", { class: id === current && "current" }, link, more);
  }

  /** @param {HTMLElement} button @param {Conversation} conversation @param {string} label */
  #openMenu(button, { id, pinned }, label) {
    const { text } = /** @type {Shown} */ (this.#shown);
    /** @type {Deed[]} */
    const deeds = ["rename", pinned ? "unpin" : "pin", "asMarkdown", "asJson", "remove"];
    openMenu(button, label, deeds.map((deed) => ({ label: text(deed), danger: deed === "remove", act: () => this.#actions.act(id, deed) })));
  }

  /** @param {HTMLElement} button */
  #openListMenu(button) {
    const { text } = /** @type {Shown} */ (this.#shown);
    // What is told of it then stands where the list covered it.
    const act = (/** @type {ListDeed} */ deed) => () => {
      this.close();
      this.#actions.actOnAll(deed);
    };
    openMenu(button, text("moreActions"), LIST_DEEDS.map((deed) => ({ label: text(deed), danger: deed === "removeAll", act: act(deed) })));
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (event.key === "Escape") {
      event.stopPropagation();
      if (!this.#search.value) return this.close();
      this.#search.value = "";
      return this.#draw();
    }
    const titles = this.#titles();
    const at = titles.findIndex((title) => title.parentElement?.contains(document.activeElement));
    if (at < 0 && !(event.target === this.#search && event.key === "ArrowDown")) return;
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: titles.length - 1 }[event.key];
    if (to === undefined || event.altKey) return this.#entryKey(event, titles[at]?.dataset.id ?? "");
    event.preventDefault();
    this.#moveTo(titles[Math.min(Math.max(to, 0), titles.length - 1)]);
  }

  /** @param {KeyboardEvent} event @param {string} id */
  #entryKey(event, id) {
    if (id && event.key === "F2") this.#actions.act(id, "rename");
    if (id && event.key === "Delete") this.#actions.act(id, "remove");
  }

  /** @param {HTMLElement | undefined} title */
  #moveTo(title) {
    if (!title) return;
    this.#stop = title.dataset.id ?? "";
    for (const button of this.#list.querySelectorAll("button")) button.tabIndex = title.parentElement?.contains(button) ? 0 : -1;
    title.focus();
  }
}
