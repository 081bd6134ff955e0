/** Models and the tasks that are served as models of their own. Pure. */

/**
 * @typedef {import("./api.js").Model} Model
 * @typedef {import("./texts.js").Language} Language
 * @typedef {{ id: string, label: string }} Choice
 * @typedef {{ label: string, choices: Choice[] }} Group
 * @typedef {{ description: string, example: string }} TaskHint
 */

/**
 * What the picker shows: the models, then the tasks of each.
 * @param {Model[]} models
 * @param {Language} language
 * @returns {{ plain: Choice[], tasks: Group[] }}
 */
export function grouped(models, language) {
  const plain = models.filter((model) => !isTask(model)).map(({ id }) => ({ id, label: id }));
  /** @type {Map<string, Choice[]>} */
  const tasks = new Map();
  for (const model of models.filter(isTask)) {
    const parent = model.parent ?? "";
    tasks.set(parent, [...(tasks.get(parent) ?? []), { id: model.id, label: titleOf(model, language) }]);
  }
  return { plain, tasks: [...tasks].map(([label, choices]) => ({ label, choices })) };
}

/** @param {Model} model */
export function isTask(model) {
  return Boolean(model.task);
}

/**
 * What is said of a task; empty strings of any other model.
 * @param {Model | undefined} model
 * @param {Language} language
 * @returns {TaskHint}
 */
export function hintOf(model, language) {
  const task = model?.task;
  if (!task) return { description: "", example: "" };
  const example = task.slots.find((slot) => slot.name === task.main_slot)?.example ?? "";
  return { description: inLanguage(task.description, language) || inLanguage(task.title, language), example };
}

/**
 * Tasks that can be tried, those of one model.
 * @param {Model[]} models
 * @param {Language} language
 * @returns {(Choice & { description: string })[]}
 */
export function gallery(models, language) {
  const tasks = models.filter(isTask);
  const first = tasks.filter((model) => model.parent === tasks[0].parent);
  return first.map((model) => ({ id: model.id, label: shortTitle(model, language), description: hintOf(model, language).description }));
}

/**
 * The fields of the form of a task.
 * @param {Model} model
 * @param {Language} language
 * @returns {import("./view/taskform.js").Field[]}
 */
export function fieldsOf({ task }, language) {
  return (task?.slots ?? []).map(({ name, description, example, default: value }) => ({
    name,
    label: (description && inLanguage(description, language)) || name,
    example,
    value: value ?? "",
    required: value == null,
  }));
}

/** @param {Model} model @param {Language} language */
export function shortTitle(model, language) {
  return (model.task && inLanguage(model.task.title, language)) || model.task?.id || model.id;
}

/** @param {Model} model @param {Language} language */
function titleOf(model, language) {
  const [title, id] = [shortTitle(model, language), model.task?.id];
  return title === id ? title : `${title} (${id})`;
}

/** In the other language where there is nothing in this one. @param {import("./api.js").Words} words @param {Language} language */
function inLanguage(words, language) {
  return words[language] || words.en || words.zh;
}
