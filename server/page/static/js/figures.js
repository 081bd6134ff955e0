/** How fast an answer comes: measured here while it comes, told by the server when it is there. Pure. */

/**
 * @typedef {object} Figures
 * @property {number} tokens of the answer; while it comes, the number of its pieces
 * @property {number} rate tokens a second after the first one; 0 where it cannot be told
 * @property {number | null} first seconds from the question to the first token
 * @property {number} prompt tokens of the prompt, 0 until the server told
 * @property {number} cached how many of those it had
 * @property {boolean} exact whether the server told
 */

/**
 * @typedef {object} Told what the last chunk of a stream says
 * @property {{ prompt_tokens: number, completion_tokens: number, prompt_tokens_details?: { cached_tokens?: number } }} [usage]
 * @property {{ predicted_per_second?: number }} [timings]
 */

/** Seconds in which pieces must have come before a rate says anything. */
const LEAST_SPENT = 0.25;

export class Meter {
  /** @param {number} now milliseconds */
  constructor(now) {
    this.start = now;
    /** @type {number | null} */
    this.first = null;
    this.last = now;
    this.pieces = 0;
  }

  /** @param {number} now */
  piece(now) {
    this.first ??= now;
    this.last = now;
    this.pieces += 1;
  }

  /** @param {Told} [told] @returns {Figures} */
  figures(told = {}) {
    const spent = this.first === null ? 0 : (this.last - this.first) / 1000;
    const measured = this.pieces > 1 && spent >= LEAST_SPENT ? (this.pieces - 1) / spent : 0;
    return {
      tokens: told.usage?.completion_tokens ?? this.pieces,
      rate: told.timings?.predicted_per_second || measured,
      first: this.first === null ? null : (this.first - this.start) / 1000,
      prompt: told.usage?.prompt_tokens ?? 0,
      cached: told.usage?.prompt_tokens_details?.cached_tokens ?? 0,
      exact: told.usage !== undefined,
    };
  }
}

/**
 * @param {Figures} figures
 * @param {(key: string, values?: Record<string, string | number>) => string} text
 */
export function figuresLine(figures, text) {
  if (figures.tokens === 0) return "";
  const rate = figures.rate >= 100 ? figures.rate.toFixed(0) : figures.rate.toFixed(1);
  const parts = [text(figures.tokens === 1 ? "token" : "tokens", { count: figures.exact ? figures.tokens : `≈ ${figures.tokens}` })];
  if (figures.rate > 0) parts.push(text("rate", { rate }));
  if (figures.first !== null) parts.push(text("first", { seconds: figures.first.toFixed(2) }));
  if (figures.exact) parts.push(text("cached", { cached: figures.cached, prompt: figures.prompt }));
  return parts.join(" · ");
}
