/** An answer on the screen: what came already stays as it is while the rest is added. */

import { figuresLine } from "../figures.js";
import { blockElement, blocksOf } from "./markdown.js";
import { el } from "./dom.js";

/**
 * @typedef {import("../conversation.js").Message} Message
 * @typedef {object} Answering what goes on with it
 * @property {boolean} running
 * @property {number} secondsLeft until it is asked again by itself
 * @property {boolean} goesOn whether trying again goes on with what there is
 * @property {() => void} retry
 * @property {() => void} cancel
 */

const ENDS = /** @type {Record<string, string>} */ ({ length: "lengthEnd", stopped: "stoppedEnd", broken: "brokenEnd" });

export class AnswerView {
  #page;
  #body = el("div", { class: "body" });
  #state = el("div", { class: "state" });
  #figures = el("p", { class: "figures" });
  /** @type {string[]} the sources of the blocks that are shown */
  #shown = [];

  /** @param {Parameters<typeof blockElement>[1]} page */
  constructor(page) {
    this.#page = page;
    this.elements = [this.#body, this.#state, this.#figures];
  }

  /** @param {Message} message @param {Answering} answering */
  update(message, answering) {
    this.#write(message.content);
    this.#body.classList.toggle("coming", answering.running);
    this.#body.setAttribute("aria-busy", String(answering.running));
    this.#figures.textContent = message.figures ? figuresLine(message.figures, this.#page.text) : "";
    this.#state.replaceChildren(...this.#stateOf(message, answering));
  }

  /** @param {string} content */
  #write(content) {
    const blocks = blocksOf(content);
    const same = blocks.findIndex((block, index) => block.raw !== this.#shown[index]);
    const first = same < 0 ? blocks.length : same;
    while (this.#body.children.length > first) this.#body.lastElementChild?.remove();
    this.#body.append(...blocks.slice(first).map((block) => blockElement(block, this.#page)));
    this.#shown = blocks.map((block) => block.raw);
  }

  /** @param {Message} message @param {Answering} answering @returns {HTMLElement[]} */
  #stateOf(message, answering) {
    const { text } = this.#page;
    if (answering.running) return [];
    if (message.failure) return [this.#failure(message.failure, answering)];
    if (message.end === "stop" && message.content === "") return [el("p", { class: "end", text: text("empty") })];
    const end = ENDS[message.end ?? ""];
    return end ? [el("p", { class: "end", text: text(end) })] : [];
  }

  /**
   * @param {import("../failure.js").FailureRecord} failure
   * @param {Answering} answering
   */
  #failure(failure, { secondsLeft, goesOn, retry, cancel }) {
    const { text } = this.#page;
    const waits = secondsLeft > 0;
    const label = waits ? "retryNow" : goesOn ? "goOn" : "retry";
    return el(
      "div",
      { class: "failure" },
      el("p", { text: text(`failure.${failure.kind}`) }),
      ...(failure.detail ? [el("p", { class: "detail", text: failure.detail })] : []),
      el(
        "p",
        { class: "row" },
        el("button", { type: "button", class: "small", text: text(label), click: retry }),
        ...(waits ? [el("button", { type: "button", class: "small", text: text("cancel"), click: cancel })] : []),
        ...(waits ? [el("span", { text: text("retryIn", { seconds: secondsLeft }) })] : []),
      ),
    );
  }
}
