"""Runs a workload against a server and notes when each token came."""

import asyncio
import json
import time
from dataclasses import dataclass

import httpx

from server.commands.bench_workloads import Workload


class BenchError(Exception):
    """The server cannot be measured; one line."""


@dataclass(frozen=True, slots=True)
class RequestTimes:
    """One streamed answer; times are seconds of one monotonic clock."""

    started: float
    chunks: tuple[float, ...]
    """When each piece of text came."""
    ended: float
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


class BenchClient:
    """Asks one model of one server, streamed, greedy, and for exactly as many tokens as are wanted."""

    def __init__(self, url: str, model: str, max_tokens: int) -> None:
        """``url`` is the server's address, without ``/v1``."""
        self._model = model
        self._max_tokens = max_tokens
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        self._http = httpx.AsyncClient(base_url=url, timeout=None, limits=limits)

    async def run(self, workload: Workload) -> tuple[RequestTimes, ...]:
        """Let all clients of ``workload`` ask at once. Raises BenchError."""
        try:
            chats = await asyncio.gather(*(self._converse(questions) for questions in workload.clients))
        except (httpx.HTTPError, LookupError, ValueError) as error:
            raise BenchError(f"the server did not answer as expected: {error}") from error
        return tuple(times for chat in chats for times in chat)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _converse(self, questions: tuple[str, ...]) -> list[RequestTimes]:
        messages: list[dict[str, str]] = []
        all_times = []
        for question in questions:
            messages.append({"role": "user", "content": question})
            answer, times = await self._ask(messages)
            messages.append({"role": "assistant", "content": answer})
            all_times.append(times)
        return all_times

    async def _ask(self, messages: list[dict[str, str]]) -> tuple[str, RequestTimes]:
        body = {
            "model": self._model,
            "messages": messages,
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": 0,
            "max_tokens": self._max_tokens,
            "ignore_eos": True,
        }
        texts: list[str] = []
        chunks: list[float] = []
        usage: dict[str, int] = {}
        cached_tokens = 0
        started = time.monotonic()
        async with self._http.stream("POST", "/v1/chat/completions", json=body) as reply:
            if reply.is_error:
                raise BenchError(f"HTTP {reply.status_code}: {(await reply.aread()).decode(errors='replace')[:300]}")
            async for line in reply.aiter_lines():
                if not line.startswith("data: ") or line == "data: [DONE]":
                    continue
                event = json.loads(line.removeprefix("data: "))
                if "error" in event:
                    raise BenchError(str(event["error"]))
                if event.get("usage"):
                    usage = event["usage"]
                    cached_tokens = event["usage"]["prompt_tokens_details"]["cached_tokens"]
                if event["choices"] and (text := event["choices"][0]["delta"].get("content")):
                    texts.append(text)
                    chunks.append(time.monotonic())
        return "".join(texts), RequestTimes(
            started=started,
            chunks=tuple(chunks),
            ended=time.monotonic(),
            prompt_tokens=usage["prompt_tokens"],
            cached_tokens=cached_tokens,
            completion_tokens=usage["completion_tokens"],
        )
