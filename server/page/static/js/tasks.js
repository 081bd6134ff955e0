/** The tasks of the server: their cards, their forms, their hints. */

import { question } from "./conversation.js";
import { fieldsOf, gallery, hintOf, isTask, shortTitle } from "./models.js";
import { fillTask } from "./view/taskform.js";

/**
 * @typedef {import("./api.js").Model} Model
 *
 * @typedef {object} TaskActions
 * @property {() => import("./texts.js").Text} text
 * @property {() => import("./texts.js").Language} language
 * @property {(id: string) => void} choose a model
 * @property {(message: import("./conversation.js").Message) => void} ask
 * @property {(example: string) => void} write into the field for messages
 */

export class Tasks {
  #served;
  #actions;

  /** @param {import("./served.js").Served} served @param {TaskActions} actions */
  constructor(served, actions) {
    this.#served = served;
    this.#actions = actions;
  }

  /** @returns {import("./view/welcome.js").Card[]} */
  get cards() {
    return gallery(this.#served.list, this.#actions.language()).map(({ id, label, description }) => ({
      label,
      description,
      choose: () => this.#fill(id),
    }));
  }

  /** Whether a task answers by this name. @param {string | undefined} id */
  has(id) {
    const model = this.#served.find(id);
    return model !== undefined && isTask(model);
  }

  /** What can be done in place of writing a message. @param {Model | undefined} model */
  buttons(model) {
    const { example } = hintOf(model, this.#actions.language());
    const text = this.#actions.text();
    return [
      ...(example ? [{ label: text("example"), act: () => this.#actions.write(example) }] : []),
      ...(model && isTask(model) ? [{ label: text("form"), act: () => this.#fill(model.id) }] : []),
    ];
  }

  /** @param {string} id */
  async #fill(id) {
    const model = this.#served.find(id);
    if (!model) return;
    const language = this.#actions.language();
    const { description } = hintOf(model, language);
    const fields = fieldsOf(model, language);
    const variables = await fillTask(this.#actions.text(), shortTitle(model, language), description, fields);
    if (!variables) return;
    this.#actions.choose(id);
    const content = variables[model.task?.main_slot ?? ""] ?? Object.values(variables).join("\n");
    this.#actions.ask(question(content, Date.now(), { variables, labels: Object.fromEntries(fields.map(({ name, label }) => [name, label])) }));
  }
}
