/** The field in which a message is written. */

import { byId, el } from "./dom.js";
import { sendsOnEnter } from "./keys.js";

/** Pixels that the field may grow to. */
const TALLEST = 220;

function onPhone() {
  return matchMedia("(pointer: coarse)").matches;
}

export class Composer {
  #field = /** @type {HTMLTextAreaElement} */ (byId("prompt"));
  #send = /** @type {HTMLButtonElement} */ (byId("send"));
  #stop = byId("stop");
  #hint = byId("hint");
  #running = false;

  /** @param {{ send: (content: string) => void, stop: () => void }} actions */
  constructor(actions) {
    const submit = () => {
      if (this.#running || !this.#field.value.trim()) return;
      const content = this.#field.value;
      this.write("");
      actions.send(content);
    };
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      submit();
    });
    this.#field.addEventListener("keydown", (event) => {
      // The keyboards of phones have no Shift+Enter.
      if (!sendsOnEnter(event) || onPhone()) return;
      event.preventDefault();
      submit();
    });
    this.#field.addEventListener("input", () => this.#fit());
    this.#stop.addEventListener("click", () => {
      actions.stop();
      this.focus();
    });
    this.#fit();
  }

  /** @param {string} content */
  write(content) {
    this.#field.value = content;
    this.#fit();
  }

  /** Where to go on from; not the field on a phone, whose keyboard would cover the answer. */
  focus() {
    (onPhone() ? byId("thread") : this.#field).focus();
  }

  /** @param {boolean} running */
  show(running) {
    const focused = document.activeElement;
    const held = focused === this.#stop || focused === this.#send;
    this.#running = running;
    this.#send.hidden = running;
    this.#stop.hidden = !running;
    this.#fit();
    // A button that vanishes would take the focus with it.
    if (held) this.focus();
  }

  /**
   * Say what a task is for.
   * @param {import("../models.js").TaskHint} hint
   * @param {string} label of the button that inserts its example
   */
  hint({ description, example }, label) {
    const insert = () => {
      this.write(example);
      this.focus();
    };
    const button = el("button", { type: "button", class: "small", text: label, click: insert });
    this.#hint.replaceChildren(el("span", { text: description }), ...(example ? [button] : []));
    this.#hint.hidden = !description && !example;
  }

  #fit() {
    this.#send.disabled = !this.#field.value.trim();
    this.#field.style.height = "auto";
    this.#field.style.height = `${Math.min(this.#field.scrollHeight, TALLEST)}px`;
  }
}
