import assert from "node:assert/strict";
import test from "node:test";
import { asked, begun } from "../../../server/page/static/js/conversation.js";
import { Library } from "../../../server/page/static/js/library.js";
import { grouped, hintOf } from "../../../server/page/static/js/models.js";
import { Preferences } from "../../../server/page/static/js/preferences.js";
import { slidersFor } from "../../../server/page/static/js/sampling.js";
import { Memory } from "../../../server/page/static/js/storage.js";
import { sendsOnEnter } from "../../../server/page/static/js/view/keys.js";

const conversation = (id, now) => asked(begun(id, now), `question ${id}`, now);

test("conversations come back, the latest first", () => {
  const storage = new Memory();
  const library = new Library(storage, "p.");
  library.keep(conversation("a", 1));
  library.keep(conversation("b", 3));
  library.keep(conversation("c", 2));
  assert.deepEqual(new Library(storage, "p.").list().map(({ id }) => id), ["b", "c", "a"]);
  assert.deepEqual(new Library(storage, "other.").list(), []);
});

test("one in which nothing was asked is not written down", () => {
  const storage = new Memory();
  new Library(storage, "p.").keep(begun("a", 1));
  assert.equal(storage.length, 0);
});

test("entries that are no conversations are left alone", () => {
  const storage = new Memory();
  for (const value of ["", "{", "null", "7", '{"id":"a"}']) storage.setItem(`p.conversation.${value}`, value);
  assert.deepEqual(new Library(storage, "p.").list(), []);
  assert.equal(storage.length, 5);
});

test("a full storage is told, and the conversation goes on", () => {
  const storage = new Memory();
  storage.setItem = () => {
    throw new DOMException("", "QuotaExceededError");
  };
  const library = new Library(storage, "p.");
  assert.equal(library.keep(conversation("a", 1)), false);
  assert.equal(library.get("a").id, "a");
});

test("a key is forgotten with the tab unless it is to be kept", () => {
  const [local, session] = [new Memory(), new Memory()];
  const preferences = new Preferences(local, session, "p.");
  preferences.setKey("sk-1", false);
  assert.deepEqual([preferences.key, local.length], ["sk-1", 0]);
  preferences.setKey("sk-2", true);
  assert.deepEqual([new Preferences(local, new Memory(), "p.").key, session.length], ["sk-2", 0]);
  preferences.setKey("", false);
  assert.equal(local.length + session.length, 0);
});

test("what was kept of the sampling is believed only where it is numbers", () => {
  const local = new Memory();
  local.setItem("p.sampling", '{"temperature": "hot", "topP": 0.5}');
  assert.deepEqual(new Preferences(local, new Memory(), "p.").sampling, { topP: 0.5 });
  local.setItem("p.sampling", "not JSON");
  assert.equal(new Preferences(local, new Memory(), "p.").sampling.topP, undefined);
});

const TASK = {
  id: "glm:intent",
  parent: "glm",
  task: {
    id: "intent",
    title: { zh: "意图", en: "" },
    description: { zh: "说明", en: "what it does" },
    slots: [{ name: "other", example: "x" }, { name: "text", example: "明天妈妈过生日" }],
    main_slot: "text",
  },
};

test("tasks stand apart from models, under the model that does them", () => {
  const { plain, tasks } = grouped([{ id: "glm" }, TASK, { id: "a:b" }], "en");
  assert.deepEqual(plain.map(({ id }) => id), ["glm", "a:b"]);
  assert.deepEqual(tasks, [{ label: "glm", choices: [{ id: "glm:intent", label: "意图 (intent)" }] }]);
});

test("a task is described in the language, with the example of what the message fills", () => {
  assert.deepEqual(hintOf(TASK, "en"), { description: "what it does", example: "明天妈妈过生日" });
  assert.deepEqual(hintOf({ id: "glm" }, "en"), { description: "", example: "" });
});

test("sliders have ChatGLM's ranges, within the context of the model, and stand where its defaults are", () => {
  const defaults = { temperature: 0.95, top_p: 0.7, max_tokens: 2048 };
  const rows = slidersFor({ id: "glm", context_length: 1024, defaults }).slice(0, 3).map(({ least, most, byModel }) => [least, most, byModel]);
  assert.deepEqual(rows, [[1, 1024, 1024], [0, 1, 0.7], [0, 1, 0.95]]);
  assert.equal(slidersFor(undefined)[0].most, 32768);
  const further = slidersFor({ id: "glm", defaults: { ...defaults, top_k: 5, repetition_penalty: 1.1 } });
  assert.deepEqual(further.filter(({ name }) => /topK|repetition/.test(name)).map(({ byModel }) => byModel), [5, 1.1]);
});

for (const [event, sends] of [
  [{}, true],
  [{ shiftKey: true }, false],
  [{ isComposing: true }, false],
  [{ keyCode: 229 }, false],
  [{ key: "a" }, false],
]) {
  test(`${JSON.stringify(event)} ${sends ? "sends" : "does not send"}`, () => {
    assert.equal(sendsOnEnter({ key: "Enter", shiftKey: false, isComposing: false, keyCode: 13, ...event }), sends);
  });
}
