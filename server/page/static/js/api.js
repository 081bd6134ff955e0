/** The server, by its public API: which models there are, and answers as they come. */

import { Failure, failureOf } from "./failure.js";
import { samplingFields } from "./sampling.js";
import { EventParser } from "./sse.js";

/**
 * @typedef {object} Model an entry of /v1/models, as far as it is used here
 * @property {string} id
 * @property {string} [kind] "generation", "embedding" or "task"
 * @property {string} [state]
 * @property {string | null} [parent]
 * @property {number | null} [context_length]
 * @property {{ temperature: number, top_p: number, max_tokens: number, top_k?: number, repetition_penalty?: number } | null} [defaults]
 * @property {Task | null} [task]
 *
 * @typedef {{ zh: string, en: string }} Words
 *
 * @typedef {{ variables: Record<string, string> }} Example
 * @typedef {{ right: string[], answered: string[], counts: number[][] }} Confusion a row for each right label
 *
 * @typedef {object} Judgement of the answers to the examples of a task
 * @property {number} accuracy the share of right fields
 * @property {number} all_right the share of answers that are right in all fields
 * @property {{ name: string, kind: string, right: number, of: number, confusion: Confusion | null }[]} fields
 * @property {{ variables: Record<string, string>, is_right: boolean, fields: { name: string, right: string[], answered: string[] | null, is_right: boolean }[] }[]} answers
 *
 * @typedef {object} Task what a message to a task is put into
 * @property {string} id
 * @property {Words} title
 * @property {Words} description
 * @property {{ name: string, description?: Words, example: string, default?: string | null }[]} slots
 * @property {string | null} main_slot the one that the message fills
 */

/**
 * @typedef {object} Chunk a chunk of a streamed chat completion, as far as it is used here
 * @property {{ delta: { content?: string, reasoning_content?: string }, finish_reason: string | null }[]} [choices]
 * @property {import("./figures.js").Told["usage"] | null} [usage]
 * @property {import("./figures.js").Told["timings"]} [timings]
 * @property {Parameters<typeof import("./progress.js").progressOf>[0]} [prompt_progress]
 * @property {object} [error]
 */

export class Api {
  #base;
  #key;

  /**
   * @param {URL} base the folder that `v1/` lies in
   * @param {() => string} key the API key, or nothing
   */
  constructor(base, key) {
    this.#base = base;
    this.#key = key;
  }

  /** @returns {Promise<Model[]>} those that answer */
  async models() {
    const reply = await this.#fetch("v1/models?kind=all", {});
    const body = await reply.json();
    return body.data.filter((/** @type {Model} */ model) => model.kind !== "embedding");
  }

  /**
   * @param {object} body of /v1/chat/completions
   * @param {AbortSignal} signal hangs up
   * @returns {AsyncGenerator<Chunk>}
   */
  async *chat(body, signal) {
    const reply = await this.#fetch("v1/chat/completions", { method: "POST", body: JSON.stringify(body), signal });
    let done = false;
    for await (const data of events(reply)) {
      if (data === "[DONE]") {
        done = true;
        continue;
      }
      const chunk = JSON.parse(data);
      if (chunk.error) throw failureOf(503, chunk, null);
      yield chunk;
    }
    if (!done) throw new Failure("lost");
  }

  /**
   * Run a task whose variables are given by name. Told as chunks of a chat completion.
   * @param {{ model: string, id: string }} task
   * @param {Record<string, string>} variables
   * @param {import("./sampling.js").Sampling} sampling
   * @param {AbortSignal} signal
   * @returns {AsyncGenerator<Chunk>}
   */
  async *runTask({ model, id }, variables, sampling, signal) {
    const { max_tokens, stop: _stop, response_format: _format, ...fields } = samplingFields(sampling);
    const length = max_tokens === undefined ? {} : { max_output_tokens: max_tokens };
    const body = { model, prompt: { id, variables }, stream: true, store: false, ...length, ...fields };
    const reply = await this.#fetch("v1/responses", { method: "POST", body: JSON.stringify(body), signal });
    let done = false;
    for await (const data of events(reply)) {
      const event = JSON.parse(data);
      if (event.type === "response.output_text.delta") yield piece(event.delta, null);
      if (event.type === "response.failed") throw failureOf(503, { error: event.response.error }, null);
      if (event.type !== "response.completed" && event.type !== "response.incomplete") continue;
      done = true;
      yield { ...piece("", event.type === "response.completed" ? "stop" : "length"), usage: usageOf(event.response.usage) };
    }
    if (!done) throw new Failure("lost");
  }

  /** @param {string} id of a task @param {AbortSignal} signal @returns {Promise<Example[]>} */
  async examples(id, signal) {
    const reply = await this.#fetch(`v1/tasks/${encodeURIComponent(id)}/examples`, { signal });
    return (await reply.json()).data;
  }

  /** @param {string} id of a task @param {string[]} answers @param {AbortSignal} signal @returns {Promise<Judgement>} */
  async judge(id, answers, signal) {
    const body = JSON.stringify({ answers });
    return (await this.#fetch(`v1/tasks/${encodeURIComponent(id)}/judge`, { method: "POST", body, signal })).json();
  }

  /**
   * @param {object} body of a conversation, as `chat` gets it
   * @param {AbortSignal} signal
   * @returns {Promise<{ count: number, context: number }>} how many tokens its prompt has, and how many the model takes
   */
  async count(body, signal) {
    try {
      const reply = await this.#fetch("tokenize", { method: "POST", body: JSON.stringify(body), signal });
      const { count, max_model_len } = await reply.json();
      return { count, context: max_model_len };
    } catch (error) {
      if (error instanceof Failure && error.kind === "too_long") return { count: Infinity, context: 0 };
      throw error;
    }
  }

  /** @param {string} path @param {RequestInit} init */
  async #fetch(path, init) {
    /** @type {Record<string, string>} */
    const headers = init.body ? { "Content-Type": "application/json" } : {};
    if (this.#key()) headers.Authorization = `Bearer ${this.#key()}`;
    const reply = await fetch(new URL(path, this.#base), { ...init, headers, cache: "no-store" }).catch(unreachable);
    if (reply.ok) return reply;
    const body = await reply.json().catch(() => null);
    throw failureOf(reply.status, body, reply.headers.get("Retry-After"));
  }
}

/** @param {string} content @param {string | null} finish_reason @returns {Chunk} */
function piece(content, finish_reason) {
  return { choices: [{ delta: { content }, finish_reason }] };
}

/** @param {any} usage of a response @returns {Chunk["usage"]} */
function usageOf(usage) {
  const cached_tokens = usage?.input_tokens_details?.cached_tokens ?? 0;
  return { prompt_tokens: usage?.input_tokens ?? 0, completion_tokens: usage?.output_tokens ?? 0, prompt_tokens_details: { cached_tokens } };
}

/** @param {Response} reply @returns {AsyncGenerator<string>} the data of each event */
async function* events(reply) {
  if (!reply.body) throw new Failure("lost");
  const parser = new EventParser();
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read().catch(broken);
      if (done) return;
      yield* parser.feed(value);
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

/** @param {Error} error @returns {never} */
function unreachable(error) {
  throw error.name === "AbortError" ? error : new Failure("offline");
}

/** @param {Error} error @returns {never} */
function broken(error) {
  throw error.name === "AbortError" ? error : new Failure("lost");
}
