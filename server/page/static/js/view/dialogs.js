/** Questions that have to be answered before all else. */

import { keysOf, SHORTCUTS } from "../shortcuts.js";
import { byId, el } from "./dom.js";

/** @typedef {import("../texts.js").Text} Text */

/** Keys that mean something in one place only. */
const ELSEWHERE = [
  { keys: ["Enter"], does: "send" },
  { keys: ["Shift", "Enter"], does: "newLine" },
  { keys: ["F2"], does: "rename" },
  { keys: ["Del"], does: "remove" },
];

/**
 * @param {Text} text
 * @param {string} title of the conversation
 * @returns {Promise<boolean>}
 */
export async function confirmRemoval(text, title) {
  const body = [el("p", { text: text("removeText", { title }) })];
  return (await ask(text, text("removeTitle"), body, text("remove"), { danger: true })) !== null;
}

/** @param {Text} text @param {number} count @returns {Promise<boolean>} whether all conversations are to go */
export async function confirmRemovalOfAll(text, count) {
  const body = [el("p", { text: text("removeAllText", { count }) })];
  return (await ask(text, text("removeAllTitle"), body, text("removeAll"), { danger: true })) !== null;
}

/** The list of keys. @param {Text} text @param {boolean} mac */
export function showShortcuts(text, mac) {
  const rows = [...SHORTCUTS.map((shortcut) => ({ keys: keysOf(shortcut, mac), does: shortcut.deed })), ...ELSEWHERE].map(({ keys, does }) =>
    el("tr", {}, el("th", { scope: "row" }, ...keys.map((key) => el("kbd", { text: key }))), el("td", { text: text(`does.${does}`) })),
  );
  const table = el("table", { class: "shortcuts" }, el("tbody", {}, ...rows));
  return ask(text, text("shortcuts"), [table], text("close"), { cancels: false });
}

/** @param {Text} text @param {string} title @returns {Promise<string>} the new one, or nothing */
export async function askTitle(text, title) {
  const field = el("input", { name: "title", value: title, maxlength: "120", required: true, autocomplete: "off" });
  const answer = await ask(text, text("renameTitle"), [labelled(text("name"), field)], text("save"));
  return String(answer?.get("title") ?? "").trim();
}

/**
 * @param {Text} text
 * @param {boolean} wrong whether the server refused the one it had
 * @returns {Promise<{ key: string, keep: boolean } | null>}
 */
export async function askKey(text, wrong) {
  const field = el("input", { name: "key", type: "password", required: true, autocomplete: "off", spellcheck: "false" });
  const keep = el("label", { class: "check" }, el("input", { type: "checkbox", name: "keep" }), text("keyKeep"));
  const note = el("p", { text: text(wrong ? "keyWrong" : "keyText") });
  const answer = await ask(text, text("keyTitle"), [note, labelled(text("key"), field), keep], text("keyUse"));
  return answer && { key: String(answer.get("key")).trim(), keep: answer.has("keep") };
}

/** @param {string} label @param {HTMLElement} field */
export function labelled(label, field) {
  return el("label", { class: "field" }, el("span", { text: label }), field);
}

/**
 * @param {Text} text
 * @param {string} title
 * @param {HTMLElement[]} body
 * @param {string} yes
 * @param {{ cancels?: boolean, danger?: boolean }} [options] whether it can be called off by a button, or cannot be undone
 * @returns {Promise<FormData | null>} null where it was called off
 */
export function ask(text, title, body, yes, { cancels = true, danger = false } = {}) {
  const dialog = /** @type {HTMLDialogElement} */ (byId("dialog"));
  const buttons = el(
    "p",
    { class: "row" },
    ...(cancels ? [el("button", { type: "button", class: "small", text: text("cancel"), click: () => dialog.close() })] : []),
    el("button", { type: "submit", class: `small primary ${danger ? "danger" : ""}`, text: yes }),
  );
  const form = /** @type {HTMLFormElement} */ (
    el("form", {}, el("h2", { id: "dialog-title", text: title }), ...body, buttons)
  );
  if (dialog.open) dialog.close();
  dialog.replaceChildren(form);
  dialog.showModal();
  return new Promise((resolve) => {
    /** @type {FormData | null} */
    let answer = null;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      answer = new FormData(form);
      dialog.close();
    });
    dialog.addEventListener("close", () => resolve(answer), { once: true });
  });
}
