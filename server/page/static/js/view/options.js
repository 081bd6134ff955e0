/** The options: system prompt, sampling, key. */

import { byId, el, iconButton } from "./dom.js";

/**
 * @typedef {import("../conversation.js").Sampling} Sampling
 * @typedef {object} Slider
 * @property {keyof Sampling} name
 * @property {number} least
 * @property {number} most
 * @property {number} step
 * @property {number} byModel where it stands while nothing is chosen
 *
 * @typedef {object} Shown
 * @property {string} system
 * @property {Sampling} sampling
 * @property {Slider[]} sliders
 * @property {boolean} hasKey
 */

export class Options {
  #root = byId("options");
  #button = byId("toggle-options");
  #actions;

  /**
   * @param {object} actions
   * @param {(system: string) => void} actions.system
   * @param {(sampling: Partial<Sampling>) => void} actions.sampling
   * @param {() => void} actions.changeKey
   * @param {() => void} actions.forgetKey
   * @param {(open: boolean) => void} actions.toggled
   */
  constructor(actions) {
    this.#actions = actions;
    this.#button.addEventListener("click", () => this.toggle(this.#root.hidden !== false));
    this.#root.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      this.toggle(false);
      this.#button.focus();
    });
  }

  /** @param {boolean} open */
  toggle(open) {
    this.#root.hidden = !open;
    this.#button.setAttribute("aria-expanded", String(open));
    this.#actions.toggled(open);
  }

  /** @param {Shown} shown @param {import("../texts.js").Text} text */
  show(shown, text) {
    const close = iconButton("close", text("close"), () => {
      this.toggle(false);
      this.#button.focus();
    });
    this.#root.replaceChildren(
      el("header", {}, el("h2", { text: text("options") }), close),
      this.#system(shown.system, text),
      ...shown.sliders.map((slider) => this.#slider(slider, shown.sampling[slider.name], text)),
      this.#key(shown.hasKey, text),
    );
  }

  /** @param {string} system @param {import("../texts.js").Text} text */
  #system(system, text) {
    const field = /** @type {HTMLTextAreaElement} */ (
      el("textarea", { id: "system", rows: "5", placeholder: text("systemHere") })
    );
    field.value = system;
    field.addEventListener("input", () => this.#actions.system(field.value));
    return el("label", { class: "field" }, el("span", { text: text("system") }), field);
  }

  /** @param {Slider} slider @param {number | null} chosen @param {import("../texts.js").Text} text */
  #slider(slider, chosen, text) {
    const { name, least, most, step, byModel } = slider;
    const range = /** @type {HTMLInputElement} */ (
      el("input", { type: "range", id: name, min: String(least), max: String(most), step: String(step), "aria-describedby": `${name}-note` })
    );
    const value = el("output", { for: name });
    const reset = iconButton("regenerate", text("reset"), () => show(null));
    const note = text(`${name}Note`);
    const noteElement = el("p", { class: "note", id: `${name}-note` });

    const show = (/** @type {number | null} */ number, told = true) => {
      range.value = String(number ?? byModel);
      value.textContent = step < 1 ? Number(range.value).toFixed(2) : range.value;
      noteElement.textContent = number === null ? `${note} · ${text("byModel")}` : note;
      reset.hidden = number === null;
      if (told) this.#actions.sampling({ [name]: number });
    };
    range.addEventListener("input", () => show(Number(range.value)));
    show(chosen, false);
    return el(
      "div",
      { class: "slider" },
      el("p", { class: "row" }, el("label", { for: name, text: text(name) }), reset, value),
      range,
      noteElement,
    );
  }

  /** @param {boolean} hasKey @param {import("../texts.js").Text} text */
  #key(hasKey, text) {
    const { changeKey, forgetKey } = this.#actions;
    const forget = el("button", { type: "button", class: "small", text: text("keyForget"), click: forgetKey });
    return el(
      "div",
      { class: "key" },
      el("h3", { text: text("key") }),
      el("p", { class: "note", text: text(hasKey ? "keySession" : "keyNone") }),
      el(
        "p",
        { class: "row" },
        el("button", { type: "button", class: "small", text: text("keyChange"), click: changeKey }),
        ...(hasKey ? [forget] : []),
      ),
    );
  }
}
