/** The form of a task: a field for each of its variables. */

import { el } from "./dom.js";
import { ask, labelled } from "./dialogs.js";

/**
 * @typedef {object} Field
 * @property {string} name
 * @property {string} label
 * @property {string} example
 * @property {string} value what stands in it at first
 * @property {boolean} required
 */

/**
 * @param {import("../texts.js").Text} text
 * @param {string} title
 * @param {string} description
 * @param {Field[]} fields
 * @returns {Promise<Record<string, string> | null>} the values by name, or null where it was called off
 */
export async function fillTask(text, title, description, fields) {
  const areas = fields.map(({ name, example, value, required }) => {
    const rows = String(Math.min(6, Math.max(2, Math.ceil((value || example).length / 40))));
    const area = /** @type {HTMLTextAreaElement} */ (el("textarea", { name, rows, placeholder: example, required }));
    area.value = value;
    // Read from its beginning.
    area.setSelectionRange(0, 0);
    return area;
  });
  areas.find((area) => !area.value)?.setAttribute("autofocus", "");
  const insert = () => fields.forEach(({ example, value }, index) => (areas[index].value = example || value));
  const example = el("button", { type: "button", class: "small", text: text("example"), click: insert });
  const body = [
    el("p", { text: description }),
    ...fields.map(({ label }, index) => labelled(label, areas[index])),
    ...(fields.some((field) => field.example) ? [el("p", {}, example)] : []),
  ];
  const answer = await ask(text, title, body, text("run"));
  return answer && Object.fromEntries(fields.map(({ name }) => [name, String(answer.get(name) ?? "")]));
}
