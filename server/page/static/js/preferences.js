/** What was chosen for all conversations, and the key; kept by the browser. */

import { samplingOf } from "./sampling.js";

/** @typedef {import("./sampling.js").Sampling} Sampling */

export class Preferences {
  #local;
  #session;
  #prefix;

  /**
   * @param {Storage} local kept for good
   * @param {Storage} session forgotten with the tab
   * @param {string} prefix of the entries
   */
  constructor(local, session, prefix) {
    this.#local = local;
    this.#session = session;
    this.#prefix = prefix;
  }

  /** @param {"language" | "theme" | "model" | "current" | "options"} name */
  get(name) {
    return this.#local.getItem(this.#prefix + name) ?? "";
  }

  /** @param {"language" | "theme" | "model" | "current" | "options"} name @param {string} value */
  set(name, value) {
    this.#local.setItem(this.#prefix + name, value);
  }

  /** The figures of the last check of a task. @param {string} model by whose name the task answers */
  lastCheck(model) {
    return this.#local.getItem(`${this.#prefix}check.${model}`) ?? "";
  }

  /** @param {string} model @param {string} figures */
  keepCheck(model, figures) {
    this.#local.setItem(`${this.#prefix}check.${model}`, figures);
  }

  /** What new conversations begin with. @returns {Sampling} */
  get sampling() {
    return samplingOf(parsed(this.#local.getItem(`${this.#prefix}sampling`)));
  }

  set sampling(sampling) {
    this.#local.setItem(`${this.#prefix}sampling`, JSON.stringify(sampling));
  }

  get key() {
    return this.#session.getItem(`${this.#prefix}key`) ?? this.#local.getItem(`${this.#prefix}key`) ?? "";
  }

  /** @param {string} key empty forgets it @param {boolean} forGood beyond this tab */
  setKey(key, forGood) {
    for (const storage of [this.#local, this.#session]) storage.removeItem(`${this.#prefix}key`);
    if (key) (forGood ? this.#local : this.#session).setItem(`${this.#prefix}key`, key);
  }
}

/** @param {string | null} json @returns {Record<string, unknown>} */
function parsed(json) {
  try {
    return JSON.parse(json ?? "{}") ?? {};
  } catch {
    return {};
  }
}
