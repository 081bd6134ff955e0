/** The shortcuts, wherever the focus is. */

import { deedOf } from "./shortcuts.js";

export const MAC = /Mac|iPhone|iPad/.test(navigator.platform);

/** @param {Record<import("./shortcuts.js").Deed, () => unknown>} deeds false where a key keeps its own meaning */
export function listen(deeds) {
  addEventListener("keydown", (event) => {
    const deed = deedOf(event, MAC);
    if (!deed || event.isComposing || document.querySelector("dialog[open]")) return;
    if (deeds[deed]() !== false) event.preventDefault();
  });
}
