/** Keys that do something wherever the focus is. Pure. */

/**
 * @typedef {"new" | "search" | "shortcuts" | "previous" | "next" | "copyLast" | "editLast" | "options" | "stop"} Deed
 * @typedef {{ key: string, mod?: boolean, shift?: boolean, alt?: boolean, deed: Deed }} Shortcut
 * @typedef {{ key: string, ctrlKey: boolean, metaKey: boolean, shiftKey: boolean, altKey: boolean }} Pressed
 */

/** `mod` is Ctrl, or ⌘ on a Mac. @type {Shortcut[]} */
export const SHORTCUTS = [
  { key: "o", mod: true, shift: true, deed: "new" },
  { key: "k", mod: true, deed: "search" },
  { key: "ArrowUp", alt: true, deed: "previous" },
  { key: "ArrowDown", alt: true, deed: "next" },
  { key: "c", mod: true, shift: true, deed: "copyLast" },
  { key: "e", mod: true, shift: true, deed: "editLast" },
  { key: ".", mod: true, deed: "options" },
  { key: "/", mod: true, deed: "shortcuts" },
  { key: "Escape", deed: "stop" },
];

/** @param {Pressed} pressed @param {boolean} mac @returns {Deed | null} */
export function deedOf(pressed, mac) {
  const mod = mac ? pressed.metaKey : pressed.ctrlKey;
  const other = mac ? pressed.ctrlKey : pressed.metaKey;
  const found = SHORTCUTS.find(
    ({ key, mod: wantsMod = false, shift = false, alt = false }) =>
      key === (key.length === 1 ? pressed.key.toLowerCase() : pressed.key) &&
      mod === wantsMod &&
      !other &&
      pressed.altKey === alt &&
      pressed.shiftKey === shift,
  );
  return found?.deed ?? null;
}

/** @param {Shortcut} shortcut @param {boolean} mac @returns {string[]} the keys as they are printed on keyboards */
export function keysOf({ key, mod, shift, alt }, mac) {
  const names = /** @type {Record<string, string>} */ ({ ArrowUp: "↑", ArrowDown: "↓", Escape: "Esc" });
  return [
    ...(mod ? [mac ? "⌘" : "Ctrl"] : []),
    ...(alt ? [mac ? "⌥" : "Alt"] : []),
    ...(shift ? [mac ? "⇧" : "Shift"] : []),
    names[key] ?? key.toUpperCase(),
  ];
}
