/** The check of a task by its examples: all are answered, then the server judges the answers. */

/**
 * @typedef {import("./api.js").Judgement} Judgement
 * @typedef {{ model: string, id: string }} TaskOf which task, and of which model
 *
 * @typedef {object} Kept the figures of an earlier check
 * @property {number} accuracy
 * @property {Record<string, number>} fields the share of right ones, by name
 */

const AT_ONCE = 4;
/** So that a task with a temperature is judged by the same draws before and after a change. */
const SEED = 1;

/**
 * @param {Pick<import("./api.js").Api, "examples" | "runTask" | "judge">} api
 * @param {TaskOf} task
 * @param {AbortSignal} signal
 * @param {(done: number, all: number) => void} progressed
 * @returns {Promise<Judgement | null>} null where the task has no examples
 */
export async function check(api, task, signal, progressed) {
  const examples = await api.examples(task.id, signal);
  if (!examples.length) return null;
  /** @type {string[]} */
  const answers = [];
  let [next, done] = [0, 0];
  progressed(done, examples.length);
  const work = async () => {
    while (next < examples.length) {
      const at = next++;
      answers[at] = "";
      for await (const chunk of api.runTask(task, examples[at].variables, { seed: SEED }, signal)) {
        answers[at] += chunk.choices?.[0]?.delta.content ?? "";
      }
      progressed(++done, examples.length);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return api.judge(task.id, answers, signal);
}

/** What is kept of a check, to compare the next one with. @param {Judgement} judgement @returns {string} */
export function keptOf({ accuracy, fields }) {
  return JSON.stringify({ accuracy, fields: Object.fromEntries(fields.map(({ name, right, of }) => [name, right / of])) });
}

/** @param {string} kept @returns {Kept | null} */
export function earlier(kept) {
  try {
    const read = JSON.parse(kept);
    return typeof read?.accuracy === "number" && read.fields && typeof read.fields === "object" ? read : null;
  } catch {
    return null;
  }
}
