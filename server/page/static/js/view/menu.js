/** The menu: one for the whole page, which opens beside the button that asks for it. */

import { byId, el } from "./dom.js";

/**
 * @typedef {object} Item
 * @property {string} label
 * @property {() => void} act
 * @property {boolean} [danger] it cannot be undone
 */

const GAP = 4;

const root = byId("menu");
/** @type {HTMLElement | null} */
let opener = null;

/** @param {HTMLElement} button that it belongs to @param {string} label @param {Item[]} items */
export function openMenu(button, label, items) {
  const wasOpen = opener === button;
  closeMenu(false);
  if (wasOpen) return;
  opener = button;
  button.setAttribute("aria-expanded", "true");
  root.setAttribute("aria-label", label);
  root.replaceChildren(...items.map(entry));
  root.hidden = false;
  place(button.getBoundingClientRect());
  /** @type {HTMLElement} */ (root.firstElementChild).focus();
}

/** @param {boolean} back whether the focus goes to the button that opened it */
export function closeMenu(back) {
  if (root.hidden) return;
  root.hidden = true;
  opener?.setAttribute("aria-expanded", "false");
  if (back) opener?.focus();
  opener = null;
}

/** @param {Item} item */
function entry({ label, act, danger = false }) {
  const click = () => {
    closeMenu(true);
    act();
  };
  return el("button", { type: "button", role: "menuitem", tabindex: "-1", class: danger && "danger", text: label, click });
}

/** Below the button, or above it where there is no room. @param {DOMRect} button */
function place(button) {
  const { width, height } = root.getBoundingClientRect();
  const below = button.bottom + GAP;
  const top = below + height > innerHeight - GAP ? Math.max(GAP, button.top - GAP - height) : below;
  root.style.top = `${top}px`;
  root.style.left = `${Math.min(Math.max(GAP, button.right - width), innerWidth - width - GAP)}px`;
}

/** @param {number} step */
function move(step) {
  const items = /** @type {HTMLElement[]} */ ([...root.children]);
  const at = items.indexOf(/** @type {HTMLElement} */ (document.activeElement));
  items[(at + step + items.length) % items.length].focus();
}

root.addEventListener("keydown", (event) => {
  const deeds = /** @type {Record<string, () => void>} */ ({
    ArrowDown: () => move(1),
    ArrowUp: () => move(-1),
    Escape: () => closeMenu(true),
    Tab: () => closeMenu(true),
  });
  const deed = deeds[event.key];
  if (!deed) return;
  event.preventDefault();
  event.stopPropagation();
  deed();
});
document.addEventListener("pointerdown", ({ target }) => {
  if (!root.contains(/** @type {Node} */ (target)) && !opener?.contains(/** @type {Node} */ (target))) closeMenu(false);
});
addEventListener("resize", () => closeMenu(false));
addEventListener("blur", () => closeMenu(false));
document.addEventListener("scroll", () => closeMenu(false), true);
