/** A conversation and what can be done with it. Pure: each function returns a new one. */

/**
 * @typedef {object} Message
 * @property {"user" | "assistant"} role
 * @property {string} content
 * @property {"" | "stop" | "length" | "stopped" | "broken"} [end] how an answer ended; "" while it comes
 * @property {import("./figures.js").Figures} [figures]
 * @property {import("./failure.js").FailureRecord} [failure]
 * @property {string} [model] who answered
 */

/**
 * @typedef {object} Conversation
 * @property {string} id
 * @property {string} title empty until it is named or something is asked
 * @property {number} updated milliseconds since 1970
 * @property {string} system what the model is told before all else
 * @property {Message[]} messages
 */

/**
 * @typedef {object} Sampling what was chosen; null leaves it to the model
 * @property {number | null} maxTokens
 * @property {number | null} topP
 * @property {number | null} temperature
 */

const TITLE_LENGTH = 40;

/** @param {string} id @param {number} now @param {string} [system] @returns {Conversation} */
export function begun(id, now, system = "") {
  return { id, title: "", updated: now, system, messages: [] };
}

/** @param {Conversation} conversation @param {string} text @param {number} now @returns {Conversation} */
export function asked(conversation, text, now) {
  const title = conversation.title || titleOf(text);
  return { ...conversation, title, updated: now, messages: [...conversation.messages, { role: "user", content: text }] };
}

/** Without the message at `index` and all that follow. @param {Conversation} conversation @param {number} index @returns {Conversation} */
export function cutAt(conversation, index) {
  return { ...conversation, messages: conversation.messages.slice(0, index) };
}

/** With an answer to come, or the last one going on. @param {Conversation} conversation @param {string} model @returns {Conversation} */
export function answering(conversation, model) {
  const last = conversation.messages.at(-1);
  /** @type {Message} */
  const answer = { role: "assistant", content: last?.role === "assistant" ? last.content : "", end: "", model };
  const before = last?.role === "assistant" ? conversation.messages.slice(0, -1) : conversation.messages;
  return { ...conversation, messages: [...before, answer] };
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
 * The body of a request that answers the conversation, or goes on with its last answer.
 * @param {Conversation} conversation
 * @param {string} model
 * @param {Sampling} sampling
 */
export function requestBody(conversation, model, sampling) {
  // Answers of which nothing came say nothing to the model.
  const messages = conversation.messages.filter((message) => message.role === "user" || message.content !== "");
  const system = conversation.system.trim() ? [{ role: "system", content: conversation.system }] : [];
  const goesOn = messages.at(-1)?.role === "assistant";
  return {
    model,
    messages: [...system, ...messages.map(({ role, content }) => ({ role, content }))],
    stream: true,
    stream_options: { include_usage: true },
    timings: true,
    ...(goesOn && { continue_final_message: true, add_generation_prompt: false }),
    ...(sampling.maxTokens !== null && { max_tokens: sampling.maxTokens }),
    ...(sampling.topP !== null && { top_p: sampling.topP }),
    ...(sampling.temperature !== null && { temperature: sampling.temperature }),
  };
}

/** @param {string} text the first question */
export function titleOf(text) {
  const line = text.trim().split("\n", 1)[0].replace(/\s+/g, " ");
  const characters = [...line];
  return characters.length <= TITLE_LENGTH ? line : `${characters.slice(0, TITLE_LENGTH - 1).join("")}…`;
}

/** @param {Conversation} conversation @param {(key: string) => string} text */
export function asMarkdown(conversation, text) {
  const system = conversation.system.trim() ? [`> ${conversation.system.trim().replaceAll("\n", "\n> ")}`] : [];
  const turns = conversation.messages.map(({ role, content }) => `## ${text(role)}\n\n${content}`);
  return `${[`# ${conversation.title}`, ...system, ...turns].join("\n\n")}\n`;
}

/** @param {Conversation} conversation as a file that says the same as a request would */
export function asJson(conversation) {
  const { title, system, messages } = conversation;
  const said = messages.map(({ role, content, model }) => ({ role, content, ...(model && { model }) }));
  const opening = system.trim() ? [{ role: "system", content: system }] : [];
  return `${JSON.stringify({ title, messages: [...opening, ...said] }, null, 2)}\n`;
}
