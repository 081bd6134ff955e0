import assert from "node:assert/strict";
import test from "node:test";
import { Blocks } from "../../../server/page/static/js/blocks.js";
import { grouped } from "../../../server/page/static/js/dates.js";
import { htmlOf, lex } from "../../../server/page/static/js/markdown.js";
import { recordOf } from "../../../server/page/static/js/records.js";
import { split } from "../../../server/page/static/js/thinking.js";

const html = (source) => lex(source).map(htmlOf).join("");
const formulas = (source) => [...html(source).matchAll(/<code class="language-(math[^"]*)">([^<]*)</g)].map(([, kind, tex]) => [kind, tex]);

for (const [source, expected] of [
  ["$x^2$ 和 \\(y\\)", [["math", "x^2"], ["math", "y"]]],
  ["$$\na\n\n+b\n$$", [["math", "a\n\n+b"]]],
  ["\\[ a_1 * b * c \\]", [["math", "a_1 * b * c"]]],
  ["所以 $$x$$ 成立", [["math-display", "x"]]],
  ["$a_1$ 与 $b_1$，$$c$$", [["math", "a_1"], ["math", "b_1"], ["math-display", "c"]]],
  ["价格是 $5 和 $6", []],
  ["从$5到$6之间", []],
  ["卖 $6，即 $x$ 和 $面积=2$", [["math", "x"], ["math", "面积=2"]]],
  ["cost $5, or $ 6 $", []],
  ["`$x$` 和 \\$x\\$", []],
  ["$a\\$b$", [["math", "a\\$b"]]],
  ["```\n$x$\n```", []],
  ["unfinished $x", []],
]) {
  test(`formulas of ${JSON.stringify(source)}`, () => assert.deepEqual(formulas(source), expected));
}

const TEXT = "# 标题\n\n段落 **重**\n第二行\n\n- 一\n- 二\n\n  里面\n\n```python\nx = 1\n\ny\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n$$\nx\n$$\n末尾\n---\n1. x\n2. y\n";

for (const size of [1, 3, 7, 50]) {
  test(`a text that comes in pieces of ${size} is read as when it comes at once`, () => {
    const blocks = new Blocks();
    for (let end = size; end < TEXT.length + size; end += size) {
      const now = TEXT.slice(0, end);
      const expected = lex(now).filter(({ type }) => type !== "space");
      assert.deepEqual(blocks.update(now, false).map(({ raw }) => raw.trimEnd()), expected.map(({ raw }) => raw.trimEnd()), JSON.stringify(now));
    }
  });
}

test("a text that becomes another one is read anew, and a link may be named behind its use", () => {
  const blocks = new Blocks();
  blocks.update("one\n\ntwo", false);
  assert.deepEqual(blocks.update("other", false).map(({ raw }) => raw), ["other"]);
  blocks.update("[a]\n\nx\n\n[a]: https://example.com", false);
  assert.match(htmlOf(blocks.update("[a]\n\nx\n\n[a]: https://example.com", true)[0]), /href="https:\/\/example.com"/);
});

test("what a model thought is told apart from what it answers", () => {
  assert.deepEqual(split("<think>\nhm"), { thought: "hm", answer: "", thinking: true });
  assert.deepEqual(split("<think>hm</think>\n\nyes"), { thought: "hm", answer: "yes", thinking: false });
  assert.deepEqual(split("hm</think>yes"), { thought: "hm", answer: "yes", thinking: false });
  assert.deepEqual(split("", "hm"), { thought: "hm", answer: "", thinking: true });
  assert.deepEqual(split("yes", "hm"), { thought: "hm", answer: "yes", thinking: false });
  assert.deepEqual(split("about <think> tags"), { thought: "", answer: "about <think> tags", thinking: false });
});

test("a record is names and values, line by line", () => {
  assert.deepEqual(recordOf("话题：生日\n时间：8:30"), [{ name: "话题", value: "生日" }, { name: "时间", value: "8:30" }]);
  assert.deepEqual(recordOf("标题：x\n正文：一\n二"), [{ name: "标题", value: "x" }, { name: "正文", value: "一\n二" }]);
  for (const text of ["正面", "", "一句话，没有名字\n话题：生日", "# 标题：x"]) assert.equal(recordOf(text), null, text);
});

test("conversations stand under what is pinned, and then under dates", () => {
  const now = new Date(2026, 5, 20, 12).getTime();
  const days = (count) => new Date(2026, 5, 20 - count, 9).getTime();
  const conversations = [0, 1, 3, 20, 60].map((count) => ({ id: String(count), updated: days(count) }));
  const groups = grouped([...conversations, { id: "p", updated: days(400), pinned: true }], now, (key) => key, "en");
  assert.deepEqual(groups.map(({ label, conversations: within }) => [label, within[0].id]), [
    ["pinned", "p"], ["today", "0"], ["yesterday", "1"], ["lastWeek", "3"], ["lastMonth", "20"], ["April 2026", "60"],
  ]);
});
