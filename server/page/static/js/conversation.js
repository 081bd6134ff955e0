/** A conversation and what can be done with it. Pure: each function returns a new one. */

import { withFiles } from "./attachments.js";
import { samplingFields } from "./sampling.js";
import { split } from "./thinking.js";

/**
 * @typedef {object} Message
 * @property {"user" | "assistant"} role
 * @property {string} content
 * @property {number} [at] when it was sent or begun, milliseconds since 1970
 * @property {import("./attachments.js").TextFile[]} [files] that go with a question
 * @property {Record<string, string>} [variables] of a task that was filled field by field
 * @property {Record<string, string>} [labels] what those variables are called for people
 * @property {"" | "stop" | "length" | "stopped" | "broken"} [end] how an answer ended; "" while it comes
 * @property {import("./figures.js").Figures} [figures]
 * @property {import("./failure.js").FailureRecord} [failure]
 * @property {string} [model] who answered
 * @property {string} [reasoning] what the model thought, where the server told it apart
 * @property {number} [omitted] how many of the oldest messages the model was not sent
 * @property {import("./branches.js").Versions} [versions] what there was before it was edited or answered again
 */

/**
 * @typedef {object} Conversation
 * @property {string} id
 * @property {string} title empty until it is named or something is asked
 * @property {number} updated milliseconds since 1970
 * @property {string} system what the model is told before all else
 * @property {Message[]} messages those that are shown
 * @property {boolean} [pinned]
 * @property {import("./sampling.js").Sampling} [sampling]
 */

const TITLE_LENGTH = 40;

/**
 * @param {string} id
 * @param {number} now
 * @param {import("./sampling.js").Sampling} [sampling]
 * @returns {Conversation}
 */
export function begun(id, now, sampling = {}) {
  return { id, title: "", updated: now, system: "", messages: [], sampling };
}

/**
 * @param {string} content
 * @param {number} now
 * @param {Pick<Message, "files" | "variables" | "labels">} [extras]
 * @returns {Message}
 */
export function question(content, now, extras = {}) {
  const { files, variables, labels } = extras;
  return { role: "user", content, at: now, ...(files?.length && { files }), ...(variables && { variables }), ...(labels && { labels }) };
}

/** @param {Conversation} conversation @param {string | Message} asking @param {number} now @returns {Conversation} */
export function asked(conversation, asking, now) {
  const message = typeof asking === "string" ? question(asking, now) : asking;
  const title = conversation.title || titleOf(message.content) || (message.files?.[0]?.name ?? "");
  return { ...conversation, title, updated: now, messages: [...conversation.messages, message] };
}

/** Without the message at `index` and all that follow. @param {Conversation} conversation @param {number} index @returns {Conversation} */
export function cutAt(conversation, index) {
  return { ...conversation, messages: conversation.messages.slice(0, index) };
}

/**
 * With an answer to come, or the last one going on.
 * @param {Conversation} conversation
 * @param {string} model
 * @param {number} [now]
 * @returns {Conversation}
 */
export function answering(conversation, model, now) {
  const last = conversation.messages.at(-1);
  const before = last?.role === "assistant" ? last : undefined;
  /** @type {Message} */
  const answer = { role: "assistant", content: before?.content ?? "", end: "", model, ...(now && { at: now }) };
  if (before?.content && before.reasoning) answer.reasoning = before.reasoning;
  if (before?.versions) answer.versions = before.versions;
  const messages = before ? conversation.messages.slice(0, -1) : conversation.messages;
  // What no longer fitted then does not fit now.
  const omitted = before?.omitted ?? messages.findLast((message) => message.role === "assistant")?.omitted;
  if (omitted) answer.omitted = omitted;
  return { ...conversation, messages: [...messages, answer] };
}

/** With the last message changed. @param {Conversation} conversation @param {Partial<Message>} change @returns {Conversation} */
export function withLast(conversation, change) {
  const last = conversation.messages.at(-1);
  if (!last) return conversation;
  return { ...conversation, messages: [...conversation.messages.slice(0, -1), { ...last, ...change }] };
}

/** An answer that a closed page left unfinished counts as broken off. @param {Conversation} conversation @returns {Conversation} */
export function restored(conversation) {
  const last = conversation.messages.at(-1);
  return last?.role === "assistant" && last.end === "" ? withLast(conversation, { end: "broken" }) : conversation;
}

/**
 * What the model is sent of a conversation, from its message `omitted` on.
 * @param {Conversation} conversation
 * @param {number} [omitted]
 */
export function prompt(conversation, omitted = 0) {
  // Answers of which nothing came say nothing to the model.
  const messages = conversation.messages.slice(omitted).filter((message) => message.role === "user" || message.content !== "");
  const system = conversation.system.trim() ? [{ role: "system", content: conversation.system }] : [];
  const goesOn = messages.at(-1)?.role === "assistant";
  const last = messages.length - 1;
  return {
    // Thoughts are for one answer: models are not shown those of earlier ones.
    messages: [...system, ...messages.map((message, index) => ({ role: message.role, content: goesOn && index === last ? message.content : said(message) }))],
    ...(goesOn && { continue_final_message: true, add_generation_prompt: false }),
  };
}

/** @param {Message} message */
function said({ role, content, files }) {
  return role === "user" ? withFiles(content, files) : split(content).answer || content;
}

/**
 * The body of a request that answers the conversation, or goes on with its last answer.
 * @param {Conversation} conversation
 * @param {string} model
 * @param {import("./sampling.js").Sampling} sampling
 */
export function requestBody(conversation, model, sampling) {
  return {
    model,
    ...prompt(conversation, conversation.messages.at(-1)?.omitted),
    stream: true,
    stream_options: { include_usage: true },
    timings: true,
    return_progress: true,
    ...samplingFields(sampling),
  };
}

/** @param {string} text the first question */
export function titleOf(text) {
  const line = text.trim().split("\n", 1)[0].replace(/\s+/g, " ");
  const characters = [...line];
  return characters.length <= TITLE_LENGTH ? line : `${characters.slice(0, TITLE_LENGTH - 1).join("")}…`;
}
