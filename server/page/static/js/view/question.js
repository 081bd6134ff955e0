/** A question on the screen, and the field in which it is edited. */

import { el } from "./dom.js";
import { sendsOnEnter } from "./keys.js";

/** @param {string} content @returns {HTMLElement} the text as it was typed */
export function questionBody(content) {
  return el("div", { class: "body", dir: "auto", text: content });
}

/**
 * @param {string} content
 * @param {import("../texts.js").Text} text
 * @param {(content: string | null) => void} done with the new text, or null where nothing is to change
 */
export function questionEditor(content, text, done) {
  const field = /** @type {HTMLTextAreaElement} */ (el("textarea", { "aria-label": text("editLabel"), rows: "3" }));
  field.value = content;
  const submit = () => done(field.value.trim() ? field.value : null);
  field.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      event.stopPropagation();
      done(null);
    } else if (sendsOnEnter(event)) {
      event.preventDefault();
      submit();
    }
  });
  const form = el(
    "form",
    {
      class: "editor",
      submit: (event) => {
        event.preventDefault();
        submit();
      },
    },
    field,
    el("p", { class: "note", text: text("editNote") }),
    el(
      "p",
      { class: "row" },
      el("button", { type: "submit", class: "small primary", text: text("sendAgain") }),
      el("button", { type: "button", class: "small", text: text("cancel"), click: () => done(null) }),
    ),
  );
  return { form, field };
}
