/** The API key: asked for where the server wants one, and what was refused without it is tried again. */

import { askKey } from "./view/dialogs.js";

/**
 * @typedef {object} AccessActions
 * @property {() => import("./texts.js").Text} text
 * @property {() => void} load the models anew
 * @property {() => void} keyChanged
 * @property {() => void} keyWorks with a key that was just given
 */

export class Access {
  #preferences;
  #notice;
  #actions;
  /** Whether the key was given since the models were loaded last. */
  #fresh = false;
  #loaded = false;

  /**
   * @param {import("./preferences.js").Preferences} preferences
   * @param {import("./view/notice.js").Notice} notice
   * @param {AccessActions} actions
   */
  constructor(preferences, notice, actions) {
    this.#preferences = preferences;
    this.#notice = notice;
    this.#actions = actions;
  }

  /** The server told its models. */
  loaded() {
    this.#loaded = true;
    this.#notice.hide("access");
    if (!this.#fresh) return;
    this.#fresh = false;
    this.#actions.keyWorks();
  }

  /** @param {import("./failure.js").Failure} failure */
  notLoaded({ kind }) {
    this.#loaded = false;
    const text = this.#actions.text();
    if (kind === "key") return void this.ask(this.#preferences.key !== "");
    this.#notice.show(text(`failure.${kind ?? "server"}`), { about: "access", label: text("retry"), click: () => this.#actions.load() });
  }

  /** @param {boolean} wrong whether the server refused the key that there is */
  async ask(wrong) {
    const text = this.#actions.text();
    const answer = await askKey(text, wrong);
    if (answer) return this.#use(answer.key, answer.keep);
    // Otherwise what was refused says so itself.
    if (this.#loaded) return;
    this.#notice.show(text("failure.key"), { about: "access", label: text("keyEnter"), click: () => void this.ask(false) });
  }

  forget() {
    this.#preferences.setKey("", false);
    this.#actions.keyChanged();
    this.#actions.load();
  }

  /** @param {string} key @param {boolean} keep */
  #use(key, keep) {
    this.#preferences.setKey(key, keep);
    this.#fresh = true;
    this.#actions.keyChanged();
    this.#actions.load();
  }
}
