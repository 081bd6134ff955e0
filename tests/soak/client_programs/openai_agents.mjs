// OpenAI Agents for Node: outputType together with a tool, by both APIs, at once and streamed.
import { Agent, OpenAIChatCompletionsModel, OpenAIResponsesModel, run, setTracingDisabled, tool } from "@openai/agents";
import OpenAI from "openai";
import { apiKey, baseURL, City, description, getWeather, model, question, tell, Weather } from "./weather.mjs";

setTracingDisabled(true);
const client = new OpenAI({ baseURL, apiKey });
const tools = [tool({ name: "get_weather", description, parameters: City, execute: getWeather })];
const answers = {};
for (const [way, Model] of [["chat", OpenAIChatCompletionsModel], ["responses", OpenAIResponsesModel]]) {
  const agent = new Agent({
    name: "weather",
    instructions: "简短地回答。",
    model: new Model(client, model),
    tools,
    outputType: Weather,
  });
  answers[way] = (await run(agent, question)).finalOutput;
  const streamed = await run(agent, question, { stream: true });
  await streamed.completed;
  answers[`${way}_stream`] = streamed.finalOutput;
}
tell("@openai/agents", answers);
