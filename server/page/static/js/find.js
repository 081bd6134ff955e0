/** Conversations in which something was said. Pure. */

import { everyMessage } from "./branches.js";

/** @typedef {import("./conversation.js").Conversation} Conversation */

/**
 * Those that have every word of `wanted` in their title or messages, whatever its case.
 * @param {Conversation[]} conversations
 * @param {string} wanted
 */
export function matching(conversations, wanted) {
  const words = folded(wanted).split(/\s+/).filter(Boolean);
  if (words.length === 0) return conversations;
  return conversations.filter((conversation) => {
    const said = folded(textOf(conversation));
    return words.every((word) => said.includes(word));
  });
}

/** @param {Conversation} conversation */
function textOf({ title, system, messages }) {
  return [title, system, ...everyMessage(messages).map(({ content }) => content)].join("\n");
}

/** Full-width letters are the same as narrow ones. @param {string} text */
function folded(text) {
  return text.normalize("NFKC").toLowerCase();
}
