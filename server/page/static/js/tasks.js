/** The tasks of the server: their cards, their forms, their hints. */

import { check, earlier, keptOf } from "./check.js";
import { question } from "./conversation.js";
import { fieldsOf, gallery, hintOf, isTask, shortTitle } from "./models.js";
import { Failure } from "./failure.js";
import { CheckView } from "./view/check.js";
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
 * @property {import("./preferences.js").Preferences} preferences which keep the figures of the last check
 */

export class Tasks {
  #api;
  #served;
  #actions;

  /** @param {import("./api.js").Api} api @param {import("./served.js").Served} served @param {TaskActions} actions */
  constructor(api, served, actions) {
    this.#api = api;
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
      ...(model && isTask(model) ? [{ label: text("form"), act: () => this.#fill(model.id) }, { label: text("check"), act: () => this.#check(model) }] : []),
    ];
  }

  /** @param {Model} model a task */
  #check(model) {
    const { preferences } = this.#actions;
    const text = this.#actions.text();
    const hangUp = new AbortController();
    const view = new CheckView(text, shortTitle(model, this.#actions.language()), { again: () => void run(), closed: () => hangUp.abort() });
    const task = { model: model.parent ?? "", id: model.task?.id ?? "" };
    const run = async () => {
      try {
        const judgement = await check(this.#api, task, hangUp.signal, (done, all) => view.progress(done, all));
        if (!judgement) return view.tell(text("checkNone"));
        view.show(judgement, earlier(preferences.lastCheck(model.id)));
        preferences.keepCheck(model.id, keptOf(judgement));
      } catch (error) {
        if (hangUp.signal.aborted) return;
        view.tell(error instanceof Failure ? [text(`failure.${error.kind}`), error.detail].join(" ") : String(error));
      }
    };
    void run();
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
