/** To the clipboard, also where the page did not come by HTTPS: there browsers have only the old way. */

import { el } from "./dom.js";

/** @param {string} content @returns {Promise<boolean>} whether it is there now */
export async function copy(content) {
  if (!navigator.clipboard) return copyTheOldWay(content);
  return navigator.clipboard.writeText(content).then(
    () => true,
    () => copyTheOldWay(content),
  );
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
