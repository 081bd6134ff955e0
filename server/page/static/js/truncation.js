/** Which turns of a conversation still fit in the context of a model. Pure, but for asking how many tokens there are. */

/** @typedef {import("./conversation.js").Message} Message */

/** Tokens that are kept free for the answer, at most, and as a share of the context. */
const ROOM_KEPT = 512;
const ROOM_KEPT_SHARE = 4;
/** Tokens that a turn takes beside its text, and that a character may take. */
const PER_TURN = 12;

/**
 * Whether the next request may be too long: reckoned from what the server told of the last answer, at a token for each
 * character since.
 * @param {Message[]} messages
 * @param {number | null | undefined} context tokens of the model
 */
export function mayOverflow(messages, context) {
  if (!context) return false;
  const told = messages.findLastIndex((message) => message.figures?.exact);
  const figures = messages[told]?.figures;
  const since = messages.slice(told + 1);
  const before = figures ? figures.prompt + figures.tokens : 0;
  const grown = since.reduce((sum, message) => sum + sizeOf(message) + PER_TURN, 0);
  return before + grown + roomKept(context) > context;
}

/** @param {number} context */
function roomKept(context) {
  return Math.min(ROOM_KEPT, Math.floor(context / ROOM_KEPT_SHARE));
}

/** @param {Message} message */
function sizeOf({ content, files }) {
  return content.length + (files ?? []).reduce((sum, file) => sum + file.text.length, 0);
}

/**
 * How many of the oldest messages have to be left out. The last turn always stays.
 * @param {Message[]} messages
 * @param {number} least what was left out before
 * @param {(from: number) => Promise<{ count: number, context: number }>} count tokens of the prompt without the first ones
 * @returns {Promise<number>}
 */
export async function messagesToOmit(messages, least, count) {
  const starts = messages.flatMap((message, index) => (message.role === "user" ? [index] : []));
  const last = starts.length - 1;
  const first = starts.findIndex((start) => start >= least);
  const fits = async (/** @type {number} */ at) => {
    const { count: tokens, context } = await count(starts[at]);
    return tokens + roomKept(context) <= context;
  };
  if (first < 0 || first === last || (await fits(first))) return starts[first] ?? least;
  let [low, high] = [first + 1, last];
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    if (await fits(middle)) high = middle;
    else low = middle + 1;
  }
  return starts[strided(low, last - low)];
}

/**
 * A turn from `first` on that stays the same while some more are added, so that the server finds the prompts in its
 * cache; of the `fitting` ones after it, at least half are kept.
 * @param {number} first
 * @param {number} fitting
 */
function strided(first, fitting) {
  const stride = 2 ** Math.max(0, Math.floor(Math.log2(Math.max(1, Math.floor(fitting / 2)))));
  return Math.min(first + fitting, Math.ceil(first / stride) * stride);
}
