/** The options of a conversation: system prompt, sampling; and the key. */

import { schemaOf, stopsOf, stopsTyped } from "../sampling.js";
import { byId, el, iconButton } from "./dom.js";

/**
 * @typedef {import("../sampling.js").Sampling} Sampling
 * @typedef {import("../sampling.js").Slider} Slider
 * @typedef {import("../texts.js").Text} Text
 *
 * @typedef {object} Shown
 * @property {string} id of the conversation
 * @property {string} system
 * @property {Sampling} sampling
 * @property {Slider[]} sliders
 * @property {boolean} hasKey
 *
 * @typedef {object} OptionActions
 * @property {(system: string) => void} system
 * @property {(sampling: Partial<Sampling>) => void} sampling
 * @property {(button: HTMLElement) => void} forNew takes what is chosen as what new conversations begin with
 * @property {() => void} changeKey
 * @property {() => void} forgetKey
 * @property {(open: boolean) => void} toggled
 */

/** Sliders that are always in sight. */
const FIRST = 3;

export class Options {
  #root = byId("options");
  #button = byId("toggle-options");
  #more = false;
  #id = "";
  #actions;

  /** @param {OptionActions} actions */
  constructor(actions) {
    this.#actions = actions;
    this.#button.addEventListener("click", () => this.toggle());
    this.#root.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      this.toggle(false);
      this.#button.focus();
    });
  }

  /** @param {boolean} [open] the other way round where it is not given */
  toggle(open = this.#root.hidden !== false) {
    this.#root.hidden = !open;
    this.#button.setAttribute("aria-expanded", String(open));
    this.#actions.toggled(open);
  }

  /** @param {Shown} shown @param {Text} text */
  show(shown, text) {
    // Models are looked at again and again while one is loaded: nobody is to lose the field that is typed into.
    if (shown.id === this.#id && this.#root.querySelector("textarea:focus, input:focus")) return;
    this.#id = shown.id;
    const close = iconButton("close", text("close"), () => {
      this.toggle(false);
      this.#button.focus();
    });
    const forNew = el("button", { type: "button", class: "small", text: text("forNew"), click: () => this.#actions.forNew(forNew) });
    const sliders = shown.sliders.map((slider) => this.#slider(slider, shown.sampling[slider.name] ?? null, text));
    this.#root.replaceChildren(
      el("header", {}, el("h2", { text: text("options") }), close),
      this.#system(shown.system, text),
      ...sliders.slice(0, FIRST),
      this.#rest(shown.sampling, sliders.slice(FIRST), text),
      forNew,
      this.#key(shown.hasKey, text),
    );
  }

  /** @param {Sampling} sampling @param {HTMLElement[]} sliders @param {Text} text */
  #rest(sampling, sliders, text) {
    const more = /** @type {HTMLDetailsElement} */ (
      el(
        "details",
        { class: "more" },
        el("summary", { text: text("moreOptions") }),
        ...sliders,
        this.#seed(sampling.seed ?? null, text),
        this.#stops(sampling.stop, text),
        this.#schema(sampling.schema ?? "", text),
      )
    );
    more.open = this.#more;
    more.addEventListener("toggle", () => (this.#more = more.open));
    return more;
  }

  /** @param {string} system @param {Text} text */
  #system(system, text) {
    const field = area("system", text("systemHere"), "5", system);
    field.addEventListener("input", () => this.#actions.system(field.value));
    return labelled(text("system"), field);
  }

  /** @param {number | null} seed @param {Text} text */
  #seed(seed, text) {
    const field = /** @type {HTMLInputElement} */ (el("input", { type: "number", id: "seed", step: "1", placeholder: text("seedHere") }));
    field.value = seed === null ? "" : String(seed);
    field.addEventListener("input", () => {
      const number = field.valueAsNumber;
      this.#actions.sampling({ seed: Number.isSafeInteger(number) ? number : null });
    });
    return labelled(text("seed"), field);
  }

  /** @param {string[] | null | undefined} stops @param {Text} text */
  #stops(stops, text) {
    const field = area("stop-strings", text("stopHere"), "2", stopsTyped(stops));
    field.addEventListener("input", () => this.#actions.sampling({ stop: stopsOf(field.value) }));
    return labelled(text("stopStrings"), field);
  }

  /** @param {string} schema @param {Text} text */
  #schema(schema, text) {
    const field = area("schema", '{"type": "object", "properties": {"name": {"type": "string"}}}', "4", schema);
    const wrong = el("p", { class: "wrong", role: "alert" });
    field.setAttribute("spellcheck", "false");
    field.addEventListener("input", () => {
      const valid = field.value.trim() === "" || schemaOf(field.value) !== null;
      field.setAttribute("aria-invalid", String(!valid));
      wrong.textContent = valid ? "" : text("schemaWrong");
      if (valid) this.#actions.sampling({ schema: field.value.trim() || null });
    });
    return el("div", {}, labelled(text("schema"), field), wrong);
  }

  /** @param {Slider} slider @param {number | null} chosen @param {Text} text */
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

  /** @param {boolean} hasKey @param {Text} text */
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
        el("button", { type: "button", class: "small", text: text(hasKey ? "keyChange" : "keyEnter"), click: changeKey }),
        ...(hasKey ? [forget] : []),
      ),
    );
  }
}

/** @param {string} id @param {string} placeholder @param {string} rows @param {string} value */
function area(id, placeholder, rows, value) {
  const field = /** @type {HTMLTextAreaElement} */ (el("textarea", { id, rows, placeholder }));
  field.value = value;
  return field;
}

/** @param {string} label @param {HTMLElement} field */
function labelled(label, field) {
  return el("label", { class: "field" }, el("span", { text: label }), field);
}
