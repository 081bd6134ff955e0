// Streams an answer with OpenAI's library for Node.
import OpenAI from "openai";

const address = process.env.GLMSERVE_URL ?? "http://127.0.0.1:8000";
const client = new OpenAI({ baseURL: `${address}/v1`, apiKey: "none" });
const { data } = await client.models.list();
const messages = [{ role: "user", content: "你好" }];
const stream = await client.chat.completions.create({ model: data[0].id, messages, stream: true });
for await (const chunk of stream) {
  process.stdout.write(chunk.choices[0]?.delta?.content ?? "");
}
console.log();
