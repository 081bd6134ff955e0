/** What is shown before the first message: what the tasks of the server do. */

import { el } from "./dom.js";

/** @typedef {{ label: string, description: string, choose: () => void }} Card */

/** @param {Card[]} cards @param {import("../texts.js").Text} text */
export function welcome(cards, text) {
  const gallery = cards.map(({ label, description, choose }) =>
    el("li", {}, el("button", { type: "button", class: "card", click: choose }, el("strong", { text: label }), el("span", { text: description }))),
  );
  return el(
    "div",
    { class: "welcome" },
    el("h2", { text: text("welcome") }),
    el("p", { text: text("welcomeText") }),
    ...(gallery.length ? [el("h3", { text: text("gallery") }), el("ul", { class: "gallery" }, ...gallery)] : []),
  );
}
