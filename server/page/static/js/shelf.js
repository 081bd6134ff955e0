/** What is done with whole conversations: named, pinned, saved as files, read from them, deleted. */

import { asArchive, asJson, asMarkdown, fromFile, newer } from "./transfer.js";
import { choose, download } from "./view/copy.js";
import { askTitle, confirmRemoval, confirmRemovalOfAll } from "./view/dialogs.js";

/**
 * @typedef {import("./conversation.js").Conversation} Conversation
 *
 * @typedef {object} ShelfActions
 * @property {() => import("./texts.js").Text} text
 * @property {() => string} newId
 * @property {(conversation: Conversation) => boolean} keep whether there was room
 * @property {(ids: string[]) => void} removed
 * @property {(message: string, options?: import("./view/notice.js").NoticeOptions) => void} notice
 */

export class Shelf {
  #library;
  #actions;

  /** @param {import("./library.js").Library} library @param {ShelfActions} actions */
  constructor(library, actions) {
    this.#library = library;
    this.#actions = actions;
  }

  /** @param {string} id @param {import("./view/sidebar.js").Deed} deed */
  async act(id, deed) {
    const conversation = this.#library.get(id);
    if (!conversation) return;
    const text = this.#actions.text();
    const title = conversation.title || text("untitled");
    if (deed === "asMarkdown") download(`${fileName(title)}.md`, "text/markdown", asMarkdown(conversation, text));
    if (deed === "asJson") download(`${fileName(title)}.json`, "application/json", asJson(conversation));
    if (deed === "pin" || deed === "unpin") this.#change(id, { pinned: deed === "pin" });
    if (deed === "rename") {
      const name = await askTitle(text, title);
      if (name) this.#change(id, { title: name });
    }
    if (deed === "remove" && (await confirmRemoval(text, title))) this.#remove([id]);
  }

  exportAll() {
    const day = new Date().toISOString().slice(0, 10);
    download(`glmserve-${day}.json`, "application/json", asArchive(this.#library.list()));
  }

  async import() {
    const text = this.#actions.text();
    for (const file of await choose(".json,application/json", true)) {
      const read = fromFile(await file.text(), this.#actions.newId, Date.now());
      if (!read) {
        this.#actions.notice(text("importWrong", { name: file.name }));
        continue;
      }
      const fresh = newer(read, (id) => this.#library.get(id));
      const told = text(fresh.length < read.length ? "importedSome" : "imported", { count: fresh.length, all: read.length });
      if (fresh.every(this.#actions.keep)) this.#actions.notice(told, { news: true });
    }
  }

  async removeAll() {
    const all = this.#library.list().map(({ id }) => id);
    if (all.length && (await confirmRemovalOfAll(this.#actions.text(), all.length))) this.#remove(all);
  }

  /** @param {string[]} ids */
  #remove(ids) {
    for (const id of ids) this.#library.remove(id);
    this.#actions.removed(ids);
  }

  /** What came in the meantime stays. @param {string} id @param {Partial<Conversation>} change */
  #change(id, change) {
    const conversation = this.#library.get(id);
    if (conversation) this.#actions.keep({ ...conversation, ...change });
  }
}

/** @param {string} title */
function fileName(title) {
  return title.replace(/[\\/:*?"<>|\p{Cc}]+/gu, " ").trim().slice(0, 60) || "glmserve";
}
