import assert from "node:assert/strict";
import test from "node:test";
import { branched, everyMessage, placeOf, switched } from "../../../server/page/static/js/branches.js";

const user = (content) => ({ role: "user", content });
const model = (content) => ({ role: "assistant", content });
const shown = ({ messages }) => messages.map(({ content }) => content).join(" ");
const conversation = { id: "a", title: "", updated: 1, system: "", messages: [user("q1"), model("a1"), user("q2"), model("a2")] };

test("an answer that is asked for again is a second version, and the first one can be shown", () => {
  const again = branched(conversation, 3, model("a2b"));
  assert.equal(shown(again), "q1 a1 q2 a2b");
  assert.deepEqual(placeOf(again.messages[3]), { at: 1, of: 2 });
  const back = switched(again, 3, 0);
  assert.equal(shown(back), "q1 a1 q2 a2");
  assert.deepEqual(placeOf(back.messages[3]), { at: 0, of: 2 });
  assert.deepEqual(switched(back, 3, 1), again);
});

test("a version keeps what followed it, with the versions in there", () => {
  const second = branched(branched(conversation, 3, model("a2b")), 0, user("q1b"));
  assert.equal(shown(second), "q1b");
  const third = branched(second, 0, user("q1c"));
  assert.deepEqual(placeOf(third.messages[0]), { at: 2, of: 3 });
  const first = switched(third, 0, 0);
  assert.equal(shown(first), "q1 a1 q2 a2b");
  assert.equal(shown(switched(first, 3, 0)), "q1 a1 q2 a2");
  assert.equal(shown(switched(first, 0, 1)), "q1b");
});

test("an answer of which nothing came is not kept as a version", () => {
  const failed = { ...conversation, messages: [user("q1"), model("")] };
  assert.deepEqual(placeOf(branched(failed, 1, model("a1b")).messages[1]), { at: 0, of: 1 });
});

test("no version is lost, whichever way one goes", () => {
  let now = branched(branched(conversation, 0, user("q1b")), 0, user("q1c"));
  for (const to of [0, 2, 1, 0, 1, 2]) {
    now = switched(now, 0, to);
    assert.deepEqual(placeOf(now.messages[0]), { at: to, of: 3 });
    assert.deepEqual(everyMessage(now.messages).map(({ content }) => content).sort(), ["a1", "a2", "q1", "q1b", "q1c", "q2"]);
  }
});

test("a version that is not there changes nothing, and a message behind the last is simply added", () => {
  assert.equal(switched(conversation, 3, 1), conversation);
  const longer = branched(conversation, 4, user("q3"));
  assert.equal(shown(longer), "q1 a1 q2 a2 q3");
  assert.deepEqual(placeOf(longer.messages[4]), { at: 0, of: 1 });
});
