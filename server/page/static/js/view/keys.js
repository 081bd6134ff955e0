/** What keys mean in a field for messages. Pure. */

/**
 * Whether a key press sends. An Enter that ends the composition of characters does not: Chinese is typed that way.
 * @param {{ key: string, shiftKey: boolean, isComposing: boolean, keyCode: number }} event
 */
export function sendsOnEnter(event) {
  // Safari says 229, and no longer isComposing, for the Enter that ends a composition.
  return event.key === "Enter" && !event.shiftKey && !event.isComposing && event.keyCode !== 229;
}
