/** Markdown to HTML, as models write it. HTML in it stays text. Pure. */

import { Marked } from "../vendor/marked.js";

/** Characters that are written without blanks between words, and the marks among them. */
const UNSPACED = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\u2010-\u2027\u3000-\u303f\uff00-\uffef]/u;
const STRONG = /^\*\*(?=\S)([^*`\n]*[^*`\s])\*\*(?!\*)/;

const DISPLAY = /^(?:\$\$([\s\S]+?)\$\$|\\\[([\s\S]+?)\\\])/;
const DISPLAY_BLOCK = /^ {0,3}(?:\$\$([\s\S]+?)\$\$|\\\[([\s\S]+?)\\\])[ \t]*(?:\n+|$)/;
// A price is no formula: there is no blank inside of the marks, no digit behind them, and no Chinese behind a number.
const INLINE = /^(?:\$(?![\s$]|[\d.,]+[^$]*?[\u3000-\u9fff\uff00-\uffef])((?:\\[\s\S]|[^$\\\n])+?)(?<!\s)\$(?![\d$])|\\\(([\s\S]+?)\\\))/;

const marked = new Marked({ gfm: true, breaks: true });
marked.use({
  renderer: {
    html: ({ text }) => escaped(text),
    // A picture would tell its server that the answer is being read, and the policy of the page does not load it.
    image: ({ href, text }) => `<a href="${escaped(href)}">${escaped(text || href)}</a>`,
    checkbox: ({ checked }) => (checked ? "☑ " : "☐ "),
  },
  tokenizer: {
    // CommonMark finds no emphasis in 这是**“重点”**内容: it looks for blanks beside marks, where Chinese has none.
    emStrong(source, _, before = "") {
      const [raw, text] = STRONG.exec(source) ?? [];
      if (!raw || !(UNSPACED.test(before) || UNSPACED.test(source[raw.length] ?? ""))) return false;
      return { type: "strong", raw, text, tokens: this.lexer.inlineTokens(text) };
    },
  },
  extensions: [
    {
      name: "mathBlock",
      level: "block",
      start: (source) => /(?:^|\n) {0,3}(?:\$\$|\\\[)/.exec(source)?.index,
      tokenizer: (source) => math("mathBlock", DISPLAY_BLOCK.exec(source)),
      renderer: ({ text }) => `<pre><code class="language-math">${escaped(text)}</code></pre>`,
    },
    {
      name: "mathDisplay",
      level: "inline",
      start: (source) => /\$\$|\\\[/.exec(source)?.index,
      tokenizer: (source) => math("mathDisplay", DISPLAY.exec(source)),
      renderer: ({ text }) => `<code class="language-math-display">${escaped(text)}</code>`,
    },
    {
      name: "mathInline",
      level: "inline",
      start: (source) => /\$|\\\(/.exec(source)?.index,
      tokenizer: (source) => math("mathInline", INLINE.exec(source)),
      renderer: ({ text }) => `<code class="language-math">${escaped(text)}</code>`,
    },
  ],
});

/** @param {string} type @param {RegExpExecArray | null} found */
function math(type, found) {
  const text = (found?.[1] ?? found?.[2] ?? "").trim();
  return found && text ? { type, raw: found[0], text } : undefined;
}

/** @param {string} source @returns {import("../vendor/marked.js").Token[]} its blocks, and the spaces between them */
export function lex(source) {
  return marked.lexer(source);
}

/** @param {import("../vendor/marked.js").Token} block @returns {string} HTML that is still to be sanitised */
export function htmlOf(block) {
  return marked.parser([block]);
}

/** @param {string} text */
function escaped(text) {
  const names = /** @type {Record<string, string>} */ ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" });
  return text.replace(/[&<>"]/g, (character) => names[character]);
}
