/** Server-sent events out of text that arrives in arbitrary pieces. Pure. */

export class EventParser {
  #rest = "";
  /** @type {string[]} */
  #data = [];

  /**
   * Take the next piece of the stream.
   * @param {string} piece
   * @returns {string[]} the data of each event that is complete now
   */
  feed(piece) {
    const text = this.#rest + piece;
    // A CR at the end may be half of a CRLF.
    const end = text.endsWith("\r") ? text.length - 1 : text.length;
    const lines = text.slice(0, end).split(/\r\n|\r|\n/);
    this.#rest = lines.pop() + text.slice(end);
    return lines.flatMap((line) => this.#take(line));
  }

  /** @param {string} line @returns {string[]} */
  #take(line) {
    if (line !== "") {
      const data = /^data: ?(.*)$/s.exec(line);
      if (data) this.#data.push(data[1]);
      return [];
    }
    const event = this.#data.length ? [this.#data.join("\n")] : [];
    this.#data = [];
    return event;
  }
}
