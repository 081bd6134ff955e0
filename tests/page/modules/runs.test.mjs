import assert from "node:assert/strict";
import test from "node:test";
import { asked, begun } from "../../../server/page/static/js/conversation.js";
import { Failure } from "../../../server/page/static/js/failure.js";
import { Library } from "../../../server/page/static/js/library.js";
import { Runs } from "../../../server/page/static/js/runs.js";
import { Memory } from "../../../server/page/static/js/storage.js";

const CHOICES = { model: "glm", sampling: { maxTokens: null, topP: null, temperature: null } };
const whole = [{ choices: [{ delta: { content: "yes" }, finish_reason: "stop" }] }];

function started(context, replies) {
  context.mock.timers.enable({ apis: ["setInterval"] });
  const library = new Library(new Memory(), "p.");
  library.keep(asked(begun("id", 1), "question", 1));
  const bodies = [];
  const api = {
    async *chat(body) {
      bodies.push(body);
      const reply = replies.shift();
      if (reply instanceof Error) throw reply;
      yield* reply;
    },
  };
  const changes = [];
  const runs = new Runs(api, library, (_, change) => changes.push(change), () => 0);
  return { runs, library, bodies, changes, last: () => library.get("id").messages.at(-1) };
}

const settled = () => new Promise((resolve) => setImmediate(resolve));

test("a failure with a time is waited for second by second, and asked again", async (context) => {
  const { runs, bodies, changes, last } = started(context, [new Failure("limited", "", 2), whole]);
  await runs.start("id", CHOICES);
  assert.deepEqual([runs.secondsLeft("id"), runs.isRunning("id")], [2, false]);
  context.mock.timers.tick(1000);
  assert.equal(runs.secondsLeft("id"), 1);
  context.mock.timers.tick(1000);
  await settled();
  assert.deepEqual([last().content, last().failure, bodies.length], ["yes", undefined, 2]);
  assert.deepEqual(changes, ["began", "ended", "waiting", "began", "piece", "ended"]);
});

test("it is asked again three times by itself, and then no more", async (context) => {
  const { runs, bodies } = started(context, Array.from({ length: 9 }, () => new Failure("unavailable", "", 1)));
  await runs.start("id", CHOICES);
  for (let second = 0; second < 9; second += 1) {
    context.mock.timers.tick(1000);
    await settled();
  }
  assert.deepEqual([bodies.length, runs.secondsLeft("id")], [4, 0]);
});

test("the waiting can be called off", async (context) => {
  const { runs, bodies } = started(context, [new Failure("limited", "", 1), whole]);
  await runs.start("id", CHOICES);
  runs.stop("id");
  context.mock.timers.tick(5000);
  await settled();
  assert.deepEqual([bodies.length, runs.secondsLeft("id")], [1, 0]);
});

test("asking while it is waited does not wait", async (context) => {
  const { runs, bodies, last } = started(context, [new Failure("limited", "", 60), whole]);
  await runs.start("id", CHOICES);
  await runs.start("id", CHOICES);
  context.mock.timers.tick(100_000);
  assert.deepEqual([last().content, bodies.length], ["yes", 2]);
});

test("a failure without a time is not asked again by itself", async (context) => {
  const { runs, last } = started(context, [new Failure("refused", "why")]);
  await runs.start("id", CHOICES);
  assert.deepEqual([runs.secondsLeft("id"), last().failure.detail], [0, "why"]);
});

test("a conversation that is deleted while it is answered stays deleted", async (context) => {
  const { runs, library } = started(context, [whole]);
  const running = runs.start("id", CHOICES);
  library.remove("id");
  await running;
  assert.equal(library.get("id"), undefined);
});
