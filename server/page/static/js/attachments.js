/** Text files that go with a message. Pure. */

/** @typedef {{ name: string, text: string }} TextFile */

/** Bytes that a file may have. */
export const MOST_BYTES = 1 << 20;
/** Characters of pasted text from which on it becomes a file. */
export const LONG_PASTE = 4000;

/** Tried in this order; a file that is none of them is no text. */
const ENCODINGS = ["utf-8", "gb18030"];
// No text has these, but most other files do.
const BINARY = /[\0-\x08\x0e-\x1a\x1c-\x1f]/;

/** @param {Uint8Array} bytes @returns {string | null} null where they are no text */
export function textOf(bytes) {
  if ((bytes[0] === 0xff && bytes[1] === 0xfe) || (bytes[0] === 0xfe && bytes[1] === 0xff)) {
    return new TextDecoder(bytes[0] === 0xff ? "utf-16le" : "utf-16be").decode(bytes);
  }
  for (const encoding of ENCODINGS) {
    try {
      const text = new TextDecoder(encoding, { fatal: true }).decode(bytes);
      return BINARY.test(text) ? null : text;
    } catch {
      // The next encoding may fit.
    }
  }
  return null;
}

/** What a model is sent: each file under its name, then the message. @param {string} content @param {TextFile[]} [files] */
export function withFiles(content, files = []) {
  return [...files.map(({ name, text }) => `${name}\n${fenced(text)}`), content].filter(Boolean).join("\n\n");
}

/** @param {string} text between fences that are longer than any in it */
function fenced(text) {
  const longest = Math.max(2, ...[...text.matchAll(/`{3,}/g)].map(([ticks]) => ticks.length));
  const fence = "`".repeat(longest + 1);
  return `${fence}\n${text.replace(/\n$/, "")}\n${fence}`;
}

/** A name that none of `files` has. @param {TextFile[]} files @param {string} name */
export function freeName(files, name) {
  const [, stem, suffix] = /^(.*?)(\.[^.]*)?$/s.exec(name) ?? ["", name, ""];
  const taken = new Set(files.map((file) => file.name));
  let free = name;
  for (let number = 2; taken.has(free); number += 1) free = `${stem}-${number}${suffix ?? ""}`;
  return free;
}

/** @param {number} characters */
export function sizeText(characters) {
  return characters < 1000 ? String(characters) : `${(characters / 1000).toFixed(1)}k`;
}
