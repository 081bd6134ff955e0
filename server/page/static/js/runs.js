/** Answers that are under way, each to its conversation, and those that will be asked for again in a moment. */

import { follow } from "./answer.js";
import { answering, requestBody, withLast } from "./conversation.js";

/**
 * @typedef {import("./conversation.js").Sampling} Sampling
 * @typedef {{ model: string, sampling: Sampling }} Choices
 * @typedef {"began" | "piece" | "ended" | "waiting"} Change
 *
 * @typedef {object} Run
 * @property {AbortController} [hangUp] while an answer comes
 * @property {ReturnType<typeof setInterval>} [clock] while it is waited to ask again
 * @property {number} left seconds of that
 * @property {number} tries how often it was asked again by itself
 */

const MOST_TRIES = 3;
const WRITE_EVERY = 1000;

export class Runs {
  /** @type {Map<string, Run>} */
  #runs = new Map();
  #api;
  #library;
  #changed;
  #now;

  /**
   * @param {{ chat(body: object, signal: AbortSignal): AsyncIterable<import("./api.js").Chunk> }} api
   * @param {import("./library.js").Library} library
   * @param {(id: string, change: Change, kept: boolean) => void} changed `kept`: it could be written down
   * @param {() => number} now milliseconds
   */
  constructor(api, library, changed, now) {
    this.#api = api;
    this.#library = library;
    this.#changed = changed;
    this.#now = now;
  }

  /** @param {string} id */
  isRunning(id) {
    return this.#runs.get(id)?.hangUp !== undefined;
  }

  /** Seconds until it is asked again, 0 where it is not. @param {string} id */
  secondsLeft(id) {
    return this.#runs.get(id)?.left ?? 0;
  }

  /** End what is under way in a conversation. @param {string} id */
  stop(id) {
    const run = this.#runs.get(id);
    run?.hangUp?.abort();
    if (run?.clock === undefined) return;
    this.#forget(id);
    this.#changed(id, "ended", true);
  }

  /**
   * Answer what was asked last, or go on with the last answer.
   * @param {string} id
   * @param {Choices} choices
   * @param {number} [tries]
   */
  async start(id, choices, tries = 0) {
    const before = this.#library.get(id);
    if (!before || this.isRunning(id)) return;
    this.#forget(id);
    const hangUp = new AbortController();
    this.#runs.set(id, { hangUp, left: 0, tries });
    const conversation = answering(before, choices.model);
    this.#changed(id, "began", this.#library.keep(conversation));
    const chunks = this.#api.chat(requestBody(conversation, choices.model, choices.sampling), hangUp.signal);
    const done = await follow(chunks, conversation.messages.at(-1)?.content ?? "", this.#now, this.#writer(id));
    this.#forget(id);
    const kept = this.#update(id, done, true);
    if (done.failure && done.failure.wait > 0 && tries < MOST_TRIES) this.#wait(id, choices, tries, done.failure.wait);
    this.#changed(id, "ended", kept);
  }

  /** @param {string} id */
  #writer(id) {
    let written = this.#now();
    return (/** @type {Partial<import("./conversation.js").Message>} */ change) => {
      const due = this.#now() - written >= WRITE_EVERY;
      if (due) written = this.#now();
      this.#changed(id, "piece", this.#update(id, change, due));
    };
  }

  /**
   * @param {string} id
   * @param {Partial<import("./conversation.js").Message>} change of the last message
   * @param {boolean} write
   */
  #update(id, change, write) {
    const conversation = this.#library.get(id);
    // Deleted in the meantime.
    if (!conversation) return true;
    const changed = withLast(conversation, change);
    if (write) return this.#library.keep(changed);
    this.#library.put(changed);
    return true;
  }

  /** @param {string} id @param {Choices} choices @param {number} tries @param {number} seconds */
  #wait(id, choices, tries, seconds) {
    const clock = setInterval(() => {
      const run = this.#runs.get(id);
      if (!run) return;
      run.left -= 1;
      if (run.left <= 0) void this.start(id, choices, tries + 1);
      else this.#changed(id, "waiting", true);
    }, 1000);
    this.#runs.set(id, { clock, left: seconds, tries });
  }

  /** @param {string} id */
  #forget(id) {
    clearInterval(this.#runs.get(id)?.clock);
    this.#runs.delete(id);
  }
}
