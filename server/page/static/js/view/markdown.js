/** Markdown as elements. HTML in it stays text; what marked makes of the rest goes through DOMPurify. */

import { Marked } from "../../vendor/marked.js";
import DOMPurify from "../../vendor/purify.js";
import { el } from "./dom.js";

const TAGS = (
  "a blockquote br code del em h1 h2 h3 h4 h5 h6 hr li ol p pre strong table tbody td th thead tr ul #text"
).split(" ");
const ATTRIBUTES = ["align", "class", "href", "start", "title"];
const LINKS = /^(?:https?|mailto):/i;
const LANGUAGE = /^language-[\w+#.-]{1,30}$/;

/** Characters that are written without blanks between words, and the marks among them. */
const UNSPACED = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\u2010-\u2027\u3000-\u303f\uff00-\uffef]/u;
const STRONG = /^\*\*(?=\S)([^*`\n]*[^*`\s])\*\*(?!\*)/;

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
});

DOMPurify.addHook("uponSanitizeAttribute", (_, attribute) => {
  if (attribute.attrName === "class") attribute.keepAttr = LANGUAGE.test(attribute.attrValue);
});
DOMPurify.addHook("afterSanitizeAttributes", (node) => {
  if (node.tagName !== "A") return;
  node.setAttribute("target", "_blank");
  node.setAttribute("rel", "noopener noreferrer");
});

/**
 * The blocks of a text: each paragraph, list, table or piece of code as the source that it was made from.
 * @param {string} source
 */
export function blocksOf(source) {
  return marked.lexer(source).filter((token) => token.type !== "space");
}

/**
 * @param {import("../../vendor/marked.js").Token} block
 * @param {{ text: import("../texts.js").Text, codeCopied: (code: string, button: HTMLElement) => void }} page
 * @returns {HTMLElement} of class "block"
 */
export function blockElement(block, page) {
  const html = marked.parser([block]);
  const fragment = /** @type {DocumentFragment} */ (
    DOMPurify.sanitize(html, {
      ALLOWED_TAGS: TAGS,
      ALLOWED_ATTR: ATTRIBUTES,
      ALLOWED_URI_REGEXP: LINKS,
      // No addresses, which the line above is about.
      ADD_URI_SAFE_ATTR: ["align", "start"],
      ALLOW_DATA_ATTR: false,
      ALLOW_ARIA_ATTR: false,
      RETURN_DOM_FRAGMENT: true,
    })
  );
  const element = el("div", { class: "block", dir: "auto" }, fragment);
  for (const pre of element.querySelectorAll("pre")) pre.replaceWith(codeElement(pre, page));
  for (const table of element.querySelectorAll("table")) {
    const frame = el("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": page.text("table") });
    table.replaceWith(frame);
    frame.append(table);
  }
  return element;
}

/**
 * @param {HTMLElement} pre
 * @param {Parameters<typeof blockElement>[1]} page
 */
function codeElement(pre, page) {
  const code = pre.textContent ?? "";
  const language = (pre.querySelector("code")?.className ?? "").replace("language-", "");
  const button = el("button", { type: "button", class: "small", text: page.text("copyCode") });
  button.addEventListener("click", () => page.codeCopied(code, button));
  return el(
    "figure",
    { class: "code" },
    el("figcaption", {}, el("span", { text: language }), button),
    el("pre", { tabindex: "0" }, el("code", { text: code })),
  );
}

/** @param {string} text */
function escaped(text) {
  const names = /** @type {Record<string, string>} */ ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" });
  return text.replace(/[&<>"]/g, (character) => names[character]);
}
