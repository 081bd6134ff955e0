/** Conversations as files, and back. Pure. */

import { withFiles } from "./attachments.js";
import { samplingOf } from "./sampling.js";

/**
 * @typedef {import("./conversation.js").Conversation} Conversation
 * @typedef {import("./conversation.js").Message} Message
 */

const KIND = "glmserve.conversations";
const ENDS = ["stop", "length", "stopped", "broken"];

/** @param {Conversation} conversation @param {(key: string) => string} text */
export function asMarkdown(conversation, text) {
  const system = conversation.system.trim() ? [`> ${conversation.system.trim().replaceAll("\n", "\n> ")}`] : [];
  const turns = conversation.messages.map(({ role, content, files }) => `## ${text(role)}\n\n${withFiles(content, files)}`);
  return `${[`# ${conversation.title}`, ...system, ...turns].join("\n\n")}\n`;
}

/** @param {Conversation} conversation as a file that says the same as a request would */
export function asJson(conversation) {
  const { title, system, messages } = conversation;
  const said = messages.map(({ role, content, files, model }) => ({ role, content: withFiles(content, files), ...(model && { model }) }));
  const opening = system.trim() ? [{ role: "system", content: system }] : [];
  return `${JSON.stringify({ title, messages: [...opening, ...said] }, null, 2)}\n`;
}

/** @param {Conversation[]} conversations all that is kept of them */
export function asArchive(conversations) {
  return `${JSON.stringify({ kind: KIND, version: 1, conversations }, null, 1)}\n`;
}

/**
 * The conversations of a file that `asArchive` or `asJson` made.
 * @param {string} file
 * @param {() => string} newId for those that have none
 * @param {number} now
 * @returns {Conversation[] | null} null where it is no such file
 */
export function fromFile(file, newId, now) {
  const read = parsed(file);
  if (Array.isArray(read?.conversations) && read.kind === KIND) {
    return read.conversations.flatMap((/** @type {unknown} */ one) => conversationOf(one, newId, now) ?? []);
  }
  const single = conversationOf(read, newId, now);
  return single && [single];
}

/**
 * Which of `read` are new here, or newer than what there is.
 * @param {Conversation[]} read
 * @param {(id: string) => Conversation | undefined} present
 */
export function newer(read, present) {
  return read.filter((conversation) => (present(conversation.id)?.updated ?? -1) < conversation.updated);
}

/** @param {string} file @returns {any} */
function parsed(file) {
  try {
    return JSON.parse(file);
  } catch {
    return null;
  }
}

/** @param {any} read @param {() => string} newId @param {number} now @returns {Conversation | null} */
function conversationOf(read, newId, now) {
  if (!Array.isArray(read?.messages)) return null;
  const system = read.messages[0]?.role === "system" ? string(read.messages[0].content) : string(read.system);
  return {
    id: /^[0-9a-f]{8,40}$/.test(read.id) ? read.id : newId(),
    title: string(read.title),
    updated: typeof read.updated === "number" ? read.updated : now,
    system,
    messages: messagesOf(read.messages),
    ...(read.pinned === true && { pinned: true }),
    ...(read.sampling && { sampling: samplingOf(read.sampling) }),
  };
}

/** @param {any[]} read @returns {Message[]} */
function messagesOf(read) {
  return read.filter((one) => (one?.role === "user" || one?.role === "assistant") && typeof one.content === "string").map(messageOf);
}

/** @param {any} read @returns {Message} */
function messageOf(read) {
  const { role, content } = read;
  const files = Array.isArray(read.files) ? read.files.map((/** @type {any} */ file) => ({ name: string(file?.name), text: string(file?.text) })) : [];
  const tails = Array.isArray(read.versions?.tails) ? read.versions.tails.filter(Array.isArray).map(messagesOf).filter((/** @type {Message[]} */ tail) => tail.length) : [];
  const at = Math.min(Math.max(0, Math.trunc(read.versions?.at) || 0), tails.length);
  return {
    role,
    content,
    ...(role === "assistant" && { end: ENDS.includes(read.end) ? read.end : "stop" }),
    ...(typeof read.model === "string" && { model: read.model }),
    ...(typeof read.reasoning === "string" && { reasoning: read.reasoning }),
    ...(typeof read.at === "number" && { at: read.at }),
    ...(isFigures(read.figures) && { figures: read.figures }),
    ...(typeof read.omitted === "number" && { omitted: read.omitted }),
    ...(isTexts(read.variables) && { variables: read.variables }),
    ...(isTexts(read.labels) && { labels: read.labels }),
    ...(files.length && { files }),
    ...(tails.length && { versions: { tails, at } }),
  };
}

/** @param {any} value */
function isFigures(value) {
  const numbers = [value?.tokens, value?.rate, value?.prompt, value?.cached, value?.first ?? 0];
  return numbers.every((one) => typeof one === "number");
}

/** @param {unknown} value */
function isTexts(value) {
  return Boolean(value) && typeof value === "object" && Object.values(value ?? {}).every((one) => typeof one === "string");
}

/** @param {unknown} value */
function string(value) {
  return typeof value === "string" ? value : "";
}
