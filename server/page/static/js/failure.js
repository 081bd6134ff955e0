/** What can go wrong with a request, as a kind that there are words for. Pure. */

/**
 * @typedef {"key" | "limited" | "busy" | "unavailable" | "refused" | "too_long" | "server" | "lost" | "offline"} Kind
 * @typedef {{ kind: Kind, detail: string, wait: number }} FailureRecord
 *   `detail` is what the server said; `wait` the seconds after which it is worth to try again, 0 where nobody knows
 */

/** @type {Record<number, Kind>} */
const KINDS = { 401: "key", 403: "key", 413: "too_long", 429: "limited", 502: "unavailable", 503: "unavailable" };
/** @type {Record<string, Kind>} */
const CODES = {
  queue_full: "busy",
  context_length_exceeded: "too_long",
  engine_died: "unavailable",
  engine_unavailable: "unavailable",
};

export class Failure extends Error {
  /** @param {Kind} kind @param {string} [detail] @param {number} [wait] */
  constructor(kind, detail = "", wait = 0) {
    super(detail || kind);
    this.kind = kind;
    this.detail = detail;
    this.wait = wait;
  }

  /** @returns {FailureRecord} what is kept of it with the conversation */
  record() {
    return { kind: this.kind, detail: this.detail, wait: this.wait };
  }
}

/**
 * @param {number} status
 * @param {unknown} body the reply as JSON, if it was that
 * @param {string | null} retryAfter the header
 */
export function failureOf(status, body, retryAfter) {
  const { message, code } = errorIn(body);
  const kind = CODES[code] ?? KINDS[status] ?? (status < 500 ? "refused" : "server");
  const seconds = Number(retryAfter ?? 0);
  return new Failure(kind, message, Number.isFinite(seconds) && seconds > 0 ? Math.ceil(seconds) : 0);
}

/** @param {unknown} body @returns {{ message: string, code: string }} OpenAI's error object, or nothing */
function errorIn(body) {
  const error = /** @type {{ error?: { message?: unknown, code?: unknown } } | null} */ (body)?.error;
  return { message: String(error?.message ?? ""), code: String(error?.code ?? "") };
}

/**
 * Whether an answer can be regenerated: not where nothing came and the same would only fail again, or is offered already.
 * What was refused may be right with other options.
 * @param {import("./conversation.js").Message} message
 */
export function canRegenerate({ content, failure }) {
  return !failure || content !== "" || failure.kind === "refused";
}

/**
 * What may help against a failure; nothing, where the same would only fail again.
 * @param {import("./conversation.js").Message | undefined} message
 * @param {boolean} isTask a task begins its answers itself, and cannot go on with what there is
 * @returns {"keyEnter" | "again" | "goOn" | null}
 */
export function remedyFor(message, isTask) {
  const kind = message?.failure?.kind;
  if (!message || !kind || kind === "refused" || kind === "too_long") return null;
  if (kind === "key") return "keyEnter";
  return message.content && !isTask ? "goOn" : "again";
}
