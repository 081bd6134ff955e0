/** The report of a check of a task, in a dialog. */

import { byId, el } from "./dom.js";

/**
 * @typedef {import("../texts.js").Text} Text
 * @typedef {import("../api.js").Judgement} Judgement
 * @typedef {Judgement["fields"][number]} Score
 */

/** What stands for an answer without the field. */
const NONE = "—";

export class CheckView {
  #dialog = /** @type {HTMLDialogElement} */ (byId("dialog"));
  #body = el("div", { class: "report" });
  #again;
  #text;

  /**
   * @param {Text} text
   * @param {string} title of the task
   * @param {{ again: () => void, closed: () => void }} actions
   */
  constructor(text, title, { again, closed }) {
    this.#text = text;
    this.#again = /** @type {HTMLButtonElement} */ (el("button", { type: "button", class: "small", text: text("checkAgain"), disabled: true, click: again }));
    const close = el("button", { type: "submit", class: "small primary", text: text("close") });
    const form = el("form", { method: "dialog" }, el("h2", { id: "dialog-title", text: text("checkTitle", { task: title }) }), this.#body, el("p", { class: "row" }, this.#again, close));
    if (this.#dialog.open) this.#dialog.close();
    this.#dialog.replaceChildren(form);
    this.#dialog.classList.add("large");
    this.#dialog.showModal();
    this.#dialog.addEventListener("close", () => {
      this.#dialog.classList.remove("large");
      closed();
    }, { once: true });
  }

  /** @param {number} done @param {number} all */
  progress(done, all) {
    const told = this.#text("checkRunning", { done, all });
    const [bar, line] = this.#body.children;
    this.#again.disabled = true;
    if (bar instanceof HTMLProgressElement) {
      [bar.value, line.textContent] = [done, told];
      return;
    }
    this.#body.replaceChildren(el("progress", { max: String(all), value: String(done), "aria-label": this.#text("checkProgress") }), el("p", { text: told }));
  }

  /** @param {string} message */
  tell(message) {
    this.#body.replaceChildren(el("p", { text: message }));
    this.#again.disabled = false;
  }

  /** @param {Judgement} judgement @param {import("../check.js").Kept | null} before */
  show(judgement, before) {
    const { accuracy, all_right, answers, fields } = judgement;
    const text = this.#text;
    const values = { accuracy: percent(accuracy), right: Math.round(all_right * answers.length), count: answers.length };
    const change = before ? ` ${text("checkBefore", { accuracy: percent(before.accuracy) })}` : "";
    const confused = fields.filter((score) => score.confusion && (score.right < score.of || fields.length === 1));
    const wrong = answers.filter((answer) => !answer.is_right);
    this.#body.replaceChildren(
      el("p", { role: "status", text: text("checkDone", values) + change }),
      scroll(text("checkFields"), accuracyTable(fields, before, text)),
      ...confused.flatMap((score) => confusion(score, text)),
      ...(wrong.length ? [el("h3", { text: text("checkWrong") }), el("ul", { class: "mistakes" }, ...wrong.map((answer) => wrongItem(answer, fields, text)))] : []),
    );
    this.#again.disabled = false;
  }
}

/** @param {Score[]} fields @param {import("../check.js").Kept | null} before @param {Text} text */
function accuracyTable(fields, before, text) {
  const columns = ["field", "kind", "right", "accuracy", ...(before ? ["earlier"] : [])];
  const rows = fields.map(({ name, kind, right, of }) =>
    el(
      "tr",
      {},
      el("th", { scope: "row", text: label(name, text) }),
      el("td", { text: text(`kind.${kind}`) }),
      el("td", { text: text("checkOf", { right, of }) }),
      el("td", {}, el("meter", { value: String(right / of), "aria-hidden": "true" }), ` ${percent(right / of)}`),
      ...(before ? [el("td", { text: name in before.fields ? percent(before.fields[name]) : NONE })] : []),
    ),
  );
  return el("table", {}, el("thead", {}, el("tr", {}, ...columns.map((name) => el("th", { scope: "col", text: text(`check.${name}`) })))), el("tbody", {}, ...rows));
}

/** @param {Score} score @param {Text} text @returns {HTMLElement[]} */
function confusion({ name, confusion }, text) {
  if (!confusion) return [];
  const { right, answered, counts } = confusion;
  const title = text("confusionOf", { field: label(name, text) });
  const head = el("tr", {}, el("th", { scope: "col", text: text("confusionCorner") }), ...answered.map((one) => el("th", { scope: "col", text: one || NONE })));
  const rows = right.map((one, row) =>
    el("tr", {}, el("th", { scope: "row", text: one || NONE }), ...counts[row].map((count, column) => el("td", { class: count ? (answered[column] === one ? "hit" : "miss") : "", text: count ? String(count) : "·" }))),
  );
  return [el("h3", { text: title }), scroll(title, el("table", { class: "confusion" }, el("thead", {}, head), el("tbody", {}, ...rows)))];
}

/** @param {Judgement["answers"][number]} answer @param {Score[]} scores @param {Text} text */
function wrongItem({ variables, fields }, scores, text) {
  const texts = scores.filter(({ kind }) => kind === "text").map(({ name }) => name);
  const faults = fields.filter((field) => !field.is_right).map(({ name, right, answered }) => {
    const values = { answered: answered?.join(" / ") || NONE, right: right.join(" / ") || text("checkSome") };
    const told = text(texts.includes(name) && answered?.length ? "checkWithout" : "checkNot", values);
    return el("div", {}, el("dt", { text: label(name, text) }), el("dd", { text: told }));
  });
  return el("li", {}, el("p", { text: Object.values(variables).join("\n") }), el("dl", {}, ...faults));
}

/** Tables scroll by themselves, by keys, too. @param {string} name @param {HTMLElement} table */
function scroll(name, table) {
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": name }, table);
}

/** @param {string} name @param {Text} text */
function label(name, text) {
  return name === "answer" ? text("checkAnswer") : name;
}

/** @param {number} share */
function percent(share) {
  return `${(100 * share).toFixed(1)} %`;
}
