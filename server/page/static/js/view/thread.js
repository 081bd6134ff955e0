/** The messages of the conversation that is shown. */

import { byId, el } from "./dom.js";
import { MessageView } from "./message.js";
import { welcome } from "./welcome.js";

/**
 * @typedef {import("../conversation.js").Conversation} Conversation
 * @typedef {import("./message.js").MessageActions} MessageActions
 * @typedef {import("./answer.js").Answering} Answering
 *
 * @typedef {object} Offers what a conversation may begin with
 * @property {() => import("./welcome.js").Card[]} cards
 */

/** Pixels from the end that still count as being there. */
const NEAR = 60;
/** Drawing may take at most this share of the time. */
const SHARE = 2;

export class Thread {
  #root = byId("thread");
  #content = el("div", { class: "content" });
  #toEnd = byId("to-end");
  #actions;
  /** @type {MessageView[]} */
  #views = [];
  #id = "";
  #text;
  #frame = 0;
  #timer = 0;
  #rest = 0;
  /** Whether the end is in sight, and stays there. */
  #follows = true;

  /** @param {MessageActions & Offers} actions */
  constructor(actions) {
    this.#actions = actions;
    this.#text = actions.text();
    this.#root.append(this.#content);
    this.#root.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    this.#toEnd.addEventListener("click", () => this.scrollToEnd());
    // Also what is drawn later, as formulas are, is followed.
    const observer = new ResizeObserver(() => (this.#follows ? this.scrollToEnd() : this.#scrolled()));
    observer.observe(this.#content);
    observer.observe(this.#root);
  }

  /**
   * Show a whole conversation. What is there already is kept: only what changed is drawn.
   * @param {Conversation} conversation
   * @param {Answering} answering what goes on with its last answer
   */
  show(conversation, answering) {
    this.#settle();
    const top = this.#root.scrollTop;
    const { id, messages } = conversation;
    const text = this.#actions.text();
    // What a new conversation shows goes with its first message.
    if (id !== this.#id || text !== this.#text || !messages.length || !this.#views.length) this.#clear(id, text);
    for (const index of messages.keys()) this.#showMessage(conversation, index, answering);
    for (const { element } of this.#views.splice(messages.length)) element.remove();
    if (!messages.length) this.#content.replaceChildren(welcome(this.#actions.cards(), text));
    if (this.#follows) this.scrollToEnd();
    else this.#root.scrollTop = top;
  }

  /**
   * Show what changed in the last answer with the next frame, or later where drawing is slow.
   * @param {() => [Conversation, Answering]} latest
   */
  soon(latest) {
    if (this.#frame || this.#timer) return;
    const draw = () => {
      this.#timer = 0;
      this.#frame = requestAnimationFrame(() => {
        const started = performance.now();
        this.#frame = 0;
        this.update(...latest());
        this.#rest = SHARE * (performance.now() - started);
      });
    };
    if (this.#rest < 8) draw();
    else this.#timer = window.setTimeout(draw, this.#rest);
  }

  /** @param {Conversation} conversation @param {Answering} answering */
  update(conversation, answering) {
    const last = conversation.messages.length - 1;
    if (conversation.id !== this.#id || last < 0) return;
    this.#showMessage(conversation, last, answering);
  }

  /** Edit the last question. */
  editLast() {
    this.#views.findLast(({ role }) => role === "user")?.edit();
  }

  scrollToEnd() {
    // What is shown before the first message is read from its beginning.
    this.#follows = this.#views.length > 0;
    if (!this.#follows) return this.#root.scrollTo(0, 0);
    this.#root.scrollTop = this.#root.scrollHeight;
    this.#toEnd.hidden = true;
  }

  /** @param {Conversation} conversation @param {number} index @param {Answering} answering */
  #showMessage(conversation, index, answering) {
    const { messages } = conversation;
    const message = messages[index];
    const last = index === messages.length - 1;
    let view = this.#views[index];
    if (view?.role !== message.role) {
      const fresh = new MessageView(message.role, this.#actions);
      if (view) view.element.replaceWith(fresh.element);
      else this.#content.append(fresh.element);
      view = this.#views[index] = fresh;
    }
    const omitted = messages.findLast(({ role }) => role === "assistant")?.omitted ?? 0;
    view.update(message, { index, last, cut: index > 0 && index === omitted, running: answering.running, answering: last ? answering : null });
  }

  /** @param {string} id @param {import("../texts.js").Text} text */
  #clear(id, text) {
    [this.#id, this.#text, this.#views] = [id, text, []];
    this.#content.replaceChildren();
  }

  #settle() {
    cancelAnimationFrame(this.#frame);
    clearTimeout(this.#timer);
    [this.#frame, this.#timer, this.#rest] = [0, 0, 0];
  }

  #scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.#root;
    this.#follows = scrollHeight - scrollTop - clientHeight < NEAR;
    this.#toEnd.hidden = this.#follows || !this.#views.length;
  }
}
