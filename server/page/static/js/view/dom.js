/** Elements in one expression each. */

/**
 * @param {string} tag
 * @param {Record<string, string | boolean | EventListener | undefined>} [attributes] `text` is the content, functions listen, false is none
 * @param {...(Node | string)} children
 * @returns {HTMLElement}
 */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (name === "text") element.textContent = String(value);
    else if (value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

/**
 * The element of the page with this id.
 * @template {HTMLElement} [T=HTMLElement]
 * @param {string} id
 * @returns {T}
 */
export function byId(id) {
  return /** @type {T} */ (document.getElementById(id));
}

/** Strokes in a square of 24. @type {Record<string, string>} */
const ICONS = {
  attach: "M20 11l-8.5 8.5a5 5 0 0 1-7-7L13 4a3.5 3.5 0 0 1 5 5l-8.5 8.5a2 2 0 0 1-3-3L14 7",
  back: "M15 5l-7 7 7 7",
  check: "M5 13l4 4L19 7",
  close: "M6 6l12 12M18 6L6 18",
  copy: "M9 9h10v10H9zM15 9V5H5v10h4",
  down: "M12 5v14M6 13l6 6 6-6",
  edit: "M4 20l1-4L16 5l3 3L8 19zM14 7l3 3",
  file: "M6 3h8l4 4v14H6zM14 3v4h4",
  forward: "M9 5l7 7-7 7",
  goOn: "M5 5l8 7-8 7zM17 5v14",
  menu: "M4 7h16M4 12h16M4 17h16",
  more: "M5 12h.01M12 12h.01M19 12h.01",
  plus: "M12 5v14M5 12h14",
  regenerate: "M19 12a7 7 0 1 1-2-5M19 3v4h-4",
  send: "M12 19V5M6 11l6-6 6 6",
  sliders: "M4 7h9M17 7h3M15 5v4M4 17h3M11 17h9M9 15v4",
  stop: "M7 7h10v10H7z",
};

/** @param {string} name @returns {SVGElement} */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/**
 * A button that shows an icon and is called `label`.
 * @param {string} name of the icon
 * @param {string} label
 * @param {EventListener} click
 */
export function iconButton(name, label, click) {
  return el("button", { type: "button", class: "icon", "aria-label": label, title: label, click }, icon(name));
}

/**
 * Put the words of a language, and icons, where the page itself asks for them.
 * @param {import("../texts.js").Text} text
 */
export function fillIn(text) {
  for (const element of document.querySelectorAll("[data-text]")) {
    element.textContent = text(/** @type {HTMLElement} */ (element).dataset.text ?? "");
  }
  for (const element of document.querySelectorAll("[data-label]")) {
    const label = text(/** @type {HTMLElement} */ (element).dataset.label ?? "");
    element.setAttribute("aria-label", label);
    if (element instanceof HTMLButtonElement) element.title = label;
  }
  for (const element of document.querySelectorAll("[data-placeholder]")) {
    element.setAttribute("placeholder", text(/** @type {HTMLElement} */ (element).dataset.placeholder ?? ""));
  }
  for (const element of document.querySelectorAll("[data-icon]")) {
    if (!element.querySelector("svg")) element.prepend(icon(/** @type {HTMLElement} */ (element).dataset.icon ?? ""));
  }
}
