/** The page: puts the parts together and answers to what is done with them. */

import { Api } from "./api.js";
import { asJson, asMarkdown, asked, begun, cutAt } from "./conversation.js";
import { Library } from "./library.js";
import { hintOf, isTask, suggestions } from "./models.js";
import { Preferences } from "./preferences.js";
import { Runs } from "./runs.js";
import { slidersFor } from "./sliders.js";
import { storageOf } from "./storage.js";
import { languageFor, textIn } from "./texts.js";
import { announcer } from "./view/announcer.js";
import { Composer } from "./view/composer.js";
import { download } from "./view/copy.js";
import { askKey, askTitle, confirmRemoval } from "./view/dialogs.js";
import { byId, fillIn } from "./view/dom.js";
import { Notice } from "./view/notice.js";
import { Options } from "./view/options.js";
import { Picker } from "./view/picker.js";
import { Sidebar } from "./view/sidebar.js";
import { Thread } from "./view/thread.js";

/**
 * @typedef {import("./conversation.js").Conversation} Conversation
 * @typedef {import("./failure.js").Failure} Failure
 */

class Page {
  #prefix = `glmserve${location.pathname}`;
  #local = storageOf("localStorage");
  #preferences = new Preferences(this.#local.storage, storageOf("sessionStorage").storage, this.#prefix);
  #library = new Library(this.#local.storage, this.#prefix);
  #api = new Api(new URL(".", location.href), () => this.#preferences.key);
  #runs = new Runs(this.#api, this.#library, (...told) => this.#changed(...told), () => performance.now());
  /** @type {import("./texts.js").Language} */
  #language = "en";
  #text = textIn("en");
  /** @type {import("./api.js").Model[]} */
  #models = [];
  #current = begun(newId(), Date.now());

  #announce = announcer();
  #notice = new Notice();
  #composer = new Composer({ send: (content) => this.#ask(content), stop: () => this.#runs.stop(this.#current.id) });
  #picker = new Picker((id) => this.#chooseModel(id));
  #thread = new Thread({
    text: () => this.#text,
    announce: (what) => this.#announce(what),
    suggestions: () => this.#suggestions(),
    edited: (index, content) => this.#edited(index, content),
    regenerate: () => this.#regenerate(),
    canGoOn: (message) => !this.#isTask(message.model),
    retry: () => (this.#isTask(this.#current.messages.at(-1)?.model) ? this.#regenerate() : this.#goOn()),
    goOn: () => this.#goOn(),
    cancel: () => this.#runs.stop(this.#current.id),
  });
  #sidebar = new Sidebar({
    open: (id) => this.#open(this.#library.get(id)),
    begin: () => this.#begin(),
    act: (id, deed) => this.#act(id, deed),
  });
  #options = new Options({
    system: (system) => this.#keep({ ...this.#current, system }),
    sampling: (change) => (this.#preferences.sampling = { ...this.#preferences.sampling, ...change }),
    changeKey: () => this.#askKey(false),
    forgetKey: () => this.#useKey("", false),
    toggled: (open) => this.#preferences.set("options", open ? "open" : ""),
  });

  start() {
    this.#choices();
    const open = this.#preferences.get("options") === "open" && matchMedia("(min-width: 70rem)").matches;
    this.#open(this.#library.get(this.#preferences.get("current")));
    this.#speak();
    this.#options.toggle(open);
    if (!this.#local.lasting) this.#notice.show(this.#text("noStorage"));
    addEventListener("storage", (event) => this.#changedElsewhere(event.key ?? ""));
    addEventListener("keydown", (event) => this.#key(event));
    addEventListener("pagehide", () => this.#library.get(this.#current.id) && this.#library.keep(this.#current));
    void this.#load();
    this.#composer.focus();
  }

  /** The two choices that hold for the whole page. */
  #choices() {
    const language = /** @type {HTMLSelectElement} */ (byId("language"));
    const theme = /** @type {HTMLSelectElement} */ (byId("theme"));
    language.value = this.#preferences.get("language");
    theme.value = this.#preferences.get("theme");
    language.addEventListener("change", () => {
      this.#preferences.set("language", language.value);
      this.#speak();
    });
    theme.addEventListener("change", () => {
      this.#preferences.set("theme", theme.value);
      dispatchEvent(new Event("themechosen"));
    });
  }

  #speak() {
    this.#language = languageFor(this.#preferences.get("language"), navigator.languages);
    this.#text = textIn(this.#language);
    document.documentElement.lang = this.#language === "zh" ? "zh-CN" : "en";
    fillIn(this.#text);
    this.#showAll();
  }

  async #load() {
    try {
      this.#models = await this.#api.models();
      this.#notice.hide();
      if (this.#models.length === 0) this.#notice.show(this.#text("noModels"));
    } catch (error) {
      const { kind } = /** @type {Failure} */ (error);
      if (kind === "key") return this.#askKey(this.#preferences.key !== "");
      this.#notice.show(this.#text(`failure.${kind ?? "server"}`), this.#text("retry"), () => this.#load());
    }
    this.#showModel();
    if (this.#current.messages.length === 0) this.#showThread();
  }

  get #model() {
    const chosen = this.#preferences.get("model");
    return this.#models.find((model) => model.id === chosen) ?? this.#models[0];
  }

  #suggestions() {
    return suggestions(this.#models, this.#language).map(({ id, label, example }) => ({
      label,
      choose: () => {
        this.#chooseModel(id);
        this.#composer.write(example);
        this.#composer.focus();
      },
    }));
  }

  /** @param {string | undefined} id */
  #isTask(id) {
    return this.#models.some((model) => model.id === id && isTask(model));
  }

  /** @param {string} id */
  #chooseModel(id) {
    this.#preferences.set("model", id);
    this.#showModel();
  }

  #showModel() {
    this.#picker.show(this.#models, this.#model?.id ?? "", this.#language, this.#text);
    this.#composer.hint(hintOf(this.#model, this.#language), this.#text("example"));
    this.#showOptions();
  }

  #showOptions() {
    const { sampling, key } = this.#preferences;
    const sliders = slidersFor(this.#model);
    this.#options.show({ system: this.#current.system, sampling, sliders, hasKey: key !== "" }, this.#text);
  }

  #showThread() {
    const { id } = this.#current;
    const running = this.#runs.isRunning(id);
    this.#thread.show(this.#current, running, this.#runs.secondsLeft(id));
    this.#composer.show(running);
  }

  #showSidebar() {
    this.#sidebar.show(this.#library.list(), this.#current.id, this.#text);
    byId("heading").textContent = this.#current.title || "glmserve";
    document.title = this.#current.title ? `${this.#current.title} · glmserve` : "glmserve";
  }

  #showAll() {
    this.#showThread();
    this.#showSidebar();
    this.#showModel();
  }

  #begin() {
    this.#open(undefined);
    this.#composer.focus();
  }

  /** @param {Conversation | undefined} conversation or a new one */
  #open(conversation) {
    this.#current = conversation ?? begun(newId(), Date.now());
    this.#preferences.set("current", this.#current.id);
    this.#showAll();
    this.#thread.scrollToEnd();
  }

  /** @param {Conversation} conversation */
  #keep(conversation) {
    if (conversation.id === this.#current.id) this.#current = conversation;
    if (!this.#library.keep(conversation)) this.#notice.show(this.#text("noRoom"));
  }

  /** @param {string} content */
  #ask(content) {
    this.#keep(asked(this.#current, content, Date.now()));
    this.#answer();
    this.#thread.scrollToEnd();
  }

  /** @param {number} index @param {string} content */
  #edited(index, content) {
    this.#current = cutAt(this.#current, index);
    this.#ask(content);
    this.#composer.focus();
  }

  #regenerate() {
    this.#keep(cutAt(this.#current, this.#current.messages.length - 1));
    this.#goOn();
  }

  #goOn() {
    this.#answer();
    // What was pressed is gone.
    this.#composer.focus();
  }

  #answer() {
    void this.#runs.start(this.#current.id, { model: this.#model?.id ?? "", sampling: this.#preferences.sampling });
  }

  /** @param {string} id @param {import("./runs.js").Change} change @param {boolean} kept */
  #changed(id, change, kept) {
    if (!kept) this.#notice.show(this.#text("noRoom"));
    if (id !== this.#current.id) return;
    this.#current = this.#library.get(id) ?? this.#current;
    if (change === "piece") return this.#thread.soon(this.#current);
    if (change === "waiting") return this.#thread.update(this.#current, false, this.#runs.secondsLeft(id));
    this.#showThread();
    this.#showSidebar();
    if (change === "began") this.#announce(this.#text("answering"));
    else this.#tellEnd();
  }

  #tellEnd() {
    const { content = "", failure } = this.#current.messages.at(-1) ?? {};
    if (failure?.kind === "key") void this.#askKey(this.#preferences.key !== "");
    // A model that was loaded by this answer is ready now.
    if (this.#model && this.#model.state !== "ready") void this.#load();
    this.#announce(failure ? this.#text(`failure.${failure.kind}`) : this.#text("answered", { text: content }));
  }

  /** @param {string} id @param {import("./view/sidebar.js").Deed} deed */
  async #act(id, deed) {
    const conversation = this.#library.get(id);
    if (!conversation) return;
    const title = conversation.title || this.#text("untitled");
    if (deed === "asMarkdown") download(`${fileName(title)}.md`, "text/markdown", asMarkdown(conversation, this.#text));
    if (deed === "asJson") download(`${fileName(title)}.json`, "application/json", asJson(conversation));
    if (deed === "rename") {
      const name = await askTitle(this.#text, title);
      if (name) this.#keep({ ...(this.#library.get(id) ?? conversation), title: name });
    }
    if (deed === "remove" && (await confirmRemoval(this.#text, title))) {
      this.#runs.stop(id);
      this.#library.remove(id);
      if (id === this.#current.id) return this.#begin();
    }
    this.#showSidebar();
    this.#composer.focus();
  }

  /** @param {boolean} wrong */
  async #askKey(wrong) {
    const answer = await askKey(this.#text, wrong);
    if (answer) this.#useKey(answer.key, answer.keep);
    else if (this.#models.length === 0) {
      this.#notice.show(this.#text("failure.key"), this.#text("keyUse"), () => this.#askKey(false));
    }
  }

  /** @param {string} key @param {boolean} keep */
  #useKey(key, keep) {
    this.#preferences.setKey(key, keep);
    this.#showOptions();
    void this.#load();
  }

  /** Another window of this browser wrote something. @param {string} key */
  #changedElsewhere(key) {
    const id = this.#library.changedElsewhere(key);
    if (!id) return;
    if (id === this.#current.id && !this.#runs.isRunning(id)) this.#open(this.#library.get(id));
    else this.#showSidebar();
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const elsewhere = event.isComposing || document.querySelector("dialog[open]");
    if (event.key === "Escape" && !elsewhere && this.#runs.isRunning(this.#current.id)) {
      this.#runs.stop(this.#current.id);
    }
  }
}

/** Also where the page came without HTTPS, where browsers have no randomUUID. */
function newId() {
  return [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** @param {string} title */
function fileName(title) {
  return title.replace(/[\\/:*?"<>|\p{Cc}]+/gu, " ").trim().slice(0, 60) || "glmserve";
}

new Page().start();
