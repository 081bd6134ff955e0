/** An answer on the screen. */

import { figuresLine } from "../figures.js";
import { progressLine } from "../progress.js";
import { recordOf } from "../records.js";
import { split } from "../thinking.js";
import { TextView } from "./blocks.js";
import { el } from "./dom.js";

/**
 * @typedef {import("../conversation.js").Message} Message
 * @typedef {object} Answering what goes on with it
 * @property {boolean} running
 * @property {number} secondsLeft until it is asked again by itself
 * @property {import("../progress.js").Progress | null} progress of what is waited for
 * @property {string} waitsFor what else may be waited for, in words
 * @property {boolean} isTask whether a task answers, in which a record may be read
 * @property {{ label: string, act: () => void } | null} remedy what may help where it failed
 * @property {() => void} cancel
 */

const ENDS = /** @type {Record<string, string>} */ ({ length: "lengthEnd", stopped: "stoppedEnd", broken: "brokenEnd" });

export class AnswerView {
  #page;
  #body = el("div", { class: "body" });
  #summary = el("summary");
  #thought;
  #frame;
  #answer;
  #record = el("div", { class: "record scroll", tabindex: "0", role: "region" });
  #state = el("div", { class: "state" });
  figures = el("p", { class: "figures" });

  /** @param {import("./code.js").Page} page */
  constructor(page) {
    this.#page = page;
    this.#record.setAttribute("aria-label", page.text("table"));
    this.#thought = new TextView(page, "written");
    this.#answer = new TextView(page, "written");
    this.#frame = el("details", { class: "thought" }, this.#summary, this.#thought.element);
    this.#body.append(this.#answer.element);
    this.elements = [this.#body, this.#state];
  }

  /** @param {Message} message @param {Answering} answering */
  update(message, answering) {
    this.#state.replaceChildren(...this.#stateOf(message, answering));
    this.#write(message, answering);
    this.#body.setAttribute("aria-busy", String(answering.running));
    this.figures.textContent = message.figures ? figuresLine(message.figures, this.#page.text) : "";
  }

  /** @param {Message} message @param {Answering} answering */
  #write({ content, reasoning }, { running, isTask }) {
    const { thought, answer, thinking } = split(content, reasoning);
    const record = isTask ? recordOf(answer) : null;
    if (thought) {
      if (this.#body.firstChild !== this.#frame) this.#body.prepend(this.#frame);
      this.#summary.textContent = this.#page.text(thinking && running ? "thinking" : "thought");
      this.#thought.update(thought, running && thinking);
    }
    const shown = record ? this.#record : this.#answer.element;
    if (this.#body.lastChild !== shown) this.#body.lastChild?.replaceWith(shown);
    if (record) this.#record.replaceChildren(recordTable(record));
    // While nothing has come, what is waited for stands in its place.
    else this.#answer.update(answer, running && !thinking && Boolean(content || !this.#state.hasChildNodes()));
  }

  /** @param {Message} message @param {Answering} answering @returns {HTMLElement[]} */
  #stateOf(message, answering) {
    const { text } = this.#page;
    if (answering.running) return message.content || message.reasoning ? [] : this.#waiting(answering);
    if (message.failure) return [this.#failure(message.failure, answering)];
    if (message.end === "stop" && message.content === "") return [el("p", { class: "end", text: text("empty") })];
    const end = ENDS[message.end ?? ""];
    return end ? [el("p", { class: "end", text: text(end) })] : [];
  }

  /** @param {Answering} answering @returns {HTMLElement[]} */
  #waiting({ progress, waitsFor }) {
    if (!progress) return waitsFor ? [el("p", { class: "waiting", text: waitsFor })] : [];
    const line = el("p", { class: "waiting", text: progressLine(progress, this.#page.text) });
    if (progress.position > 0) return [line];
    const bar = el("progress", { "aria-label": this.#page.text("promptProgress"), max: String(progress.total), value: String(progress.read) });
    return [line, bar];
  }

  /**
   * @param {import("../failure.js").FailureRecord} failure
   * @param {Answering} answering
   */
  #failure(failure, { secondsLeft, remedy, cancel }) {
    const { text } = this.#page;
    const waits = secondsLeft > 0;
    const button = (/** @type {string} */ label, /** @type {() => void} */ click) => el("button", { type: "button", class: "small", text: label, click });
    const row = [
      ...(remedy ? [button(waits ? text("retryNow") : remedy.label, remedy.act)] : []),
      ...(waits ? [button(text("cancel"), cancel), el("span", { text: text("retryIn", { seconds: secondsLeft }) })] : []),
    ];
    return el(
      "div",
      { class: "failure" },
      el("p", { text: text(`failure.${failure.kind}`) }),
      ...(failure.detail ? [el("p", { class: "detail", text: failure.detail })] : []),
      ...(row.length ? [el("p", { class: "row" }, ...row)] : []),
    );
  }
}

/** @param {{ name: string, value: string }[]} record */
export function recordTable(record) {
  const rows = record.map(({ name, value }) => el("tr", {}, el("th", { scope: "row", text: name }), el("td", { text: value })));
  return el("table", {}, el("tbody", {}, ...rows));
}
