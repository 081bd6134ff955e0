/** The models that the server has, looked at again while one of them is being loaded. */

/**
 * @typedef {import("./api.js").Model} Model
 * @typedef {import("./failure.js").Failure} Failure
 */

const LOOK_MS = 1500;
/** States in which something goes on that is worth to look at again. */
const UNSETTLED = new Set(["loading", "restarting", "unreachable"]);

export class Served {
  /** @type {Model[]} */
  list = [];
  #api;
  #changed;
  #failed;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /**
   * @param {{ models(): Promise<Model[]> }} api
   * @param {() => void} changed
   * @param {(failure: Failure) => void} failed
   */
  constructor(api, changed, failed) {
    this.#api = api;
    this.#changed = changed;
    this.#failed = failed;
  }

  /** @param {string | undefined} id @returns {Model | undefined} */
  find(id) {
    return this.list.find((model) => model.id === id);
  }

  /** The one that does the work: of a task, the model that it belongs to. @param {Model | undefined} model */
  worker(model) {
    return model?.task ? (this.find(model.parent ?? "") ?? model) : model;
  }

  async load() {
    clearTimeout(this.#timer);
    try {
      this.list = await this.#api.models();
    } catch (error) {
      return this.#failed(/** @type {Failure} */ (error));
    }
    this.#changed();
    if (this.list.some(({ state = "" }) => UNSETTLED.has(state))) this.soon();
  }

  /** Look again in a moment: a request may have started to load a model. */
  soon() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.load(), LOOK_MS);
  }
}
