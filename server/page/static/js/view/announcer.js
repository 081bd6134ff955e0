/** Says to screen readers what happened: that an answer comes, and then all of it at once. */

import { byId } from "./dom.js";

/** Characters that are read out; more can be found in the message itself. */
const LONGEST = 1500;

/** @returns {(what: string) => void} */
export function announcer() {
  const region = byId("announcer");
  return (what) => {
    region.textContent = what.length > LONGEST ? `${what.slice(0, LONGEST)}…` : what;
  };
}
