"""What a long run asks again and again, and the plan of a run: the same for the same seed."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

from tests.support.load.asks import Ask, Case, Drawn, Json, asides, asks_of, post, refused, to_leave
from tests.support.load.connection import Connection, Leave
from tests.support.load.server import FORM, PINNED, Served

SURE = 1.0
"""By how much each token of an answer is more probable than the next best, in natural logarithms. In another batch
sums are of another order, which moves them by up to 0.1."""

_GREETINGS = (
    "你好",
    "你是谁？",
    "who are you?",
    "What can you do",
    "谢谢",
    "今天天气怎么样",
    "再见",
    "你会做什么？",
    "早上好",
)
_REVIEWS = (
    "东西不错，物流很快",
    "房间太脏了，服务也差",
    "很喜欢，下次还来",
    "质量差，不值这个价",
    "书写得很好",
    "不会再买了",
)
_ROUND: tuple[Json, ...] = (
    {"role": "user", "content": "你好"},
    {"role": "assistant", "content": "你好！有什么可以帮你？"},
)
_PIECES = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987, 1500)
"""Lengths of prompts that are beginnings of one another."""


class Catalog:
    """Everything that is asked more than once, with what it got alone."""

    def __init__(self, sure: list[Ask], repeated: list[Ask]) -> None:
        self.sure = sure
        """Answered alike each time."""
        self.repeated = repeated
        """Not answered, or not sure to be answered alike."""
        self.leaving = to_leave()


async def make_catalog(server: Served, rng: random.Random, size: int) -> Catalog:
    """Find ``size`` conversations with sure answers, and make requests of them."""
    link = Connection(server.host, server.port)
    sure: list[Ask] = []
    found = 0
    for model, messages in _candidates(rng, ("tiny", "lora", "prefix") if server.everything else ("tiny",)):
        if found == size:
            break
        case = await _case(link, model, messages)
        if case is not None:
            found += 1
            sure += asks_of(case, rng.randint(1, 8))
    assert found == size, f"only {found} conversations have sure answers"
    sure += [ask async for ask in _pieces(link)]
    sure += [ask for text in _REVIEWS[:4] for ask in _tasks(text)]
    repeated = [*refused(), *asides()]
    if server.everything:
        repeated.append(post("legacy", "/baichuan", {"prompt": "你好", "max_length": 9}))
    return Catalog(sure, repeated)


def _tasks(text: str) -> list[Ask]:
    """Return the ways to fill the slot of a task."""
    chat: Json = {"model": "tiny:review", "messages": [{"role": "user", "content": text}]}
    return [
        post("response", "/v1/responses", {"prompt": {"id": "review", "variables": {"text": text}}}),
        post("chat", "/v1/chat/completions", chat),
        post("message_stream", "/v1/messages", {**chat, "max_tokens": 8, "stream": True}),
    ]


def _candidates(rng: random.Random, models: tuple[str, ...]) -> Iterator[tuple[str, tuple[Json, ...]]]:
    texts = (*_GREETINGS, *(FORM.format(text=t) for t in _REVIEWS))
    plain: list[tuple[Json, ...]] = [({"role": "user", "content": text},) for text in texts]
    system: Json = {"role": "system", "content": "你是一个助手。"}
    longer: list[tuple[Json, ...]] = [(*_ROUND, *messages) for messages in plain]
    led: list[tuple[Json, ...]] = [(system, *messages) for messages in plain[:6]]
    both = [(model, messages) for messages in (*plain, *longer, *led) for model in models]
    rng.shuffle(both)
    yield from both


async def _case(link: Connection, model: str, messages: tuple[Json, ...]) -> Case | None:
    body: Json = {"model": model, "messages": messages, "temperature": 0, "max_tokens": 8}
    scored = await _json(link, post("", "/v1/chat/completions", {**body, "logprobs": True, "top_logprobs": 2}))
    choice = scored["choices"][0]
    tops = [[top["logprob"] for top in place["top_logprobs"]] for place in choice["logprobs"]["content"]]
    if min(first - second for first, second in tops) < SURE:
        return None
    tokens = (await _json(link, post("", "/tokenize", {"model": model, "messages": messages})))["tokens"]
    pinned = model == "tiny" and str(messages[0]["content"]).startswith(PINNED)
    return Case(model, messages, tuple(tokens), choice["message"]["content"], pinned)


async def _pieces(link: Connection) -> AsyncIterator[Ask]:
    """Yield requests whose prompts begin like one another and are of all lengths, as far as their answers are sure."""
    text = "".join(FORM.format(text=review) for review in _REVIEWS * 4)
    ids = (await _json(link, post("", "/tokenize", {"model": "tiny", "prompt": text})))["tokens"]
    for length in _PIECES:
        body: Json = {"prompt": ids[:length], "temperature": 0, "max_tokens": 2, "ignore_eos": True}
        scored = await _json(link, post("", "/v1/completions", {**body, "logprobs": 2}))
        tops = [sorted(place.values()) for place in scored["choices"][0]["logprobs"]["top_logprobs"]]
        if min(top[-1] - top[-2] for top in tops) >= SURE:
            yield post("completion", "/v1/completions", body)


async def _json(link: Connection, ask: Ask) -> dict[str, Any]:
    reply = await asyncio.wait_for(link.send(ask.request), 60)
    assert reply is not None
    assert reply.status == 200, reply.body
    value: dict[str, Any] = json.loads(reply.body)
    return value


class Plan:
    """Which request comes when: a function of the seed."""

    def __init__(self, catalog: Catalog, seed: int, *, everything: bool) -> None:
        self._catalog = catalog
        self._seed = seed
        self._drawn = Drawn("".join(FORM.format(text=review) for review in _REVIEWS), vectors=everything)

    def asks(self, first: int, count: int) -> Iterator[Ask]:
        """Yield requests ``first`` up to ``first + count``."""
        for number in range(first, first + count):
            yield self._ask(random.Random(self._seed * 1_000_003 + number))

    def _ask(self, rng: random.Random) -> Ask:
        lot = rng.random()
        if lot < 0.12:
            return replace(rng.choice(self._catalog.leaving), leave=_leave(rng))
        if lot < 0.24:
            return self._drawn.ask(rng)
        if lot < 0.36:
            return rng.choice(self._catalog.repeated)
        return rng.choice(self._catalog.sure)


def _leave(rng: random.Random) -> Leave:
    share = rng.choice((0.3, 0.9, 1, 1, 1, 1, 1, 1))
    pieces = rng.choice((0, 0, 1, 2, 3, 8)) if share == 1 else 0
    # A reset may take back a request that was not read yet, which nobody could count.
    return Leave(share, pieces, rng.choice((0, 0, 0.001, 0.005, 0.03)), reset=bool(pieces) and rng.random() < 0.3)
