/** What was chosen for all conversations, and the key; kept by the browser. */

/** @typedef {import("./conversation.js").Sampling} Sampling */

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

  /** @returns {Sampling} */
  get sampling() {
    const read = parsed(this.#local.getItem(`${this.#prefix}sampling`));
    return { maxTokens: number(read.maxTokens), topP: number(read.topP), temperature: number(read.temperature) };
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

/** @param {unknown} value */
function number(value) {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}
