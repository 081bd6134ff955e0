import assert from "node:assert/strict";
import test from "node:test";
import { Failure } from "../../../server/page/static/js/failure.js";
import { Served } from "../../../server/page/static/js/served.js";

const settled = () => new Promise((resolve) => setImmediate(resolve));

test("the state of a model is looked at again until it is loaded", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const states = ["idle", "loading", "loading", "ready", "ready"];
  const seen = [];
  const served = new Served({ models: async () => [{ id: "glm", state: states.shift() }] }, () => seen.push(served.list[0].state), () => {});
  await served.load();
  context.mock.timers.tick(10_000);
  await settled();
  assert.deepEqual(seen, ["idle"], "nothing goes on, so nobody looks");
  served.soon();
  for (let second = 0; second < 10; second += 1) {
    context.mock.timers.tick(1500);
    await settled();
  }
  assert.deepEqual(seen, ["idle", "loading", "loading", "ready"]);
});

test("a server that does not tell its models is a failure, and a task is done by its model", async () => {
  const failures = [];
  const served = new Served({ models: async () => Promise.reject(new Failure("key")) }, () => assert.fail(), ({ kind }) => failures.push(kind));
  await served.load();
  assert.deepEqual(failures, ["key"]);
  served.list = [{ id: "glm" }, { id: "glm:t", parent: "glm", task: {} }];
  assert.equal(served.worker(served.list[1]).id, "glm");
  assert.equal(served.worker(served.list[0]).id, "glm");
});
