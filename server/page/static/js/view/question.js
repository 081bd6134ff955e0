/** A question on the screen, and the field in which it is edited. */

import { sizeText } from "../attachments.js";
import { recordTable } from "./answer.js";
import { el, icon } from "./dom.js";
import { sendsOnEnter } from "./keys.js";

/** @typedef {import("../conversation.js").Message} Message */

/**
 * The text as it was typed, the files that go with it, or what a task was filled with.
 * @param {Message} message
 * @param {import("../texts.js").Text} text
 * @returns {HTMLElement[]}
 */
export function questionBody({ content, files = [], variables, labels }, text) {
  const attached = files.map(({ name, text: within }) =>
    el(
      "details",
      { class: "file" },
      el("summary", {}, icon("file"), el("span", { text: name }), el("small", { text: text("characters", { count: sizeText(within.length) }) })),
      el("pre", { tabindex: "0", "aria-label": name, text: within }),
    ),
  );
  const filled = Object.entries(variables ?? {}).map(([name, value]) => ({ name: labels?.[name] ?? name, value }));
  const body = filled.length > 1 ? [el("div", { class: "body record scroll", tabindex: "0", role: "region", "aria-label": text("table") }, recordTable(filled))] : [];
  const typed = content && !body.length ? [el("div", { class: "body", dir: "auto", text: content })] : [];
  return [...attached, ...body, ...typed];
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
