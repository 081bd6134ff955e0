/** The field in which a message is written, and the files that go with it. */

import { freeName, LONG_PASTE, MOST_BYTES, sizeText, textOf } from "../attachments.js";
import { choose } from "./copy.js";
import { byId, el, icon, iconButton } from "./dom.js";
import { sendsOnEnter } from "./keys.js";

/**
 * @typedef {import("../attachments.js").TextFile} TextFile
 *
 * @typedef {object} ComposerActions
 * @property {(content: string, files: TextFile[]) => void} send
 * @property {() => void} stop
 * @property {(key: string, values: Record<string, string>) => void} refused a file, with the reason
 */

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
  #list = byId("files");
  #actions;
  #text = /** @type {import("../texts.js").Text} */ ((key) => key);
  /** @type {TextFile[]} */
  #files = [];
  #running = false;

  /** @param {ComposerActions} actions */
  constructor(actions) {
    this.#actions = actions;
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#field.addEventListener("keydown", (event) => {
      // The keyboards of phones have no Shift+Enter.
      if (!sendsOnEnter(event) || onPhone()) return;
      event.preventDefault();
      this.#submit();
    });
    this.#field.addEventListener("input", () => this.#fit());
    this.#field.addEventListener("paste", (event) => this.#pasted(event));
    byId("attach").addEventListener("click", async () => {
      await this.#add(await choose("", true));
      this.focus();
    });
    this.#stop.addEventListener("click", () => {
      actions.stop();
      this.focus();
    });
    this.#takeDrops(document.documentElement);
    this.#fit();
  }

  /** @param {import("../texts.js").Text} text */
  speak(text) {
    this.#text = text;
    this.#showFiles();
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
   * @param {{ label: string, act: () => void }[]} buttons
   */
  hint({ description }, buttons) {
    const elements = buttons.map(({ label, act }) => el("button", { type: "button", class: "small", text: label, click: act }));
    this.#hint.replaceChildren(el("span", { text: description }), el("span", { class: "row" }, ...elements));
    this.#hint.hidden = !description && !buttons.length;
  }

  #submit() {
    const [content, files] = [this.#field.value, this.#files];
    if (this.#running || !(content.trim() || files.length)) return;
    this.#files = [];
    this.#showFiles();
    this.write("");
    this.#actions.send(content, files);
  }

  /** @param {ClipboardEvent} event */
  #pasted(event) {
    const files = [...(event.clipboardData?.files ?? [])];
    const text = event.clipboardData?.getData("text/plain") ?? "";
    if (!files.length && text.length < LONG_PASTE) return;
    event.preventDefault();
    if (files.length) void this.#add(files);
    else this.#keep(this.#text("pastedName"), text);
  }

  /** @param {File[]} files */
  async #add(files) {
    for (const file of files) {
      const text = file.size > MOST_BYTES ? null : textOf(new Uint8Array(await file.arrayBuffer()));
      if (text !== null) this.#keep(file.name, text);
      else this.#actions.refused(file.size > MOST_BYTES ? "fileTooLarge" : "fileNoText", { name: file.name });
    }
  }

  /** @param {string} name @param {string} text */
  #keep(name, text) {
    this.#files = [...this.#files, { name: freeName(this.#files, name), text }];
    this.#showFiles();
  }

  #showFiles() {
    this.#list.replaceChildren(...this.#files.map((file) => this.#chip(file)));
    this.#list.hidden = this.#files.length === 0;
    this.#fit();
  }

  /** @param {TextFile} file */
  #chip(file) {
    const remove = () => {
      this.#files = this.#files.filter((one) => one !== file);
      this.#showFiles();
      this.focus();
    };
    const size = el("small", { text: this.#text("characters", { count: sizeText(file.text.length) }) });
    return el("li", { class: "chip" }, icon("file"), el("span", { text: file.name }), size, iconButton("close", this.#text("removeFile", { name: file.name }), remove));
  }

  /** @param {HTMLElement} root */
  #takeDrops(root) {
    const has = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes("Files");
    root.addEventListener("dragover", (event) => {
      if (!has(event)) return;
      event.preventDefault();
      root.classList.add("dropping");
    });
    root.addEventListener("dragleave", (event) => {
      if (!event.relatedTarget) root.classList.remove("dropping");
    });
    root.addEventListener("drop", (event) => {
      if (!has(event)) return;
      event.preventDefault();
      root.classList.remove("dropping");
      void this.#add([...(event.dataTransfer?.files ?? [])]);
    });
  }

  #fit() {
    this.#send.disabled = !this.#field.value.trim() && this.#files.length === 0;
    this.#field.style.height = "auto";
    this.#field.style.height = `${Math.min(this.#field.scrollHeight, TALLEST)}px`;
  }
}
