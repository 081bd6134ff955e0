/** HTML as elements, by DOMPurify. */

import DOMPurify from "../../vendor/purify.js";

const TAGS = (
  "a blockquote br code del em h1 h2 h3 h4 h5 h6 hr li ol p pre strong table tbody td th thead tr ul #text"
).split(" ");
const ATTRIBUTES = ["align", "class", "href", "start", "title"];
const LINKS = /^(?:https?|mailto):/i;
/** The language of a piece of code, or what a highlighter found in it. */
const CLASSES = /^(?:language-[\w+#.-]{1,30}|hljs-[\w -]{1,60})$/;

DOMPurify.addHook("uponSanitizeAttribute", (_, attribute) => {
  if (attribute.attrName === "class") attribute.keepAttr = CLASSES.test(attribute.attrValue);
});
DOMPurify.addHook("afterSanitizeAttributes", (node) => {
  if (node.tagName !== "A") return;
  node.setAttribute("target", "_blank");
  node.setAttribute("rel", "noopener noreferrer");
});

/** @param {string} html of Markdown */
export function sanitised(html) {
  return fragmentOf(html, TAGS, ATTRIBUTES);
}

/** @param {string} html of a highlighter */
export function sanitisedCode(html) {
  return fragmentOf(html, ["span", "#text"], ["class"]);
}

/** @param {string} html @param {string[]} tags @param {string[]} attributes */
function fragmentOf(html, tags, attributes) {
  return /** @type {DocumentFragment} */ (
    DOMPurify.sanitize(html, {
      ALLOWED_TAGS: tags,
      ALLOWED_ATTR: attributes,
      ALLOWED_URI_REGEXP: LINKS,
      // No addresses, which the line above is about.
      ADD_URI_SAFE_ATTR: ["align", "start"],
      ALLOW_DATA_ATTR: false,
      ALLOW_ARIA_ATTR: false,
      RETURN_DOM_FRAGMENT: true,
    })
  );
}
