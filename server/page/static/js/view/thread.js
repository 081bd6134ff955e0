/** The messages of the conversation that is shown. */

import { AnswerView } from "./answer.js";
import { copy } from "./copy.js";
import { byId, el, iconButton } from "./dom.js";
import { questionBody, questionEditor } from "./question.js";

/**
 * @typedef {import("../conversation.js").Conversation} Conversation
 * @typedef {import("../conversation.js").Message} Message
 *
 * @typedef {object} ThreadActions
 * @property {() => import("../texts.js").Text} text
 * @property {(what: string) => void} announce
 * @property {() => { label: string, choose: () => void }[]} suggestions what can be tried
 * @property {(index: number, content: string) => void} edited
 * @property {() => void} regenerate
 * @property {(message: Message) => boolean} canGoOn tasks begin their answers themselves
 * @property {() => void} retry from where it broke off, if that can be
 * @property {() => void} goOn
 * @property {() => void} cancel
 */

/** Pixels from the end that still count as being there. */
const NEAR = 60;

export class Thread {
  #root = byId("thread");
  #toEnd = byId("to-end");
  #actions;
  /** @type {AnswerView | null} of the last answer */
  #last = null;
  #frame = 0;

  /** @param {ThreadActions} actions */
  constructor(actions) {
    this.#actions = actions;
    this.#root.addEventListener("scroll", () => this.#markEnd());
    this.#toEnd.addEventListener("click", () => this.scrollToEnd());
  }

  /**
   * Show a whole conversation.
   * @param {Conversation} conversation
   * @param {boolean} running
   * @param {number} secondsLeft
   */
  show(conversation, running, secondsLeft) {
    cancelAnimationFrame(this.#frame);
    const [follows, top] = [this.#isAtEnd(), this.#root.scrollTop];
    this.#last = null;
    const { messages } = conversation;
    const elements = messages.map((message, index) => this.#element(message, index, index === messages.length - 1, running));
    this.#root.replaceChildren(...(elements.length ? elements : [this.#welcome()]));
    this.#refresh(conversation, running, secondsLeft);
    if (follows) this.scrollToEnd();
    else this.#root.scrollTop = top;
    this.#markEnd();
  }

  /** Show what changed in the last answer, at most once for each frame. @param {Conversation} conversation */
  soon(conversation) {
    cancelAnimationFrame(this.#frame);
    this.#frame = requestAnimationFrame(() => this.update(conversation, true, 0));
  }

  /** @param {Conversation} conversation @param {boolean} running @param {number} secondsLeft */
  update(conversation, running, secondsLeft) {
    const follows = this.#isAtEnd();
    this.#refresh(conversation, running, secondsLeft);
    if (follows) this.scrollToEnd();
    this.#markEnd();
  }

  /** @param {Conversation} conversation @param {boolean} running @param {number} secondsLeft */
  #refresh(conversation, running, secondsLeft) {
    const message = conversation.messages.at(-1);
    if (!this.#last || !message) return;
    const { retry, cancel } = this.#actions;
    const goesOn = message.content !== "" && this.#actions.canGoOn(message);
    this.#last.update(message, { running, secondsLeft, goesOn, retry, cancel });
  }

  scrollToEnd() {
    this.#root.scrollTop = this.#root.scrollHeight;
  }

  #isAtEnd() {
    return this.#root.scrollHeight - this.#root.scrollTop - this.#root.clientHeight < NEAR;
  }

  #markEnd() {
    this.#toEnd.hidden = this.#isAtEnd();
  }

  #welcome() {
    const text = this.#actions.text();
    const suggestions = this.#actions
      .suggestions()
      .map(({ label, choose }) => el("button", { type: "button", class: "small", text: label, click: choose }));
    return el(
      "div",
      { class: "welcome" },
      el("h2", { text: text("welcome") }),
      el("p", { text: text("welcomeText") }),
      el("div", { class: "suggestions" }, ...suggestions),
    );
  }

  /** @param {Message} message @param {number} index @param {boolean} last @param {boolean} running */
  #element(message, index, last, running) {
    const text = this.#actions.text();
    const name = message.role === "assistant" && message.model ? message.model : text(message.role);
    const article = el("article", { class: `message ${message.role}`, "aria-label": text(message.role) });
    article.append(el("p", { class: "who", text: name }));
    if (message.role === "user") article.append(questionBody(message.content));
    else article.append(...this.#answer(message, last));
    article.append(this.#row(message, index, last, running, article));
    return article;
  }

  /** @param {Message} message @param {boolean} last */
  #answer(message, last) {
    const text = this.#actions.text();
    const view = new AnswerView({ text, codeCopied: (code, button) => this.#copied(code, button) });
    if (last) this.#last = view;
    else view.update(message, { running: false, secondsLeft: 0, goesOn: false, retry: () => {}, cancel: () => {} });
    return view.elements;
  }

  /** @param {Message} message @param {number} index @param {boolean} last @param {boolean} running @param {HTMLElement} article */
  #row(message, index, last, running, article) {
    const text = this.#actions.text();
    const row = el("div", { class: "actions" });
    if (running && last) return row;
    const copying = iconButton("copy", text("copy"), () => this.#copied(message.content, copying));
    if (message.content) row.append(copying);
    if (message.role === "user") {
      if (!running) row.append(iconButton("edit", text("edit"), () => this.#edit(message, index, article)));
    } else if (last) {
      row.append(iconButton("regenerate", text("regenerate"), this.#actions.regenerate));
      const open = message.content && message.end && message.end !== "stop" && this.#actions.canGoOn(message);
      if (open && !message.failure) row.append(iconButton("goOn", text("goOn"), this.#actions.goOn));
    }
    return row;
  }

  /** @param {string} content @param {HTMLElement} button */
  async #copied(content, button) {
    const text = this.#actions.text();
    const done = await copy(content);
    this.#actions.announce(text(done ? "copied" : "notCopied"));
    button.classList.toggle("done", done);
    setTimeout(() => button.classList.remove("done"), 1500);
  }

  /** @param {Message} message @param {number} index @param {HTMLElement} article */
  #edit(message, index, article) {
    const shown = [...article.children];
    const { form, field } = questionEditor(message.content, this.#actions.text(), (content) => {
      if (content !== null) return this.#actions.edited(index, content);
      article.replaceChildren(...shown);
      /** @type {HTMLElement | null} */ (article.querySelector(".actions button:last-child"))?.focus();
    });
    article.replaceChildren(form);
    field.focus();
  }
}
