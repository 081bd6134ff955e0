// The official client for Node: node openai.mjs ADDRESS KEY NARROW_KEY
import OpenAI from "openai";

const [address, apiKey, narrowKey] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${address}/v1`, apiKey, maxRetries: 0 });
const model = "chatglm2-tiny";
const messages = [{ role: "user", content: "你好" }];
const tools = [
  {
    type: "function",
    function: {
      name: "get_weather",
      parameters: {
        type: "object",
        properties: { city: { type: "string", enum: ["北京", "上海"] } },
        required: ["city"],
      },
    },
  },
];

async function chat() {
  const { data, response } = await client.chat.completions
    .create({ model, messages, temperature: 0, max_completion_tokens: 40 })
    .withResponse();
  return { choice: data.choices[0], usage: data.usage, requestId: data._request_id, header: response.headers.get("x-request-id") };
}

async function stream() {
  const chunks = [];
  const options = { include_usage: true };
  const request = { model, messages, temperature: 0, max_tokens: 40, stream: true, stream_options: options };
  for await (const chunk of await client.chat.completions.create(request)) {
    chunks.push(chunk);
  }
  const text = chunks.map((chunk) => chunk.choices[0]?.delta?.content ?? "").join("");
  return { text, role: chunks[0].choices[0].delta.role, last: chunks.at(-1) };
}

async function toolStream() {
  const request = { model, messages, tools, tool_choice: "required", parallel_tool_calls: false, temperature: 0 };
  const helper = client.chat.completions.stream(request);
  const names = [];
  helper.on("tool_calls.function.arguments.done", (event) => names.push(event.name));
  return { names, final: (await helper.finalChatCompletion()).choices[0] };
}

async function runTools() {
  const called = [];
  const runnable = tools.map((tool) => ({
    ...tool,
    function: {
      ...tool.function,
      parse: JSON.parse,
      function: ({ city }) => {
        called.push(city);
        return `${city}：晴`;
      },
    },
  }));
  const runner = client.chat.completions.runTools({
    model,
    messages,
    tools: runnable,
    tool_choice: { type: "function", function: { name: "get_weather" } },
    parallel_tool_calls: false,
    temperature: 0,
  });
  await runner.done();
  return { called, roles: runner.messages.map((message) => message.role) };
}

async function completions() {
  const prompt = "[Round 1]\n\n问：你好\n\n答：";
  return (await client.completions.create({ model, prompt, temperature: 0, max_tokens: 5, logprobs: 0 })).choices[0];
}

async function embeddings() {
  // Asked for nothing, the client asks for base64 and unpacks it.
  const input = ["a cat", "a mat"];
  const unpacked = await client.embeddings.create({ model: "bert", input });
  const numbers = await client.embeddings.create({ model: "bert", input, encoding_format: "float" });
  return [unpacked, numbers].map((reply) => reply.data.map((item) => item.embedding));
}

async function responses() {
  const first = await client.responses.create({ model, input: "你好", temperature: 0, max_output_tokens: 40 });
  const helper = client.responses.stream({ model, input: "再见", previous_response_id: first.id, max_output_tokens: 40 });
  const types = [];
  for await (const event of helper) {
    types.push(event.type);
  }
  const final = await helper.finalResponse();
  return { text: first.output_text, types, status: final.status, previous: final.previous_response_id, first: first.id };
}

async function failureOf(request) {
  try {
    await request;
  } catch (error) {
    const { status, code, param, type, requestID } = error;
    return { kind: error.constructor.name, status, code, param, type, requestID };
  }
}

function errors() {
  const stranger = new OpenAI({ baseURL: `${address}/v1`, apiKey: "sk-nobody-knows", maxRetries: 0 });
  return Promise.all([
    failureOf(client.chat.completions.create({ model, messages, temperature: 5 })),
    failureOf(client.chat.completions.create({ model: "gpt-4o", messages })),
    failureOf(client.chat.completions.create({ model, messages, stream: true, n: 100 })),
    failureOf(stranger.chat.completions.create({ model, messages })),
  ]);
}

async function retries() {
  // The key may have one request at a time, and the first goes on until the second was refused.
  const first = new AbortController();
  const seen = [];
  const watched = async (...request) => {
    const reply = await fetch(...request);
    seen.push([reply.status, reply.headers.get("retry-after")]);
    if (reply.status === 429) first.abort();
    return reply;
  };
  const narrow = new OpenAI({ baseURL: `${address}/v1`, apiKey: narrowKey, fetch: watched });
  const request = { model, messages, stream: true, ignore_eos: true, max_tokens: 3000 };
  await narrow.chat.completions.create(request, { signal: first.signal });
  const started = Date.now();
  const reply = await narrow.chat.completions.create({ model, messages, max_tokens: 1 });
  return { seen, seconds: (Date.now() - started) / 1000, completionTokens: reply.usage.completion_tokens };
}

const results = {
  models: (await client.models.list()).data.map(({ id }) => id),
  model: (await client.models.retrieve("gpt-3.5-turbo")).id,
  chat: await chat(),
  stream: await stream(),
  toolStream: await toolStream(),
  runTools: await runTools(),
  completions: await completions(),
  embeddings: await embeddings(),
  responses: await responses(),
  errors: await errors(),
  retries: await retries(),
};
console.log(JSON.stringify(results));
