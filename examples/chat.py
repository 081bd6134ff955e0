"""A conversation of two questions; the second answer is printed as it arrives."""

import os

from openai import OpenAI

client = OpenAI(base_url=f"{os.environ.get('GLMSERVE_URL', 'http://127.0.0.1:8000')}/v1", api_key="none")
model = client.models.list().data[0].id

messages = [{"role": "user", "content": "你好"}]
reply = client.chat.completions.create(model=model, messages=messages)
answer = reply.choices[0].message.content
print(answer)

messages += [{"role": "assistant", "content": answer}, {"role": "user", "content": "你是谁？"}]
for chunk in client.chat.completions.create(model=model, messages=messages, stream=True):
    print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
