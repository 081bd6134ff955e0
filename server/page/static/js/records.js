/** Answers that are a record: a name and a value on each line. Pure. */

const FIELD = /^([^\s:：|`#*-][^:：|`]{0,15})[:：]\s*(.*)$/;

/**
 * @param {string} content of an answer of a task
 * @returns {{ name: string, value: string }[] | null} null where it is no record
 */
export function recordOf(content) {
  /** @type {{ name: string, value: string }[]} */
  const fields = [];
  for (const line of content.trim().split("\n")) {
    const [, name, value] = FIELD.exec(line) ?? [];
    if (name !== undefined) fields.push({ name: name.trim(), value });
    // A value may go on over some lines, but something has to be named first.
    else if (fields.length) fields[fields.length - 1].value += `\n${line}`;
    else return null;
  }
  const lines = content.trim().split("\n").length;
  return fields.length && fields.length * 2 >= lines ? fields : null;
}
