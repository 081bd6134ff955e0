/** The choice of the model: models first, then the tasks of each. */

import { grouped } from "../models.js";
import { byId, el } from "./dom.js";

/** @typedef {import("../api.js").Model} Model */

const NOTES = /** @type {Record<string, string>} */ ({ ready: "", idle: "idle", loading: "loading" });

export class Picker {
  #select = /** @type {HTMLSelectElement} */ (byId("model"));
  #note = byId("model-note");
  #shown = "";

  /** @param {(id: string) => void} chosen */
  constructor(chosen) {
    this.#select.addEventListener("change", () => chosen(this.#select.value));
  }

  /**
   * @param {Model[]} models
   * @param {string} current
   * @param {import("../texts.js").Language} language
   * @param {import("../texts.js").Text} text
   */
  show(models, current, language, text) {
    const shown = JSON.stringify([models, current, language]);
    // A list that is open would close.
    if (shown === this.#shown) return;
    this.#shown = shown;
    const { plain, tasks } = grouped(models, language);
    const option = (/** @type {import("../models.js").Choice} */ choice) => el("option", { value: choice.id, text: choice.label });
    const groups = tasks.map(({ label, choices }) =>
      el("optgroup", { label: label ? text("tasksOf", { model: label }) : text("tasks") }, ...choices.map(option)),
    );
    const first = groups.length ? [el("optgroup", { label: text("models") }, ...plain.map(option))] : plain.map(option);
    this.#select.replaceChildren(...first, ...groups);
    this.#select.value = current;
    this.#select.disabled = models.length === 0;
    const state = models.find((model) => model.id === current)?.state ?? "ready";
    const note = NOTES[state] ?? "notReady";
    this.#note.textContent = note && text(note);
  }
}
