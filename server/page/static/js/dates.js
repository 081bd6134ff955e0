/** When something was, for people. Pure. */

/** @typedef {import("./conversation.js").Conversation} Conversation */

const DAY = 86_400_000;

/**
 * Conversations under headings: the pinned ones, then by how long ago they were used.
 * @param {Conversation[]} conversations the latest first
 * @param {number} now
 * @param {import("./texts.js").Text} text
 * @param {string} locale
 * @returns {{ label: string, conversations: Conversation[] }[]}
 */
export function grouped(conversations, now, text, locale) {
  /** @type {Map<string, Conversation[]>} */
  const groups = new Map();
  const pinned = conversations.filter((one) => one.pinned);
  if (pinned.length) groups.set(text("pinned"), pinned);
  for (const conversation of conversations) {
    if (conversation.pinned) continue;
    const label = labelOf(conversation.updated, now, text, locale);
    groups.set(label, [...(groups.get(label) ?? []), conversation]);
  }
  return [...groups].map(([label, within]) => ({ label, conversations: within }));
}

/** @param {number} then @param {number} now @param {import("./texts.js").Text} text @param {string} locale */
function labelOf(then, now, text, locale) {
  const days = Math.round((midnight(now) - midnight(then)) / DAY);
  if (days <= 0) return text("today");
  if (days === 1) return text("yesterday");
  if (days <= 7) return text("lastWeek");
  if (days <= 30) return text("lastMonth");
  return new Intl.DateTimeFormat(locale, { year: "numeric", month: "long" }).format(then);
}

/** @param {number} time */
function midnight(time) {
  return new Date(time).setHours(0, 0, 0, 0);
}

/** The time of a day that is today, else the day, too. @param {number} then @param {number} now @param {string} locale */
export function moment(then, now, locale) {
  const today = midnight(then) === midnight(now);
  const day = /** @type {const} */ ({ year: "numeric", month: "short", day: "numeric" });
  return new Intl.DateTimeFormat(locale, { ...(today ? {} : day), hour: "2-digit", minute: "2-digit" }).format(then);
}
