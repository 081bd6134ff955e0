/** The conversations that this browser keeps, each in an entry of its own. */

import { restored } from "./conversation.js";

/** @typedef {import("./conversation.js").Conversation} Conversation */

export class Library {
  #storage;
  #prefix;
  /** @type {Map<string, Conversation>} */
  #all = new Map();

  /**
   * @param {Storage} storage
   * @param {string} prefix of the entries, which tells pages of one origin apart
   */
  constructor(storage, prefix) {
    this.#storage = storage;
    this.#prefix = `${prefix}conversation.`;
    for (let index = 0; index < storage.length; index += 1) this.#read(storage.key(index) ?? "", restored);
  }

  /** The latest first. @returns {Conversation[]} */
  list() {
    return [...this.#all.values()].sort((one, other) => other.updated - one.updated);
  }

  /** @param {string} id */
  get(id) {
    return this.#all.get(id);
  }

  /** Have a conversation as it is now, to be written down by a later `keep`. @param {Conversation} conversation */
  put(conversation) {
    this.#all.set(conversation.id, conversation);
  }

  /**
   * Keep a conversation; one in which nothing was asked is not written down.
   * @param {Conversation} conversation
   * @returns {boolean} whether there was room to write it down
   */
  keep(conversation) {
    this.put(conversation);
    if (conversation.messages.length === 0 && !conversation.system) return true;
    try {
      this.#storage.setItem(this.#prefix + conversation.id, JSON.stringify(conversation));
      return true;
    } catch {
      return false;
    }
  }

  /** Remove all of them. */
  clear() {
    for (const id of [...this.#all.keys()]) this.remove(id);
  }

  /** @param {string} id */
  remove(id) {
    this.#all.delete(id);
    this.#storage.removeItem(this.#prefix + id);
  }

  /**
   * Take over what another window of this browser wrote or removed.
   * @param {string} key
   * @returns {string} the id of the conversation, or nothing
   */
  changedElsewhere(key) {
    if (!key.startsWith(this.#prefix)) return "";
    const id = key.slice(this.#prefix.length);
    if (this.#storage.getItem(key) === null) this.#all.delete(id);
    else this.#read(key, (conversation) => conversation);
    return id;
  }

  /** @param {string} key @param {(conversation: Conversation) => Conversation} taken as which it is taken over */
  #read(key, taken) {
    if (!key.startsWith(this.#prefix)) return;
    try {
      const read = JSON.parse(this.#storage.getItem(key) ?? "");
      if (isConversation(read)) this.#all.set(read.id, taken(read));
    } catch {
      // What is not ours to read stays as it is.
    }
  }
}

/** @param {any} read @returns {read is Conversation} */
function isConversation(read) {
  const texts = [read?.id, read?.title, read?.system];
  return texts.every((value) => typeof value === "string") && Array.isArray(read.messages);
}
