/** Versions of a message: what there was before it was edited or answered again. Pure. */

/**
 * @typedef {import("./conversation.js").Conversation} Conversation
 * @typedef {import("./conversation.js").Message} Message
 *
 * @typedef {object} Versions the other versions of a message, each with all that followed it
 * @property {Message[][]} tails without the version that is shown
 * @property {number} at the place of the one that is shown among all of them
 */

/**
 * Put `message` where one is, as a new version; the old one is kept with all that followed it, unless it says nothing.
 * @param {Conversation} conversation
 * @param {number} index of the message
 * @param {Message} message
 * @returns {Conversation}
 */
export function branched(conversation, index, message) {
  const tails = allTails(conversation.messages, index).filter(([{ content, reasoning, files }]) => content !== "" || reasoning || files?.length);
  const versions = tails.length ? { versions: { tails, at: tails.length } } : {};
  return { ...conversation, messages: [...conversation.messages.slice(0, index), { ...message, ...versions }] };
}

/** @param {Message} message @returns {{ at: number, of: number }} which version this is, counted from 0, and of how many */
export function placeOf(message) {
  return { at: message.versions?.at ?? 0, of: 1 + (message.versions?.tails.length ?? 0) };
}

/**
 * Show another version of a message, with what followed that one.
 * @param {Conversation} conversation
 * @param {number} index of the message
 * @param {number} to place of the version
 * @returns {Conversation}
 */
export function switched(conversation, index, to) {
  const all = allTails(conversation.messages, index);
  const [chosen] = all.splice(to, 1);
  if (!chosen) return conversation;
  const [head, ...rest] = chosen;
  const shown = all.length ? { ...head, versions: { tails: all, at: to } } : head;
  return { ...conversation, messages: [...conversation.messages.slice(0, index), shown, ...rest] };
}

/** Every message of a conversation, also those of versions that are not shown. @param {Message[]} messages @returns {Message[]} */
export function everyMessage(messages) {
  return messages.flatMap((message) => [message, ...(message.versions?.tails ?? []).flatMap(everyMessage)]);
}

/** @param {Message[]} messages @param {number} index @returns {Message[][]} every version, the one that is shown at its place */
function allTails(messages, index) {
  const head = messages[index];
  if (!head) return [];
  const { versions, ...bare } = head;
  const tails = [...(versions?.tails ?? [])];
  tails.splice(versions?.at ?? 0, 0, [bare, ...messages.slice(index + 1)]);
  return tails;
}
