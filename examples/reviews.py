"""10,000 reviews classified as one batch: python reviews.py [NUMBER]. It may be ended; the batch continues."""

import json
import os
import sys
import time
from collections import Counter

from openai import OpenAI

client = OpenAI(base_url=f"{os.environ.get('GLMSERVE_URL', 'http://127.0.0.1:8000')}/v1", api_key="none")
model = client.models.list().data[0].id
number = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
texts = ("再也不来了。", "质量很好，推荐！", "用了两天就坏了。", "物流很快，包装完好。")


def line(i: int) -> str:
    messages = [{"role": "user", "content": f"第{i + 1}次购买：{texts[i % len(texts)]}"}]
    body = {"model": f"{model}:review", "messages": messages}
    request = {"custom_id": str(i), "method": "POST", "url": "/v1/chat/completions", "body": body}
    return json.dumps(request, ensure_ascii=False)


# One that is running already is waited for.
running = (b for b in client.batches.list(limit=20) if b.metadata == {"reviews": str(number)})
batch = next((b for b in running if b.status in ("validating", "in_progress", "finalizing")), None)
if batch is None:
    content = "\n".join(map(line, range(number))).encode()
    file = client.files.create(file=("reviews.jsonl", content), purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id,
        endpoint="/v1/chat/completions",
        completion_window="24h",
        metadata={"reviews": str(number)},
    )
while batch.status not in ("completed", "failed", "expired", "cancelled"):
    time.sleep(1)
    batch = client.batches.retrieve(batch.id)
    print(f"{batch.status}: {batch.request_counts.completed} of {batch.request_counts.total}")

answers = map(json.loads, client.files.content(batch.output_file_id).text.splitlines())
print(Counter(answer["response"]["body"]["choices"][0]["message"]["content"] for answer in answers))
print(f"{batch.usage.input_tokens} tokens read, {batch.usage.input_tokens_details.cached_tokens} of them cached")
