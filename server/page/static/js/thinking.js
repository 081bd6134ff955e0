/** What a model thought before it answered: told apart by the server, or between <think> and </think>. Pure. */

const OPEN = /^\s*<think>/;
const CLOSE = "</think>";

/**
 * @param {string} content of an answer
 * @param {string} [reasoning] that the server told apart from it
 * @returns {{ thought: string, answer: string, thinking: boolean }} `thinking`: the thought has no end yet
 */
export function split(content, reasoning = "") {
  if (reasoning) return { thought: reasoning.trim(), answer: content, thinking: content === "" };
  const open = OPEN.exec(content);
  // Prompts of some models open the thought themselves, so that only its end is in the answer.
  const start = open ? open[0].length : 0;
  const close = content.indexOf(CLOSE, start);
  if (close >= 0) return { thought: content.slice(start, close).trim(), answer: content.slice(close + CLOSE.length).trimStart(), thinking: false };
  return open ? { thought: content.slice(start).trim(), answer: "", thinking: true } : { thought: "", answer: content, thinking: false };
}
