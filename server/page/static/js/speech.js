/** The language of the page and its theme: the two choices that hold for all of it. */

import { languageFor, localeFor, textIn } from "./texts.js";
import { byId, fillIn } from "./view/dom.js";

export class Speech {
  /** @type {import("./texts.js").Language} */
  language = "en";
  text = textIn("en");
  #preferences;
  #changed;

  /** @param {import("./preferences.js").Preferences} preferences @param {() => void} changed another language is spoken */
  constructor(preferences, changed) {
    this.#preferences = preferences;
    this.#changed = changed;
  }

  /** How dates are written. */
  get locale() {
    return localeFor(this.language, navigator.languages);
  }

  /** Take up what was chosen before, and whatever is chosen from now on. */
  start() {
    for (const name of /** @type {const} */ (["language", "theme"])) {
      const select = /** @type {HTMLSelectElement} */ (byId(name));
      select.value = this.#preferences.get(name);
      select.addEventListener("change", () => {
        this.#preferences.set(name, select.value);
        if (name === "language") this.#speak();
        else dispatchEvent(new Event("themechosen"));
      });
    }
    this.#speak();
  }

  #speak() {
    this.language = languageFor(this.#preferences.get("language"), navigator.languages);
    this.text = textIn(this.language);
    document.documentElement.lang = this.language === "zh" ? "zh-CN" : "en";
    fillIn(this.text);
    this.#changed();
  }
}
