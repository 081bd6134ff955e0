/** The words of the page in each language. Pure. */

import { english } from "./texts/en.js";
import { chinese } from "./texts/zh.js";

/**
 * @typedef {"en" | "zh"} Language
 * @typedef {(key: string, values?: Record<string, string | number>) => string} Text
 */

/** @type {Record<Language, Record<string, string>>} */
export const TABLES = { en: english, zh: chinese };

/**
 * @param {string} chosen a language, or nothing
 * @param {readonly string[]} browsers those that the browser asks for, the best first
 * @returns {Language}
 */
export function languageFor(chosen, browsers) {
  const wanted = [chosen, ...browsers].map((tag) => tag.toLowerCase().split("-")[0]);
  return /** @type {Language} */ (wanted.find((tag) => tag in TABLES) ?? "en");
}

/**
 * How dates are written: as where the browser is at home, if it speaks the language.
 * @param {Language} language
 * @param {readonly string[]} browsers
 */
export function localeFor(language, browsers) {
  return browsers.find((tag) => tag.toLowerCase().startsWith(language) && isTag(tag)) ?? (language === "zh" ? "zh-CN" : "en");
}

/** @param {string} tag browsers also have some that are none, such as en-US@posix */
function isTag(tag) {
  try {
    return Intl.getCanonicalLocales(tag).length > 0;
  } catch {
    return false;
  }
}

/** @param {Language} language @returns {Text} */
export function textIn(language) {
  const table = TABLES[language];
  return (key, values = {}) => (table[key] ?? key).replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ""));
}
