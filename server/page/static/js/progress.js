/** What the server tells while nothing has come yet: the place in the queue, or how much of the prompt is read. Pure. */

/**
 * @typedef {object} Progress
 * @property {number} position requests in front in the queue, 0 once this one has begun
 * @property {number | null} wait seconds that are expected until it begins
 * @property {number} read tokens of the prompt that are computed, or were
 * @property {number} total tokens of the prompt
 * @property {number | null} left seconds that the rest of the prompt will take
 */

/**
 * @param {{ total: number, cache: number, processed: number, time_ms: number, queue_position?: number, expected_wait_ms?: number | null }} told
 *   the object `prompt_progress` of a chunk
 * @returns {Progress}
 */
export function progressOf(told) {
  const computed = told.processed - told.cache;
  const each = computed > 0 && told.time_ms > 0 ? told.time_ms / computed / 1000 : null;
  return {
    position: told.queue_position ?? 0,
    wait: told.expected_wait_ms == null ? null : told.expected_wait_ms / 1000,
    read: told.processed,
    total: told.total,
    left: each === null ? null : each * (told.total - told.processed),
  };
}

/**
 * @param {Progress} progress
 * @param {import("./texts.js").Text} text
 * @returns {string}
 */
export function progressLine({ position, wait, read, total, left }, text) {
  if (position > 0) {
    const place = text("queued", { position });
    return wait ? `${place} · ${text("expected", { time: duration(wait, text) })}` : place;
  }
  const reads = text("reading", { read, total });
  // Of a moment it is not worth to speak.
  return left !== null && left >= 2 ? `${reads} · ${text("left", { time: duration(left, text) })}` : reads;
}

/** @param {number} seconds @param {import("./texts.js").Text} text */
function duration(seconds, text) {
  const whole = Math.max(1, Math.round(seconds));
  return whole < 90 ? text("seconds", { count: whole }) : text("minutes", { count: Math.round(whole / 60) });
}
