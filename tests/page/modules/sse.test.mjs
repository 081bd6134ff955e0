import assert from "node:assert/strict";
import test from "node:test";
import { EventParser } from "../../../server/page/static/js/sse.js";

const STREAM = 'data: {"a":1}\r\n\r\n: ping\r\n\r\ndata: 你\ndata:好\n\nid: 7\nevent: x\rdata: [DONE]\r\rdata: never ended\n';
const EVENTS = ['{"a":1}', "你\n好", "[DONE]"];

for (const size of [1, 2, 3, 7, 1000]) {
  test(`events are the same in pieces of ${size}`, () => {
    const parser = new EventParser();
    const events = [];
    for (let at = 0; at < STREAM.length; at += size) events.push(...parser.feed(STREAM.slice(at, at + size)));
    assert.deepEqual(events, EVENTS);
  });
}

test("an event comes when its empty line does", () => {
  const parser = new EventParser();
  assert.deepEqual(parser.feed("data: x\n"), []);
  assert.deepEqual(parser.feed("\n"), ["x"]);
});
