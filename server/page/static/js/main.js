/** The page: puts the parts together and answers to what is done with them. */

import { Access } from "./access.js";
import { Api } from "./api.js";
import { branched, switched } from "./branches.js";
import { asked, begun, question, withLast } from "./conversation.js";
import { remedyFor } from "./failure.js";
import { listen, MAC } from "./keyboard.js";
import { Library } from "./library.js";
import { hintOf } from "./models.js";
import { Preferences } from "./preferences.js";
import { Runs } from "./runs.js";
import { samplingOf, slidersFor } from "./sampling.js";
import { Served } from "./served.js";
import { Shelf } from "./shelf.js";
import { Speech } from "./speech.js";
import { storageOf } from "./storage.js";
import { Tasks } from "./tasks.js";
import { announcer } from "./view/announcer.js";
import { Composer } from "./view/composer.js";
import { copy, saidOn } from "./view/copy.js";
import { showShortcuts } from "./view/dialogs.js";
import { byId } from "./view/dom.js";
import { Notice } from "./view/notice.js";
import { Options } from "./view/options.js";
import { Picker } from "./view/picker.js";
import { Sidebar } from "./view/sidebar.js";
import { Thread } from "./view/thread.js";

/**
 * @typedef {import("./conversation.js").Conversation} Conversation
 * @typedef {import("./conversation.js").Message} Message
 */

class Page {
  #prefix = `glmserve${location.pathname}`;
  #local = storageOf("localStorage");
  #preferences = new Preferences(this.#local.storage, storageOf("sessionStorage").storage, this.#prefix);
  #library = new Library(this.#local.storage, this.#prefix);
  #api = new Api(new URL(".", location.href), () => this.#preferences.key);
  #runs = new Runs(this.#api, this.#library, (...told) => this.#changed(...told), () => performance.now());
  #speech = new Speech(this.#preferences, () => this.#spoken());
  #current = begun(newId(), Date.now());
  /** Conversations that were answered while another one was shown. @type {Set<string>} */
  #unread = new Set();

  #announce = announcer();
  #notice = new Notice(() => this.#text("close"));
  #served = new Served(this.#api, () => this.#loaded(), (failure) => this.#access.notLoaded(failure));
  #access = new Access(this.#preferences, this.#notice, {
    text: () => this.#text,
    load: () => this.#served.load(),
    keyChanged: () => this.#showOptions(),
    keyWorks: () => this.#askRefusedAgain(),
  });
  #tasks = new Tasks(this.#api, this.#served, {
    preferences: this.#preferences,
    text: () => this.#text,
    language: () => this.#speech.language,
    choose: (id) => this.#chooseModel(id),
    ask: (message) => this.#ask(message),
    write: (example) => {
      this.#composer.write(example);
      this.#composer.focus();
    },
  });
  #shelf = new Shelf(this.#library, {
    text: () => this.#text,
    newId,
    keep: (conversation) => this.#keep(conversation),
    removed: (ids) => this.#removed(ids),
    notice: (...told) => this.#notice.show(...told),
  });
  #composer = new Composer({
    send: (content, files) => this.#ask(question(content, Date.now(), { files })),
    stop: () => this.#runs.stop(this.#current.id),
    refused: (key, values) => this.#notice.show(this.#text(key, values)),
  });
  #picker = new Picker((id) => this.#chooseModel(id));
  #thread = new Thread({
    text: () => this.#text,
    locale: () => this.#speech.locale,
    announce: (what) => this.#announce(what),
    cards: () => this.#tasks.cards,
    edited: (index, content) => this.#edited(index, content),
    regenerate: (index) => this.#regenerate(index),
    switchTo: (index, to) => this.#switchTo(index, to),
    isTask: (message) => this.#tasks.has(message.model),
    goOn: () => this.#goOn(),
  });
  #sidebar = new Sidebar({
    open: (id) => this.#open(this.#library.get(id)),
    begin: () => this.#begin(),
    act: (id, deed) => this.#act(this.#shelf.act(id, deed)),
    actOnAll: (deed) => this.#actOnAll(deed),
  });
  #options = new Options({
    system: (system) => this.#keep({ ...this.#current, system }),
    sampling: (change) => this.#keep({ ...this.#current, sampling: samplingOf({ ...this.#sampling, ...change }) }),
    forNew: (button) => {
      this.#preferences.sampling = this.#sampling;
      this.#announce(saidOn(button, this.#text("forNewDone"), true));
    },
    changeKey: () => this.#access.ask(false),
    forgetKey: () => this.#access.forget(),
    toggled: (open) => this.#preferences.set("options", open ? "open" : ""),
  });

  start() {
    const open = this.#preferences.get("options") === "open" && matchMedia("(min-width: 70rem)").matches;
    this.#current = this.#library.get(this.#preferences.get("current")) ?? this.#fresh();
    this.#preferences.set("current", this.#current.id);
    this.#speech.start();
    this.#thread.scrollToEnd();
    this.#options.toggle(open);
    if (!this.#local.lasting) this.#notice.show(this.#text("noStorage"));
    addEventListener("storage", (event) => this.#changedElsewhere(event.key ?? ""));
    listen({
      new: () => this.#begin(),
      search: () => this.#sidebar.focusSearch(),
      shortcuts: () => void showShortcuts(this.#text, MAC),
      options: () => this.#options.toggle(),
      previous: () => this.#step(-1),
      next: () => this.#step(1),
      copyLast: () => void this.#copyLast(),
      editLast: () => this.#thread.editLast(),
      stop: () => this.#runs.isRunning(this.#current.id) && this.#runs.stop(this.#current.id),
    });
    addEventListener("pagehide", () => this.#library.get(this.#current.id) && this.#library.keep(this.#current));
    void this.#served.load();
    this.#composer.focus();
  }

  get #text() {
    return this.#speech.text;
  }

  #spoken() {
    this.#composer.speak(this.#text);
    this.#showAll();
  }

  #loaded() {
    this.#access.loaded();
    if (this.#served.list.length === 0) this.#notice.show(this.#text("noModels"));
    this.#showModel();
    this.#showThread();
  }

  get #model() {
    return this.#served.find(this.#preferences.get("model")) ?? this.#served.list[0];
  }

  /** What was chosen for this conversation; one from before that could be has what new ones have. */
  get #sampling() {
    return this.#current.sampling ?? this.#preferences.sampling;
  }

  /** @param {string} id */
  #chooseModel(id) {
    this.#preferences.set("model", id);
    this.#showModel();
    if (this.#current.messages.length === 0) this.#showThread();
  }

  #showModel() {
    const model = this.#model;
    this.#picker.show(this.#served.list, model?.id ?? "", this.#speech.language, this.#text);
    this.#composer.hint(hintOf(model, this.#speech.language), this.#tasks.buttons(model));
    this.#showOptions();
  }

  #showOptions() {
    const sliders = slidersFor(this.#model);
    this.#options.show({ id: this.#current.id, system: this.#current.system, sampling: this.#sampling, sliders, hasKey: this.#preferences.key !== "" }, this.#text);
  }

  #showThread() {
    this.#thread.show(this.#current, this.#answering(this.#runs.isRunning(this.#current.id)));
    this.#composer.show(this.#runs.isRunning(this.#current.id));
  }

  /** @param {boolean} running @returns {import("./view/answer.js").Answering} */
  #answering(running) {
    const { id, messages } = this.#current;
    const last = messages.at(-1);
    const state = this.#served.worker(this.#served.find(last?.model))?.state;
    return {
      running,
      secondsLeft: this.#runs.secondsLeft(id),
      progress: this.#runs.progress(id),
      waitsFor: state === "loading" || state === "idle" ? this.#text("modelLoads") : "",
      isTask: this.#tasks.has(last?.model),
      remedy: this.#remedy(last),
      cancel: () => this.#runs.stop(id),
    };
  }

  /** @param {Message | undefined} message @returns {{ label: string, act: () => void } | null} */
  #remedy(message) {
    const remedy = remedyFor(message, this.#tasks.has(message?.model));
    const acts = { keyEnter: () => void this.#access.ask(false), again: () => this.#startAgain(), goOn: () => this.#goOn() };
    return remedy && { label: this.#text(remedy === "again" ? "retry" : remedy), act: acts[remedy] };
  }

  #showSidebar() {
    this.#sidebar.show({
      conversations: this.#library.list(),
      current: this.#current.id,
      mark: (id) => (this.#runs.isRunning(id) ? "running" : this.#unread.has(id) ? "unread" : ""),
      text: this.#text,
      locale: this.#speech.locale,
    });
    byId("heading").textContent = this.#current.title || "glmserve";
    document.title = this.#current.title ? `${this.#current.title} · glmserve` : "glmserve";
  }

  #showAll() {
    this.#showThread();
    this.#showSidebar();
    this.#showModel();
  }

  #fresh() {
    return begun(newId(), Date.now(), this.#preferences.sampling);
  }

  #begin() {
    this.#open(undefined);
    this.#composer.focus();
  }

  /** @param {Conversation | undefined} conversation or a new one */
  #open(conversation) {
    this.#current = conversation ?? this.#fresh();
    this.#unread.delete(this.#current.id);
    this.#preferences.set("current", this.#current.id);
    this.#showAll();
    this.#thread.scrollToEnd();
  }

  /** @param {Conversation} conversation @returns {boolean} whether there was room */
  #keep(conversation) {
    if (conversation.id === this.#current.id) this.#current = conversation;
    const kept = this.#library.keep(conversation);
    if (!kept) this.#notice.show(this.#text("noRoom"));
    return kept;
  }

  /** @param {Message} message */
  #ask(message) {
    // What was told of the page is read by now.
    this.#notice.hide("");
    this.#keep(asked(this.#current, message, Date.now()));
    this.#answer();
    this.#thread.scrollToEnd();
  }

  /** @param {number} index @param {string} content */
  #edited(index, content) {
    const { files } = this.#current.messages[index];
    this.#keep({ ...branched(this.#current, index, question(content, Date.now(), { files })), updated: Date.now() });
    this.#goOn();
    this.#thread.scrollToEnd();
  }

  /** @param {number} index */
  #regenerate(index) {
    this.#keep(branched(this.#current, index, { role: "assistant", content: "" }));
    this.#goOn();
  }

  /** @param {number} index @param {number} to */
  #switchTo(index, to) {
    this.#keep(switched(this.#current, index, to));
    this.#showThread();
  }

  /** As tasks cannot go on with what there is. */
  #startAgain() {
    this.#keep(withLast(this.#current, { content: "" }));
    this.#goOn();
  }

  #goOn() {
    this.#answer();
    // What was pressed is gone.
    this.#composer.focus();
  }

  #answer() {
    const model = this.#model;
    const task = model?.task ? { model: model.parent ?? "", id: model.task.id } : null;
    const context = this.#served.worker(model)?.context_length;
    void this.#runs.start(this.#current.id, { model: model?.id ?? "", sampling: this.#sampling, task, context });
    if (model && model.state !== "ready") this.#served.soon();
  }

  #askRefusedAgain() {
    if (this.#current.messages.at(-1)?.failure?.kind === "key") this.#goOn();
  }

  /** @param {string} id @param {import("./runs.js").Change} change @param {boolean} kept */
  #changed(id, change, kept) {
    if (!kept) this.#notice.show(this.#text("noRoom"));
    if (id !== this.#current.id) return this.#changedBehind(id, change);
    this.#current = this.#library.get(id) ?? this.#current;
    const latest = (/** @type {boolean} */ running) => this.#answering(running);
    if (change === "piece" || change === "progress") return this.#thread.soon(() => [this.#current, latest(true)]);
    if (change === "waiting") return this.#thread.update(this.#current, latest(false));
    this.#showThread();
    if (change === "shortened") return;
    this.#showSidebar();
    if (change === "began") this.#announce(this.#text("answering"));
    else this.#tellEnd();
  }

  /** @param {string} id @param {import("./runs.js").Change} change */
  #changedBehind(id, change) {
    if (change !== "began" && change !== "ended") return;
    if (change === "ended" && this.#library.get(id)) this.#unread.add(id);
    this.#showSidebar();
  }

  #tellEnd() {
    const { content = "", failure } = this.#current.messages.at(-1) ?? {};
    if (failure?.kind === "key") void this.#access.ask(this.#preferences.key !== "");
    // A model that was loaded by this answer is ready now.
    if (this.#model && this.#model.state !== "ready") void this.#served.load();
    this.#announce(failure ? this.#text(`failure.${failure.kind}`) : this.#text("answered", { text: content }));
  }

  /** @param {Promise<void>} done */
  async #act(done) {
    await done;
    this.#current = this.#library.get(this.#current.id) ?? this.#current;
    this.#showSidebar();
    this.#composer.focus();
  }

  /** @param {import("./view/sidebar.js").ListDeed} deed */
  #actOnAll(deed) {
    if (deed === "shortcuts") return void showShortcuts(this.#text, MAC);
    if (deed === "exportAll") return this.#shelf.exportAll();
    void this.#act(deed === "import" ? this.#shelf.import() : this.#shelf.removeAll());
  }

  /** @param {string[]} ids */
  #removed(ids) {
    for (const id of ids) this.#runs.stop(id);
    if (ids.includes(this.#current.id)) this.#begin();
  }

  /** Another window of this browser wrote something. @param {string} key */
  #changedElsewhere(key) {
    const id = this.#library.changedElsewhere(key);
    if (!id) return;
    if (id === this.#current.id && !this.#runs.isRunning(id)) this.#open(this.#library.get(id));
    else this.#showSidebar();
  }

  /** @param {number} step */
  #step(step) {
    const { order } = this.#sidebar;
    const id = order[order.indexOf(this.#current.id) + step];
    if (id) this.#open(this.#library.get(id));
  }

  async #copyLast() {
    const last = this.#current.messages.findLast(({ role }) => role === "assistant");
    if (last) this.#announce(this.#text((await copy(last.content)) ? "copied" : "notCopied"));
  }
}

/** Also where the page came without HTTPS, where browsers have no randomUUID. */
function newId() {
  return [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

new Page().start();
