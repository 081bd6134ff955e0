// anthropic for Node: the tool runner with a format, at once and streamed.
import Anthropic from "@anthropic-ai/sdk";
import { betaZodOutputFormat, betaZodTool } from "@anthropic-ai/sdk/helpers/beta/zod";
import { address, apiKey, City, description, getWeather, model, question, tell, Weather } from "./weather.mjs";

const client = new Anthropic({ baseURL: address, apiKey });
const tools = [betaZodTool({ name: "get_weather", description, inputSchema: City, run: getWeather })];

async function ask(stream) {
  const runner = client.beta.messages.toolRunner({
    model,
    max_tokens: 400,
    messages: [{ role: "user", content: question }],
    tools,
    output_config: { format: betaZodOutputFormat(Weather) },
    stream,
  });
  const last = await runner.runUntilDone();
  return JSON.parse(last.content.find((block) => block.type === "text").text);
}

tell("@anthropic-ai/sdk", { messages: await ask(false), stream: await ask(true) });
