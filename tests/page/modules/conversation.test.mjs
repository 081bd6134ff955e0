import assert from "node:assert/strict";
import test from "node:test";
import * as talk from "../../../server/page/static/js/conversation.js";

const UNCHOSEN = { maxTokens: null, topP: null, temperature: null };

function answered(question, content, end = "stop") {
  const conversation = talk.answering(talk.asked(talk.begun("id", 1), question, 2), "glm");
  return talk.withLast(conversation, { content, end });
}

test("the first question gives the title, on one line and cut by characters", () => {
  assert.equal(talk.asked(talk.begun("id", 1), "  你好\n世界 ", 2).title, "你好");
  assert.equal([...talk.titleOf("🙂".repeat(100))].length, 40);
});

test("a name that was given stays", () => {
  const named = { ...talk.begun("id", 1), title: "mine" };
  assert.equal(talk.asked(named, "other", 2).title, "mine");
});

test("a request has the system prompt first and leaves unchosen values out", () => {
  const body = talk.requestBody({ ...talk.asked(talk.begun("id", 1), "问", 2), system: "答得短" }, "glm", UNCHOSEN);
  assert.deepEqual(body.messages, [{ role: "system", content: "答得短" }, { role: "user", content: "问" }]);
  assert.deepEqual(["max_tokens", "top_p", "temperature"].filter((name) => name in body), []);
});

test("a value that was chosen is sent, also 0", () => {
  const body = talk.requestBody(answered("a", "b"), "glm", { maxTokens: 5, topP: 0, temperature: 0 });
  assert.deepEqual([body.max_tokens, body.top_p, body.temperature], [5, 0, 0]);
});

test("an answer with nothing in it is not sent, one that has begun is gone on with", () => {
  const empty = talk.requestBody(talk.answering(talk.asked(talk.begun("id", 1), "a", 2), "glm"), "glm", UNCHOSEN);
  assert.deepEqual(empty.messages.map(({ role }) => role), ["user"]);
  assert.equal("continue_final_message" in empty, false);
  const begun = talk.requestBody(talk.answering(answered("a", "half", "stopped"), "glm"), "glm", UNCHOSEN);
  assert.deepEqual(begun.messages.at(-1), { role: "assistant", content: "half" });
  assert.equal(begun.continue_final_message, true);
});

test("an answer that comes again drops what was wrong with it", () => {
  const failed = talk.withLast(answered("a", "half", "broken"), { failure: { kind: "lost", detail: "", wait: 0 } });
  const again = talk.answering(failed, "glm");
  assert.equal(again.messages.length, 2);
  assert.deepEqual([again.messages[1].content, again.messages[1].end, again.messages[1].failure], ["half", "", undefined]);
});

test("what a closed page left unfinished counts as broken off", () => {
  assert.equal(talk.restored(answered("a", "half", "")).messages.at(-1).end, "broken");
  assert.equal(talk.restored(answered("a", "whole")).messages.at(-1).end, "stop");
});

test("no function changes what it was given", () => {
  const before = answered("a", "b");
  const copy = structuredClone(before);
  talk.asked(before, "c", 3);
  talk.answering(before, "other");
  talk.withLast(before, { content: "x" });
  talk.cutAt(before, 0);
  assert.deepEqual(before, copy);
});
