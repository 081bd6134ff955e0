import assert from "node:assert/strict";
import test from "node:test";
import { branched } from "../../../server/page/static/js/branches.js";
import { matching } from "../../../server/page/static/js/find.js";
import { asArchive, asJson, asMarkdown, fromFile, newer } from "../../../server/page/static/js/transfer.js";

const text = (key) => key;
const newId = () => "00000000";
const CONVERSATION = {
  id: "0123456789abcdef",
  title: "问",
  updated: 5,
  system: "两\n行",
  pinned: true,
  sampling: { temperature: 0.5, stop: ["\n"] },
  messages: [
    { role: "user", content: "问", at: 1, files: [{ name: "a.txt", text: "inside" }], variables: { a: "b" }, labels: { a: "A" } },
    { role: "assistant", content: "答", end: "stop", model: "glm", at: 2, figures: { tokens: 1, rate: 2, first: null, prompt: 3, cached: 0, exact: true }, omitted: 2 },
  ],
};

test("a file has all that was said", () => {
  const bare = { ...CONVERSATION, messages: [{ role: "user", content: "问" }, CONVERSATION.messages[1]] };
  assert.equal(asMarkdown(bare, text), "# 问\n\n> 两\n> 行\n\n## user\n\n问\n\n## assistant\n\n答\n");
  assert.match(asMarkdown(CONVERSATION, text), /a\.txt\n```\ninside\n```\n\n问/);
  assert.deepEqual(JSON.parse(asJson(bare)).messages, [
    { role: "system", content: "两\n行" },
    { role: "user", content: "问" },
    { role: "assistant", content: "答", model: "glm" },
  ]);
});

test("what is exported comes back as it was, with all versions", () => {
  const conversations = [branched(CONVERSATION, 1, { role: "assistant", content: "again", end: "length" }), { ...CONVERSATION, id: "fedcba9876543210" }];
  assert.deepEqual(fromFile(asArchive(conversations), newId, 9), conversations);
});

test("a conversation that was saved alone is read, too", () => {
  const [read] = fromFile(asJson(CONVERSATION), newId, 9);
  assert.deepEqual([read.id, read.title, read.updated, read.system, read.messages.length], ["00000000", "问", 9, "两\n行", 2]);
});

test("nothing gets in that is no conversation, nor what a message cannot have", () => {
  for (const file of ["", "{", "null", "[]", "7", '{"messages": 1}', '{"kind": "other", "conversations": []}']) assert.equal(fromFile(file, newId, 9), null, file);
  const hostile = {
    id: "../../x",
    title: 7,
    messages: [null, { role: "tool", content: "x" }, { role: "user", content: 5 }, { role: "user", content: "ok", files: "x", variables: { a: 1 }, versions: { tails: [[]], at: 9 }, failure: {}, figures: "x" }],
    sampling: { temperature: "hot", schema: "{" },
  };
  assert.deepEqual(fromFile(JSON.stringify({ kind: "glmserve.conversations", conversations: [hostile, 5] }), newId, 9), [
    { id: "00000000", title: "", updated: 9, system: "", sampling: {}, messages: [{ role: "user", content: "ok" }] },
  ]);
});

test("what is here and newer is not replaced", () => {
  const present = (id) => (id === "a" ? { updated: 5 } : undefined);
  const read = [{ id: "a", updated: 4 }, { id: "b", updated: 1 }];
  assert.deepEqual(newer(read, present).map(({ id }) => id), ["b"]);
  assert.deepEqual(newer([{ id: "a", updated: 6 }], present).length, 1);
});

test("a search looks for every word, whatever its case or width, also in versions that are not shown", () => {
  const hidden = branched(CONVERSATION, 1, { role: "assistant", content: "Something ＥＬＳＥ" });
  assert.equal(matching([hidden], "else 答").length, 1);
  assert.equal(matching([hidden], "else nowhere").length, 0);
  assert.equal(matching([hidden], " ").length, 1);
});
