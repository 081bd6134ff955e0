"""Lines of batches, and what the official client does with them."""

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any, Final

from openai import AsyncOpenAI
from openai.types import Batch

from tests.support.api import MODEL

CHAT: Final = "/v1/chat/completions"
Line = Mapping[str, object]


def line(custom_id: str, content: str = "hi", url: str = CHAT, **body: object) -> Line:
    asked = {"model": MODEL, "messages": [{"role": "user", "content": content}], **body}
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": asked}


def jsonl(*lines: Line) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in lines)


async def ended(openai: AsyncOpenAI, batch: Batch, *states: str) -> Batch:
    """Wait until a batch has ended, or has one of ``states``."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        batch = await openai.batches.retrieve(batch.id)
        if batch.status in (states or ("completed", "failed", "expired", "cancelled")):
            return batch
        await asyncio.sleep(0.01)
    raise TimeoutError(batch)


async def run(openai: AsyncOpenAI, content: bytes, endpoint: str = CHAT, window: str = "24h") -> Batch:
    """Upload a file and start its batch; ``window`` may be shorter than the one that the client knows."""
    file = await openai.files.create(file=("in.jsonl", content), purpose="batch")
    asked = {"endpoint": endpoint, "completion_window": window}
    return await openai.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h", extra_body=asked)


async def lines_of(openai: AsyncOpenAI, file_id: str | None) -> list[dict[str, Any]]:
    if file_id is None:
        return []
    return [json.loads(text) for text in (await openai.files.content(file_id)).text.splitlines()]
