/** Where the browser lets the page keep something; or memory, where it does not. */

/** @param {"localStorage" | "sessionStorage"} name @returns {{ storage: Storage, lasting: boolean }} */
export function storageOf(name) {
  try {
    const storage = window[name];
    const probe = "glmserve.probe";
    storage.setItem(probe, "");
    storage.removeItem(probe);
    return { storage, lasting: true };
  } catch {
    return { storage: new Memory(), lasting: false };
  }
}

/** A Storage that ends with the page. @implements {Storage} */
export class Memory {
  #values = new Map();

  get length() {
    return this.#values.size;
  }

  /** @param {number} index */
  key(index) {
    return [...this.#values.keys()][index] ?? null;
  }

  /** @param {string} name @returns {string | null} */
  getItem(name) {
    return this.#values.get(name) ?? null;
  }

  /** @param {string} name @param {string} value */
  setItem(name, value) {
    this.#values.set(name, String(value));
  }

  /** @param {string} name */
  removeItem(name) {
    this.#values.delete(name);
  }

  clear() {
    this.#values.clear();
  }
}
