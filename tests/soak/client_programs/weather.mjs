// What the programs for Node share: a tool, the format of the answer, and one line of JSON at the end.
import { readFileSync } from "node:fs";
import { z } from "zod";

export const address = process.argv[2];
export const baseURL = `${address}/v1`;
export const apiKey = "none";
export const model = "chatglm2-tiny";
export const question = "北京现在多少度？";
export const City = z.object({ city: z.string() });
export const Weather = z.object({ city: z.string(), celsius: z.number().int() });
export const description = "Tell the weather of a city.";
const called = [];

export function getWeather({ city }) {
  called.push(city);
  return `${city}：21 度`;
}

export function tell(name, answers) {
  const { version } = JSON.parse(readFileSync(new URL(`node_modules/${name}/package.json`, import.meta.url)));
  console.log(JSON.stringify({ version, answers, called }));
}
