// LangChain.js: an agent with a tool and a structured answer, by both strategies and both APIs.
import { tool } from "@langchain/core/tools";
import { ChatOpenAI } from "@langchain/openai";
import { createAgent, providerStrategy, toolStrategy } from "langchain";
import { apiKey, baseURL, City, description, getWeather, model, question, tell, Weather } from "./weather.mjs";

const tools = [tool(getWeather, { name: "get_weather", description, schema: City })];

async function ask(responseFormat, useResponsesApi) {
  const llm = new ChatOpenAI({ model, apiKey, configuration: { baseURL }, useResponsesApi });
  const agent = createAgent({ model: llm, tools, responseFormat });
  const state = await agent.invoke({ messages: [{ role: "user", content: question }] });
  return state.structuredResponse;
}

tell("langchain", {
  provider_strategy: await ask(providerStrategy(Weather), false),
  provider_strategy_responses: await ask(providerStrategy(Weather), true),
  tool_strategy: await ask(toolStrategy(Weather), false),
  tool_strategy_responses: await ask(toolStrategy(Weather), true),
});
