/** Models and the tasks that are served as models of their own, named MODEL:TASK. Pure. */

/**
 * @typedef {import("./api.js").Model} Model
 * @typedef {{ id: string, label: string, model: Model }} Choice
 * @typedef {{ label: string, choices: Choice[] }} Group
 * @typedef {{ description: string, example: string }} TaskHint
 */

/**
 * What the picker shows: the models, then the tasks of each.
 * @param {Model[]} models
 * @returns {{ plain: Choice[], tasks: Group[] }}
 */
export function grouped(models) {
  const plain = models.filter((model) => !isTask(model)).map((model) => choice(model, model.id));
  /** @type {Map<string, Choice[]>} */
  const tasks = new Map();
  for (const model of models.filter(isTask)) {
    const owner = ownerOf(model);
    tasks.set(owner, [...(tasks.get(owner) ?? []), choice(model, model.id.slice(owner.length + 1))]);
  }
  return { plain, tasks: [...tasks].map(([label, choices]) => ({ label, choices })) };
}

/** @param {Model} model */
export function isTask(model) {
  return taskOf(model) !== null;
}

/** What is said of a task; empty strings of any other model. @param {Model | undefined} model @returns {TaskHint} */
export function hintOf(model) {
  const task = model ? taskOf(model) : null;
  return { description: String(task?.description ?? ""), example: String(task?.example ?? "") };
}

/** @param {Model} model @returns {{ description?: unknown, example?: unknown } | null} */
function taskOf(model) {
  const told = /** @type {{ task?: unknown }} */ (model).task;
  if (told === undefined || told === null) return null;
  return typeof told === "object" ? told : {};
}

/** @param {Model} model */
function ownerOf(model) {
  const cut = model.id.lastIndexOf(":");
  return model.parent || (cut > 0 ? model.id.slice(0, cut) : "");
}

/** @param {Model} model @param {string} label @returns {Choice} */
function choice(model, label) {
  return { id: model.id, label, model };
}
