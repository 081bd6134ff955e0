/** The sliders, with the ranges that the web pages of ChatGLM had. Pure. */

const LONGEST = 32768;
const DEFAULTS = { temperature: 0.8, top_p: 0.8, max_tokens: 2048 };

/**
 * @param {import("./api.js").Model | undefined} model whose defaults they stand at
 * @returns {import("./view/options.js").Slider[]}
 */
export function slidersFor(model) {
  const most = model?.context_length ?? LONGEST;
  const defaults = model?.defaults ?? DEFAULTS;
  return [
    { name: "maxTokens", least: 1, most, step: 1, byModel: Math.min(defaults.max_tokens, most) },
    { name: "topP", least: 0, most: 1, step: 0.01, byModel: defaults.top_p },
    { name: "temperature", least: 0, most: 1, step: 0.01, byModel: defaults.temperature },
  ];
}
