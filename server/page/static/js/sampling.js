/** How answers are drawn: what can be chosen, within which bounds, and as which fields of a request. Pure. */

/**
 * @typedef {object} Sampling what was chosen; what is absent or null is left to the model
 * @property {number | null} [maxTokens]
 * @property {number | null} [temperature]
 * @property {number | null} [topP]
 * @property {number | null} [topK]
 * @property {number | null} [minP]
 * @property {number | null} [repetitionPenalty]
 * @property {number | null} [presencePenalty]
 * @property {number | null} [frequencyPenalty]
 * @property {number | null} [seed]
 * @property {string[] | null} [stop]
 * @property {string | null} [schema] of JSON, as it was typed
 *
 * @typedef {"maxTokens" | "temperature" | "topP" | "topK" | "minP" | "repetitionPenalty" | "presencePenalty" | "frequencyPenalty"} SliderName
 * @typedef {object} Slider
 * @property {SliderName} name
 * @property {number} least
 * @property {number} most
 * @property {number} step
 * @property {number} byModel where it stands while nothing is chosen
 */

const LONGEST = 32768;
const DEFAULTS = { temperature: 0.8, top_p: 0.8, max_tokens: 2048 };
const MOST_STOPS = 16;

/** @type {Record<SliderName | "seed", string>} */
const FIELDS = {
  maxTokens: "max_tokens",
  temperature: "temperature",
  topP: "top_p",
  topK: "top_k",
  minP: "min_p",
  repetitionPenalty: "repetition_penalty",
  presencePenalty: "presence_penalty",
  frequencyPenalty: "frequency_penalty",
  seed: "seed",
};

/**
 * Length, temperature and top P have the ranges of ChatGLM's web pages.
 * @param {import("./api.js").Model | undefined} model whose defaults they stand at
 * @returns {Slider[]}
 */
export function slidersFor(model) {
  const most = model?.context_length ?? LONGEST;
  const defaults = { ...DEFAULTS, ...model?.defaults };
  return [
    { name: "maxTokens", least: 1, most, step: 1, byModel: Math.min(defaults.max_tokens, most) },
    { name: "topP", least: 0, most: 1, step: 0.01, byModel: defaults.top_p },
    { name: "temperature", least: 0, most: 1, step: 0.01, byModel: defaults.temperature },
    { name: "topK", least: 0, most: 200, step: 1, byModel: defaults.top_k ?? 0 },
    { name: "minP", least: 0, most: 1, step: 0.01, byModel: 0 },
    { name: "repetitionPenalty", least: 0.5, most: 2, step: 0.01, byModel: defaults.repetition_penalty ?? 1 },
    { name: "presencePenalty", least: -2, most: 2, step: 0.05, byModel: 0 },
    { name: "frequencyPenalty", least: -2, most: 2, step: 0.05, byModel: 0 },
  ];
}

/** Only what can be used of something that was kept or imported. @param {unknown} read @returns {Sampling} */
export function samplingOf(read) {
  const raw = /** @type {Record<string, unknown>} */ (read && typeof read === "object" ? read : {});
  /** @type {Record<string, unknown>} */
  const sampling = {};
  for (const name of Object.keys(FIELDS)) {
    if (typeof raw[name] === "number" && Number.isFinite(raw[name])) sampling[name] = raw[name];
  }
  const stop = Array.isArray(raw.stop) ? raw.stop.filter((one) => typeof one === "string" && one !== "").slice(0, MOST_STOPS) : [];
  if (stop.length) sampling.stop = stop;
  if (typeof raw.schema === "string" && schemaOf(raw.schema)) sampling.schema = raw.schema;
  return sampling;
}

/** One for each line, where \n stands for a line feed. @param {string} typed */
export function stopsOf(typed) {
  const stops = typed.split("\n").map((line) => line.replaceAll("\\n", "\n"));
  return stops.filter((stop) => stop !== "").slice(0, MOST_STOPS);
}

/** @param {string[] | null | undefined} stops @returns {string} as `stopsOf` reads them */
export function stopsTyped(stops) {
  return (stops ?? []).map((stop) => stop.replaceAll("\n", "\\n")).join("\n");
}

/** @param {string} typed @returns {object | null} the schema, where it is one */
export function schemaOf(typed) {
  try {
    const schema = JSON.parse(typed);
    return schema && typeof schema === "object" && !Array.isArray(schema) ? schema : null;
  } catch {
    return null;
  }
}

/** @param {Sampling} sampling @returns {Record<string, unknown>} of a chat request */
export function samplingFields(sampling) {
  const chosen = /** @type {Record<string, unknown>} */ (samplingOf(sampling));
  const numbers = Object.entries(FIELDS).filter(([name]) => chosen[name] !== undefined);
  const schema = schemaOf(sampling.schema ?? "");
  return {
    ...Object.fromEntries(numbers.map(([name, field]) => [field, chosen[name]])),
    ...(chosen.stop ? { stop: sampling.stop } : {}),
    ...(schema && { response_format: { type: "json_schema", json_schema: { name: "answer", schema } } }),
  };
}
