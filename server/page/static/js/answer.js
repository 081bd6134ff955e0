/** One answer: the chunks of a stream become changes of a message. */

import { Failure } from "./failure.js";
import { Meter } from "./figures.js";
import { progressOf } from "./progress.js";

/**
 * @typedef {import("./conversation.js").Message} Message
 * @typedef {import("./figures.js").Told} Told
 */

/**
 * Follow a stream to its end, whatever that is.
 * @param {AsyncIterable<import("./api.js").Chunk>} chunks
 * @param {string} before what the answer has already, when it is gone on with
 * @param {() => number} now milliseconds
 * @param {(change: Partial<Message>) => void} changed called for each piece
 * @param {(progress: import("./progress.js").Progress) => void} [waits] called for what the server tells before the first
 * @returns {Promise<Partial<Message>>} how the message is in the end
 */
export async function follow(chunks, before, now, changed, waits = () => {}) {
  const meter = new Meter(now());
  /** @type {{ content: string, reasoning?: string }} */
  const said = { content: before };
  /** @type {Message["end"]} */
  let end = "broken";
  /** @type {Told} */
  let told = {};
  try {
    for await (const chunk of chunks) {
      const choice = chunk.choices?.[0];
      if (chunk.prompt_progress) waits(progressOf(chunk.prompt_progress));
      if (choice?.delta.content || choice?.delta.reasoning_content) {
        said.content += choice.delta.content ?? "";
        if (choice.delta.reasoning_content) said.reasoning = (said.reasoning ?? "") + choice.delta.reasoning_content;
        meter.piece(now());
        changed({ ...said, figures: meter.figures() });
      }
      if (choice?.finish_reason) end = choice.finish_reason === "length" ? "length" : "stop";
      if (chunk.usage) told = { usage: chunk.usage, timings: chunk.timings };
    }
  } catch (error) {
    return { ...said, figures: meter.figures(told), ...ended(/** @type {Error} */ (error)) };
  }
  return { ...said, end, figures: meter.figures(told), failure: undefined };
}

/** @param {Error} error @returns {Partial<Message>} */
function ended(error) {
  if (error.name === "AbortError") return { end: "stopped", failure: undefined };
  const failure = error instanceof Failure ? error : new Failure("server", error.message);
  return { end: "broken", failure: failure.record() };
}
