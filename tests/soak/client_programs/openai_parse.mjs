// openai for Node: parse with a tool and a format by both APIs, and the tools that it runs itself.
import OpenAI from "openai";
import { zodResponseFormat, zodTextFormat, zodFunction, zodResponsesFunction } from "openai/helpers/zod";
import { apiKey, baseURL, City, description, getWeather, model, question, tell, Weather } from "./weather.mjs";

const client = new OpenAI({ baseURL, apiKey });
const user = { role: "user", content: question };
const named = { name: "get_weather", description, parameters: City };

async function chat() {
  const messages = [user];
  for (;;) {
    const reply = await client.chat.completions.parse({
      model,
      messages,
      tools: [zodFunction(named)],
      response_format: zodResponseFormat(Weather, "weather"),
    });
    const { message } = reply.choices[0];
    if (!message.tool_calls?.length) return message.parsed;
    messages.push(message);
    for (const call of message.tool_calls) {
      const content = getWeather(call.function.parsed_arguments);
      messages.push({ role: "tool", tool_call_id: call.id, content });
    }
  }
}

async function runTools() {
  const runner = client.chat.completions.runTools({
    model,
    messages: [user],
    tools: [zodFunction({ ...named, function: getWeather })],
    response_format: zodResponseFormat(Weather, "weather"),
  });
  return JSON.parse(await runner.finalContent());
}

async function responses() {
  const input = [user];
  for (;;) {
    const reply = await client.responses.parse({
      model,
      input,
      tools: [zodResponsesFunction(named)],
      text: { format: zodTextFormat(Weather, "weather") },
    });
    const calls = reply.output.filter((item) => item.type === "function_call");
    if (!calls.length) return reply.output_parsed;
    input.push(...reply.output);
    for (const call of calls) {
      const output = getWeather(call.parsed_arguments);
      input.push({ type: "function_call_output", call_id: call.call_id, output });
    }
  }
}

tell("openai", { chat: await chat(), run_tools: await runTools(), responses: await responses() });
