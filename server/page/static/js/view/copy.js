/** To the clipboard, also where the page did not come by HTTPS: there browsers have only the old way. */

import { el, icon } from "./dom.js";

const SHOWN_MS = 1800;

/** @param {string} content @returns {Promise<boolean>} whether it is there now */
export async function copy(content) {
  if (!navigator.clipboard) return copyTheOldWay(content);
  return navigator.clipboard.writeText(content).then(
    () => true,
    () => copyTheOldWay(content),
  );
}

/**
 * Copy, and say so on the button for a moment.
 * @param {string} content
 * @param {HTMLElement} button
 * @param {import("../texts.js").Text} text
 * @returns {Promise<string>} how it went, in words
 */
export async function copied(content, button, text) {
  const done = await copy(content);
  return saidOn(button, text(done ? "copied" : "notCopied"), done);
}

/** Say for a moment on a button how it went. @param {HTMLElement} button @param {string} said @param {boolean} done */
export function saidOn(button, said, done) {
  if (button.classList.contains("said")) return said;
  const [before, label] = [[...button.childNodes], button.getAttribute("aria-label")];
  button.classList.add("said");
  button.classList.toggle("done", done);
  button.removeAttribute("aria-label");
  button.replaceChildren(icon(done ? "check" : "close"), el("span", { text: said }));
  setTimeout(() => {
    button.classList.remove("said", "done");
    button.replaceChildren(...before);
    if (label) button.setAttribute("aria-label", label);
  }, SHOWN_MS);
  return said;
}

/** @param {string} content */
function copyTheOldWay(content) {
  const focused = /** @type {HTMLElement | null} */ (document.activeElement);
  const field = /** @type {HTMLTextAreaElement} */ (el("textarea", { class: "unseen", readonly: true }));
  field.value = content;
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  focused?.focus();
  return done;
}

/** Offer `content` as a file. @param {string} name @param {string} type @param {string} content */
export function download(name, type, content) {
  const url = URL.createObjectURL(new Blob([content], { type }));
  el("a", { href: url, download: name }).click();
  // Browsers fetch it a moment after the click.
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** Let a file be chosen. @param {string} accept @param {boolean} multiple @returns {Promise<File[]>} none where it was called off */
export function choose(accept, multiple) {
  const field = /** @type {HTMLInputElement} */ (el("input", { type: "file", accept, multiple }));
  return new Promise((resolve) => {
    field.addEventListener("change", () => resolve([...(field.files ?? [])]));
    field.addEventListener("cancel", () => resolve([]));
    field.click();
  });
}
