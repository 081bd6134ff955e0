import assert from "node:assert/strict";
import test from "node:test";
import { check, earlier, keptOf } from "../../../server/page/static/js/check.js";

const examples = Array.from({ length: 9 }, (_, at) => ({ variables: { text: `${at}` } }));
const piece = (content) => ({ choices: [{ delta: { content } }] });

test("all examples are answered, a few at once, and judged in their order", async () => {
  let [running, most] = [0, 0];
  const api = {
    examples: async () => examples,
    async *runTask(task, { text }, sampling) {
      assert.deepEqual([task, sampling], [{ model: "glm", id: "t" }, { seed: 1 }]);
      most = Math.max(most, ++running);
      for (let turn = Number(text) % 3; turn >= 0; turn -= 1) await new Promise((resolve) => setImmediate(resolve));
      yield piece("a");
      yield piece(text);
      running -= 1;
    },
    judge: async (id, answers) => ({ id, answers }),
  };
  const told = [];
  const judged = await check(api, { model: "glm", id: "t" }, new AbortController().signal, (done, all) => told.push([done, all]));
  assert.deepEqual(judged, { id: "t", answers: examples.map(({ variables }) => `a${variables.text}`) });
  assert.equal(most, 4);
  assert.deepEqual(told, Array.from({ length: 10 }, (_, done) => [done, 9]));
});

test("a task without examples is not judged, and what fails ends the check", async () => {
  const none = { examples: async () => [], judge: () => assert.fail() };
  assert.equal(await check(none, { model: "glm", id: "t" }, new AbortController().signal, () => assert.fail()), null);
  const failing = { examples: async () => examples, judge: () => assert.fail(), runTask: async function* () { throw new Error("lost"); } };
  await assert.rejects(check(failing, { model: "glm", id: "t" }, new AbortController().signal, () => {}), /lost/);
});

test("the figures of a check are kept, and anything else that stands there is none", () => {
  const kept = keptOf({ accuracy: 0.75, fields: [{ name: "a", right: 3, of: 4 }] });
  assert.deepEqual(earlier(kept), { accuracy: 0.75, fields: { a: 0.75 } });
  for (const other of ["", "{", "null", "3", "{}", '{"accuracy":1}']) assert.equal(earlier(other), null);
});
