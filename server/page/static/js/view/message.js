/** One message on the screen, with what can be done with it. */

import { placeOf } from "../branches.js";
import { withFiles } from "../attachments.js";
import { moment } from "../dates.js";
import { canRegenerate } from "../failure.js";
import { split } from "../thinking.js";
import { AnswerView } from "./answer.js";
import { copied } from "./copy.js";
import { el, iconButton } from "./dom.js";
import { questionBody, questionEditor } from "./question.js";

/**
 * @typedef {import("../conversation.js").Message} Message
 * @typedef {import("./answer.js").Answering} Answering
 *
 * @typedef {object} MessageActions
 * @property {() => import("../texts.js").Text} text
 * @property {() => string} locale
 * @property {(what: string) => void} announce
 * @property {(index: number, content: string) => void} edited
 * @property {(index: number) => void} regenerate
 * @property {(index: number, to: number) => void} switchTo
 * @property {(message: Message) => boolean} isTask
 * @property {() => void} goOn
 *
 * @typedef {object} Place
 * @property {number} index
 * @property {boolean} last
 * @property {boolean} cut whether those before it are not sent to the model
 * @property {boolean} running whether an answer comes in this conversation
 * @property {Answering | null} answering what goes on with it, where it is the last one
 */

/** @type {Omit<Answering, "isTask">} */
const SETTLED = { running: false, secondsLeft: 0, progress: null, waitsFor: "", remedy: null, cancel: () => {} };

export class MessageView {
  #actions;
  #text;
  #answer;
  #cut = el("p", { class: "cut", hidden: true });
  #who = el("span", { class: "who" });
  #when = /** @type {HTMLTimeElement} */ (el("time"));
  #head = el("p", { class: "head" }, this.#who, this.#when);
  #row = el("div", { class: "actions" });
  /** @type {Message | null} */
  #message = null;
  #place = "";
  #editing = false;

  /** @param {Message["role"]} role @param {MessageActions} actions */
  constructor(role, actions) {
    this.role = role;
    this.#actions = actions;
    this.#text = actions.text();
    const page = { text: this.#text, copied: (/** @type {string} */ content, /** @type {HTMLElement} */ button) => this.#copied(content, button) };
    this.#answer = role === "assistant" ? new AnswerView(page) : null;
    const below = this.#answer ? el("div", { class: "foot" }, this.#answer.figures, this.#row) : this.#row;
    this.element = el("article", { class: `message ${role}`, "aria-label": this.#text(role) }, this.#cut, this.#head, ...(this.#answer?.elements ?? []), below);
  }

  /** @param {Message} message @param {Place} place */
  update(message, place) {
    const { answering } = place;
    const same = message === this.#message;
    if (this.#answer && (answering || !same)) this.#answer.update(message, { ...SETTLED, ...answering, isTask: this.#actions.isTask(message) });
    const where = JSON.stringify([place.index, place.last, place.cut, place.running, answering?.running]);
    // While an answer comes there is nothing to do with it, and its name stays.
    if (where === this.#place && (same || answering?.running)) return;
    [this.#message, this.#place] = [message, where];
    this.#showRest(message, place);
  }

  /** @param {Message} message @param {Place} place */
  #showRest(message, { index, last, cut, running }) {
    this.#cut.hidden = !cut;
    this.#cut.textContent = cut ? this.#text("omitted", { count: index }) : "";
    this.#who.textContent = this.role === "assistant" && message.model ? message.model : this.#text(this.role);
    if (message.at) {
      this.#when.dateTime = new Date(message.at).toISOString();
      this.#when.textContent = moment(message.at, Date.now(), this.#actions.locale());
    }
    if (!this.#answer && !this.#editing) this.#showQuestion(message);
    this.#row.replaceChildren(...(running && last ? [] : this.#buttons(message, index, last, running)));
  }

  /** @param {Message} message */
  #showQuestion(message) {
    const body = el("div", { class: "bodies" }, ...questionBody(message, this.#text));
    this.element.replaceChildren(this.#cut, this.#head, body, this.#row);
  }

  /** @param {Message} message @param {number} index @param {boolean} last @param {boolean} running @returns {HTMLElement[]} */
  #buttons(message, index, last, running) {
    const text = this.#text;
    const copying = iconButton("copy", text("copy"), () => this.#copied(textOf(message), copying));
    const buttons = textOf(message) ? [copying] : [];
    if (running) return [...this.#versions(message, index, running), ...buttons];
    if (message.role === "user") {
      if (!message.variables) buttons.push(iconButton("edit", text("edit"), () => this.#edit(message, index)));
    } else {
      if (canRegenerate(message)) buttons.push(iconButton("regenerate", text("regenerate"), () => this.#actions.regenerate(index)));
      const open = last && message.content && message.end && message.end !== "stop" && !this.#actions.isTask(message);
      if (open && !message.failure) buttons.push(iconButton("goOn", text("goOn"), this.#actions.goOn));
    }
    return [...this.#versions(message, index, running), ...buttons];
  }

  /** ‹ 2/3 › @param {Message} message @param {number} index @param {boolean} running @returns {HTMLElement[]} */
  #versions(message, index, running) {
    const { at, of } = placeOf(message);
    if (of < 2) return [];
    const step = (/** @type {string} */ icon, /** @type {string} */ label, /** @type {number} */ to) => {
      const button = /** @type {HTMLButtonElement} */ (iconButton(icon, this.#text(label), () => this.#switch(index, to, label)));
      button.disabled = running || to < 0 || to >= of;
      return button;
    };
    const place = el("span", { class: "place", role: "img", "aria-label": this.#text("versionOf", { at: at + 1, of }), text: `${at + 1}/${of}` });
    return [el("span", { class: "versions" }, step("back", "versionBefore", at - 1), place, step("forward", "versionAfter", at + 1))];
  }

  /** @param {number} index @param {number} to @param {string} label of the button that was pressed */
  #switch(index, to, label) {
    this.#actions.switchTo(index, to);
    // The buttons are new ones now.
    const buttons = /** @type {HTMLButtonElement[]} */ ([...this.#row.querySelectorAll(".versions button")]);
    const pressed = buttons.find((button) => button.getAttribute("aria-label") === this.#text(label));
    (pressed && !pressed.disabled ? pressed : buttons.find((button) => !button.disabled))?.focus();
  }

  /** @param {string} content @param {HTMLElement} button */
  async #copied(content, button) {
    this.#actions.announce(await copied(content, button, this.#text));
  }

  /** Edit the question, where it is one. */
  edit() {
    const [index] = JSON.parse(this.#place);
    if (this.#message && !this.#editing && this.role === "user") this.#edit(this.#message, index);
  }

  /** @param {Message} message @param {number} index */
  #edit(message, index) {
    this.#editing = true;
    const { form, field } = questionEditor(message.content, this.#text, (content) => {
      this.#editing = false;
      this.#showQuestion(message);
      if (content !== null) return this.#actions.edited(index, content);
      /** @type {HTMLElement | null} */ (this.#row.querySelector("button:last-child"))?.focus();
    });
    this.element.replaceChildren(form);
    field.focus();
  }
}

/** @param {Message} message @returns {string} what is copied of it */
function textOf({ role, content, files }) {
  return role === "user" ? withFiles(content, files) : split(content).answer || content;
}
