// Vercel AI: objects; tools; a tool together with a structured answer, at once and streamed; by its two providers.
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateObject, generateText, stepCountIs, Output, streamObject, streamText, tool } from "ai";
import { apiKey, baseURL, City, description, getWeather, model, question, tell, Weather } from "./weather.mjs";

const compatible = createOpenAICompatible({ name: "glmserve", baseURL, apiKey, supportsStructuredOutputs: true });
const openai = createOpenAI({ baseURL, apiKey });
const ways = { compatible: compatible(model), chat: openai.chat(model), responses: openai.responses(model) };
const answers = {};
for (const [way, model] of Object.entries(ways)) {
  const asked = { model, prompt: question };
  answers[`${way}_generate_object`] = (await generateObject({ ...asked, schema: Weather })).object;
  const streamed = streamObject({ ...asked, schema: Weather });
  for await (const _ of streamed.partialObjectStream);
  answers[`${way}_stream_object`] = await streamed.object;
  const weather = tool({ description, inputSchema: City, execute: getWeather });
  const loop = { ...asked, tools: { get_weather: weather }, stopWhen: stepCountIs(5) };
  const output = Output.object({ schema: Weather });
  answers[`${way}_tools_and_output`] = (await generateText({ ...loop, output })).output;
  answers[`${way}_tools_and_output_stream`] = await streamText({ ...loop, output }).output;
  const text = await streamText(loop).text;
  if (text !== "你好。") throw new Error(`${way}: ${text}`);
}
tell("ai", answers);
