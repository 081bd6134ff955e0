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

/** @param {Language} language @returns {Text} */
export function textIn(language) {
  const table = TABLES[language];
  return (key, values = {}) => (table[key] ?? key).replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ""));
}
