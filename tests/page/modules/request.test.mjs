import assert from "node:assert/strict";
import test from "node:test";
import { freeName, textOf, withFiles } from "../../../server/page/static/js/attachments.js";
import { progressLine, progressOf } from "../../../server/page/static/js/progress.js";
import { samplingFields, samplingOf, stopsOf, stopsTyped } from "../../../server/page/static/js/sampling.js";
import { deedOf, keysOf, SHORTCUTS } from "../../../server/page/static/js/shortcuts.js";
import { textIn } from "../../../server/page/static/js/texts.js";
import { mayOverflow, messagesToOmit } from "../../../server/page/static/js/truncation.js";

test("what is chosen becomes fields of a request, and nothing else does", () => {
  const sampling = { maxTokens: 5, topP: 0, topK: 40, minP: 0.1, repetitionPenalty: 1.1, seed: 7, stop: ["\n", "问"], schema: '{"type":"object"}', temperature: null };
  assert.deepEqual(samplingFields(sampling), {
    max_tokens: 5,
    top_p: 0,
    top_k: 40,
    min_p: 0.1,
    repetition_penalty: 1.1,
    seed: 7,
    stop: ["\n", "问"],
    response_format: { type: "json_schema", json_schema: { name: "answer", schema: { type: "object" } } },
  });
  assert.deepEqual(samplingFields({}), {});
  assert.deepEqual(samplingOf({ temperature: "hot", seed: Infinity, stop: "x", schema: "[1]", other: 1 }), {});
});

test("stop strings are typed one on a line, line feeds as \\n", () => {
  assert.deepEqual(stopsOf("END\n\n\\n\\n\n问："), ["END", "\n\n", "问："]);
  assert.equal(stopsTyped(["END", "\n\n"]), "END\n\\n\\n");
});

const turn = (name) => [{ role: "user", content: name }, { role: "assistant", content: name }];
const messages = [..."abcdefgh"].flatMap(turn).slice(0, -1);

test("as much of the latest is kept as fits, and somewhat less so that it stays the same for some turns", async () => {
  const asked = [];
  const count = (from) => {
    asked.push(from);
    return { count: (messages.length - from) * 100, context: 1200 };
  };
  // Nine messages and the room for an answer fit, from turn 3 on; the stride of two makes it turn 4.
  assert.equal(await messagesToOmit(messages, 0, count), 8);
  assert.ok(asked.length <= 4);
  assert.equal(await messagesToOmit(messages, 8, count), 8);
});

test("the last turn stays even where it does not fit", async () => {
  assert.equal(await messagesToOmit(messages, 0, () => ({ count: 9999, context: 100 })), 14);
  assert.equal(await messagesToOmit(messages.slice(0, 1), 0, () => ({ count: 9999, context: 100 })), 0);
});

test("whether it may be too long is reckoned from what the server told", () => {
  const told = { role: "assistant", content: "x", figures: { exact: true, prompt: 700, tokens: 50 } };
  const asked = (content) => [{ role: "user", content: "q" }, told, { role: "user", content }];
  assert.equal(mayOverflow(asked("short"), 1024), false);
  assert.equal(mayOverflow(asked("long".repeat(60)), 1024), true);
  assert.equal(mayOverflow(asked("long".repeat(60)), null), false);
  assert.equal(mayOverflow([{ role: "user", content: "", files: [{ name: "a", text: "x".repeat(900) }] }], 1024), true);
});

test("files go in front of the message, between fences that they do not end", () => {
  assert.equal(withFiles("sum it up", [{ name: "a.md", text: "x\n```\ny\n```\n" }]), "a.md\n````\nx\n```\ny\n```\n````\n\nsum it up");
  assert.equal(withFiles("alone"), "alone");
});

test("text is read in the encodings that Chinese files have, and other files are not", () => {
  assert.equal(textOf(new TextEncoder().encode("你好")), "你好");
  assert.equal(textOf(Uint8Array.of(0xc4, 0xe3, 0xba, 0xc3)), "你好");
  assert.equal(textOf(Uint8Array.of(0xff, 0xfe, 0x60, 0x4f)), "你");
  assert.equal(textOf(Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0, 0, 0, 13)), null);
});

test("two files have different names", () => {
  const files = [{ name: "a.txt", text: "" }, { name: "a-2.txt", text: "" }, { name: "b", text: "" }];
  assert.deepEqual([freeName(files, "a.txt"), freeName(files, "b"), freeName(files, "c")], ["a-3.txt", "b-2", "c"]);
});

test("waiting is told in words", () => {
  const english = textIn("en");
  const line = (told) => progressLine(progressOf({ total: 4000, cache: 0, processed: 0, time_ms: 0, ...told }), english);
  assert.equal(line({ queue_position: 3, expected_wait_ms: 20_400 }), "Number 3 in the queue · starts in about 20 s");
  assert.equal(line({ queue_position: 1, expected_wait_ms: null }), "Number 1 in the queue");
  assert.equal(line({ cache: 1000, processed: 2000, time_ms: 60_000 }), "Reading the prompt: 2000 of 4000 tokens · about 2 min left");
  assert.equal(line({ processed: 3999, time_ms: 1000 }), "Reading the prompt: 3999 of 4000 tokens");
});

test("no two shortcuts are the same, and each is found by its keys", () => {
  const press = ({ key, mod = false, shift = false, alt = false }, mac) => ({ key: shift ? key.toUpperCase() : key, ctrlKey: mod && !mac, metaKey: mod && mac, shiftKey: shift, altKey: alt });
  for (const mac of [false, true]) for (const shortcut of SHORTCUTS) {
    const pressed = press(shortcut, mac);
    assert.equal(deedOf({ ...pressed, key: shortcut.key.length > 1 ? shortcut.key : pressed.key }, mac), shortcut.deed);
  }
  assert.equal(deedOf({ key: "k", ctrlKey: false, metaKey: false, shiftKey: false, altKey: false }, false), null);
  assert.deepEqual(keysOf(SHORTCUTS[0], false), ["Ctrl", "Shift", "O"]);
  assert.deepEqual(keysOf(SHORTCUTS[0], true), ["⌘", "⇧", "O"]);
});
