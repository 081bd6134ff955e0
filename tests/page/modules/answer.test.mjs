import assert from "node:assert/strict";
import test from "node:test";
import { follow } from "../../../server/page/static/js/answer.js";
import { Failure, failureOf, remedyFor } from "../../../server/page/static/js/failure.js";
import { figuresLine } from "../../../server/page/static/js/figures.js";
import { languageFor, TABLES, textIn } from "../../../server/page/static/js/texts.js";

const piece = (content, finish_reason = null) => ({ choices: [{ delta: { content }, finish_reason }] });
const USAGE = { prompt_tokens: 20, completion_tokens: 3, prompt_tokens_details: { cached_tokens: 12 } };

async function* chunks(pieces, error) {
  yield* pieces;
  if (error) throw error;
}

/** Milliseconds that go on by 500 with each look. */
function clock() {
  let now = 0;
  return () => (now += 500);
}

test("pieces are added up, and the last chunk tells the figures", async () => {
  const seen = [];
  const last = { choices: [], usage: USAGE, timings: { predicted_per_second: 40 } };
  const stream = chunks([piece(""), piece("你"), piece("好"), piece(undefined, "stop"), last]);
  const done = await follow(stream, "", clock(), ({ content }) => seen.push(content));
  assert.deepEqual(seen, ["你", "你好"]);
  assert.deepEqual([done.content, done.end, done.failure], ["你好", "stop", undefined]);
  assert.deepEqual(done.figures, { tokens: 3, rate: 40, first: 0.5, prompt: 20, cached: 12, exact: true });
});

test("what a model thinks is told apart from what it says", async () => {
  const thought = { choices: [{ delta: { reasoning_content: "hm" }, finish_reason: null }] };
  const done = await follow(chunks([thought, piece("yes", "stop")]), "", clock(), () => {});
  assert.deepEqual([done.content, done.reasoning], ["yes", "hm"]);
});

test("an answer that is gone on with keeps its beginning", async () => {
  const done = await follow(chunks([piece("cd", "length")]), "ab", clock(), () => {});
  assert.deepEqual([done.content, done.end], ["abcd", "length"]);
});

test("until the server tells, the rate is that of the pieces after the first", async () => {
  let figures;
  await follow(chunks([piece("a"), piece("b"), piece("c")]), "", clock(), (change) => (figures = change.figures));
  assert.deepEqual([figures.tokens, figures.rate, figures.first, figures.exact], [3, 2, 0.5, false]);
});

test("what had come is kept when the connection breaks", async () => {
  const done = await follow(chunks([piece("half")], new Failure("lost")), "", clock(), () => {});
  assert.deepEqual([done.content, done.end, done.failure.kind], ["half", "broken", "lost"]);
});

test("an answer that was stopped did not fail", async () => {
  const done = await follow(chunks([piece("half")], new DOMException("", "AbortError")), "", clock(), () => {});
  assert.deepEqual([done.content, done.end, done.failure], ["half", "stopped", undefined]);
});

for (const [status, code, retryAfter, kind, wait] of [
  [401, "invalid_api_key", null, "key", 0],
  [429, "rate_limit_exceeded", "7", "limited", 7],
  [429, "queue_full", "1", "busy", 1],
  [503, "engine_unavailable", "2", "unavailable", 2],
  [400, "context_length_exceeded", null, "too_long", 0],
  [400, "invalid_value", null, "refused", 0],
  [500, "internal_error", null, "server", 0],
  [502, "", "Wed, 21 Oct 2026 07:28:00 GMT", "unavailable", 0],
]) {
  test(`${status} ${code} is told as ${kind}`, () => {
    const failure = failureOf(status, { error: { message: "why", code } }, retryAfter);
    assert.deepEqual([failure.kind, failure.detail, failure.wait], [kind, "why", wait]);
  });
}

test("a reply that is no JSON of ours is told by its status", () => {
  assert.equal(failureOf(502, null, null).kind, "unavailable");
  assert.equal(failureOf(504, { error: "text" }, null).kind, "server");
});

test("a line of figures leaves out what is not known", () => {
  const figures = { tokens: 1, rate: 0, first: null, prompt: 0, cached: 0, exact: false };
  assert.equal(figuresLine(figures, textIn("en")), "≈ 1 token");
  assert.equal(figuresLine({ ...figures, tokens: 0 }, textIn("en")), "");
});

test("both languages have words for the same things, with the same values in them", () => {
  const values = (words) => [...words.matchAll(/\{(\w+)\}/g)].map((match) => match[1]).sort();
  assert.deepEqual(Object.keys(TABLES.zh), Object.keys(TABLES.en));
  for (const key of Object.keys(TABLES.en)) assert.deepEqual(values(TABLES.zh[key]), values(TABLES.en[key]), key);
});

for (const [chosen, browsers, language] of [
  ["", ["zh-CN", "en"], "zh"],
  ["", ["zh-Hant-TW"], "zh"],
  ["", ["de-DE", "fr"], "en"],
  ["", ["de-DE", "zh"], "zh"],
  ["en", ["zh-CN"], "en"],
]) {
  test(`${chosen || "no choice"} with ${browsers} is ${language}`, () => {
    assert.equal(languageFor(chosen, browsers), language);
  });
}

for (const [kind, content, isTask, remedy] of [
  ["lost", "half", false, "goOn"],
  ["lost", "", false, "again"],
  ["lost", "half", true, "again"],
  ["key", "", false, "keyEnter"],
  ["too_long", "", false, null],
  ["refused", "", false, null],
]) {
  test(`against ${kind}${content && ` after ${content}`}${isTask ? " of a task" : ""} ${remedy ?? "nothing"} may help`, () => {
    assert.equal(remedyFor({ content, failure: { kind, detail: "", wait: 0 } }, isTask), remedy);
  });
}
