/** Answers that are under way, each to its conversation, and those that will be asked for again in a moment. */

import { follow } from "./answer.js";
import { answering, prompt, requestBody, withLast } from "./conversation.js";
import { mayOverflow, messagesToOmit } from "./truncation.js";

/**
 * @typedef {import("./conversation.js").Conversation} Conversation
 * @typedef {import("./conversation.js").Message} Message
 * @typedef {import("./sampling.js").Sampling} Sampling
 * @typedef {import("./progress.js").Progress} Progress
 *
 * @typedef {object} Choices
 * @property {string} model
 * @property {Sampling} sampling
 * @property {{ model: string, id: string } | null} [task] where the model is a task: of which model, and which one
 * @property {number | null} [context] tokens of the model, where they are known
 *
 * @typedef {"began" | "shortened" | "piece" | "progress" | "ended" | "waiting"} Change
 *
 * @typedef {object} Run
 * @property {AbortController} [hangUp] while an answer comes
 * @property {ReturnType<typeof setInterval>} [clock] while it is waited to ask again
 * @property {number} left seconds of that
 * @property {number} tries how often it was asked again by itself
 * @property {Progress | null} progress of what is waited for
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
   * @param {Pick<import("./api.js").Api, "chat" | "runTask" | "count">} api
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

  /** What the server tells of a request of which nothing has come yet. @param {string} id */
  progress(id) {
    return this.#runs.get(id)?.progress ?? null;
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
    this.#runs.set(id, { hangUp, left: 0, tries, progress: null });
    const conversation = answering(before, choices.model, Date.now());
    this.#changed(id, "began", this.#library.keep(conversation));
    const done = await this.#answer(conversation, choices, hangUp.signal);
    this.#forget(id);
    const kept = this.#update(id, done, true);
    if (done.failure && done.failure.wait > 0 && tries < MOST_TRIES) this.#wait(id, choices, tries, done.failure.wait);
    this.#changed(id, "ended", kept);
  }

  /**
   * The oldest messages are left out where the whole is too long for the model.
   * @param {Conversation} conversation
   * @param {Choices} choices
   * @param {AbortSignal} signal
   */
  async #answer(conversation, choices, signal) {
    const shortens = !choices.task && mayOverflow(conversation.messages, choices.context);
    const ready = shortens ? await this.#shortened(conversation, choices, signal) : conversation;
    const done = await this.#follow(ready, choices, signal);
    if (done.failure?.kind !== "too_long" || choices.task || shortens) return done;
    const shorter = await this.#shortened(conversation, choices, signal);
    return shorter === conversation ? done : this.#follow(shorter, choices, signal);
  }

  /** @param {Conversation} conversation @param {Choices} choices @param {AbortSignal} signal */
  #follow(conversation, choices, signal) {
    const { id, messages } = conversation;
    const answer = /** @type {Message} */ (messages.at(-1));
    const { task } = choices;
    const variables = messages.at(-2)?.variables;
    const chunks =
      task && variables
        ? this.#api.runTask(task, variables, choices.sampling, signal)
        : this.#api.chat(requestBody(conversation, choices.model, choices.sampling), signal);
    return follow(chunks, answer.content, this.#now, this.#writer(id), (progress) => this.#progressed(id, progress));
  }

  /**
   * @param {Conversation} conversation
   * @param {Choices} choices
   * @param {AbortSignal} signal
   * @returns {Promise<Conversation>} the same where nothing can be left out, or nobody can tell
   */
  async #shortened(conversation, choices, signal) {
    const before = conversation.messages.at(-1)?.omitted ?? 0;
    const count = (/** @type {number} */ from) => this.#api.count({ model: choices.model, ...prompt(conversation, from) }, signal);
    // What goes wrong here goes wrong again with the request itself, which tells it.
    const omitted = await messagesToOmit(conversation.messages, before, count).catch(() => before);
    if (omitted === before) return conversation;
    this.#changed(conversation.id, "shortened", this.#update(conversation.id, { omitted }, true));
    return withLast(conversation, { omitted });
  }

  /** @param {string} id @param {Progress} progress */
  #progressed(id, progress) {
    const run = this.#runs.get(id);
    if (!run) return;
    run.progress = progress;
    this.#changed(id, "progress", true);
  }

  /** @param {string} id */
  #writer(id) {
    let written = this.#now();
    return (/** @type {Partial<Message>} */ change) => {
      const due = this.#now() - written >= WRITE_EVERY;
      if (due) written = this.#now();
      const run = this.#runs.get(id);
      if (run) run.progress = null;
      this.#changed(id, "piece", this.#update(id, change, due));
    };
  }

  /**
   * @param {string} id
   * @param {Partial<Message>} change of the last message
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
    this.#runs.set(id, { clock, left: seconds, tries, progress: null });
  }

  /** @param {string} id */
  #forget(id) {
    clearInterval(this.#runs.get(id)?.clock);
    this.#runs.delete(id);
  }
}
