"""Sends requests from many callers at once, and compares each reply with what the same request got alone."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tests.support.load.asks import Ask, get
from tests.support.load.connection import Connection, Reply
from tests.support.load.replies import Told, read

PATIENCE = 60.0
"""Seconds after which a request counts as hung."""


@dataclass(frozen=True, slots=True)
class Known:
    """What a request got alone."""

    status: int
    told: Told | None
    """None of what is not compared."""
    tokens: int
    """Of prompt and answers, as the books have it."""


@dataclass(slots=True)
class Tally:
    """What came of the requests."""

    replies: Counter[tuple[str, int]] = field(default_factory=Counter)
    """By kind and status, of those that generate."""
    left: int = 0
    """Requests that were heard, whose callers hung up before the end of the reply."""
    tokens: int = 0
    """Of all that were answered."""
    wrong: list[str] = field(default_factory=list)

    def of(self, hundred: int) -> int:
        """Return the number of replies of 2xx, 4xx, 5xx."""
        return sum(number for (_, status), number in self.replies.items() if status // 100 == hundred)

    @property
    def sent(self) -> int:
        return sum(self.replies.values()) + self.left


class Callers:
    """So many callers, each with a connection of its own."""

    def __init__(self, host: str, port: int, number: int) -> None:
        self.known: dict[bytes, Known] = {}
        self.tally = Tally()
        self.pinned = 0
        """Tokens that prompts with a pinned beginning find in the cache at least."""
        self._tokens = 0
        self._connections = [Connection(host, port) for _ in range(number)]

    async def start(self) -> dict[str, float]:
        """Return what ``/metrics`` says to begin with."""
        figures = await self.figures()
        self._tokens = int(_tokens(figures))
        return figures

    async def alone(self, ask: Ask, *, compare: bool) -> Told | None:
        """Send ``ask`` after ``start`` while nothing else is going on, and keep its reply as what is to be expected."""
        reply = await self._send(self._connections[0], ask)
        assert reply is not None
        assert reply.status < 500, (ask, reply)
        told = self._told(ask, reply)
        before, self._tokens = self._tokens, int(_tokens(await self.figures()))
        tokens = self._tokens - before
        self._enter(ask, reply, told, tokens)
        if told is not None and told.usage is not None:
            assert sum(told.usage) == tokens, (ask, told.usage, tokens)
        self.known[ask.request] = Known(reply.status, told if compare else None, tokens)
        return told

    async def together(self, asks: Iterable[Ask]) -> None:
        """Send all of ``asks``; return when each has come to its end."""
        queue = iter(asks)
        await asyncio.gather(*(self._caller(connection, queue) for connection in self._connections))

    async def figures(self) -> dict[str, float]:
        """Return what ``/metrics`` says: the sums over all labels, by name."""
        reply = await self._send(self._connections[0], get("/metrics"))
        assert reply is not None
        sums: dict[str, float] = defaultdict(float)
        for line in reply.body.decode().splitlines():
            if line.startswith("glmserve:"):
                name, value = line.removeprefix("glmserve:").rsplit(" ", 1)
                sums[name.partition("{")[0]] += float(value)
        return dict(sums)

    def close(self) -> None:
        for connection in self._connections:
            connection.close()

    async def _caller(self, connection: Connection, queue: Iterator[Ask]) -> None:
        for ask in queue:
            reply = None
            try:
                reply = await self._send(connection, ask)
                if reply is not None:
                    self._compare(ask, reply, self._told(ask, reply))
                elif ask.generates and ask.is_heard:
                    self.tally.left += 1
            except (AssertionError, ConnectionError, ValueError, KeyError, IndexError, TypeError) as error:
                got = reply.body[-600:] if reply else "nothing"
                self.tally.wrong.append(f"{error!r}: {ask.request[:2000]!r} got {got!r}")
                print(self.tally.wrong[-1], flush=True)
                connection.close()

    async def _send(self, connection: Connection, ask: Ask) -> Reply | None:
        try:
            return await asyncio.wait_for(connection.send(ask.request, ask.leave), PATIENCE)
        except asyncio.TimeoutError:
            raise AssertionError(f"no end after {PATIENCE:g} s: {ask.request[:600]!r}") from None

    def _told(self, ask: Ask, reply: Reply) -> Told | None:
        if reply.status == 200:
            return None if ask.kind == "status" else read(ask.kind, reply.body)
        return read("refused", reply.body)

    def _compare(self, ask: Ask, reply: Reply, told: Told | None) -> None:
        known = self.known.get(ask.request)
        tokens = sum(told.usage) if told and told.usage else known.tokens if known else 0
        self._enter(ask, reply, told, tokens)
        if known is None:
            assert reply.status == 200, "a request is refused that should not be"
            assert told is None or told.usage, "tokens are not told"
            return
        assert reply.status == known.status, f"status {reply.status} and not {known.status}"
        if known.told is not None and told is not None:
            assert told.answers == known.told.answers, f"{told.answers} and not {known.told.answers}"
            assert told.usage == known.told.usage, "another number of tokens"
            assert not told.usage or told.cached < told.usage[0], "all of a prompt was cached"
            assert not told.usage or not ask.pinned or told.cached >= self.pinned, "the pinned beginning was not used"

    def _enter(self, ask: Ask, reply: Reply, told: Told | None, tokens: int) -> None:
        if ask.generates:
            self.tally.replies[ask.kind, reply.status] += 1
            self.tally.tokens += tokens if reply.status == 200 else 0


def _tokens(figures: dict[str, float]) -> float:
    return figures.get("prompt_tokens_total", 0) + figures.get("generation_tokens_total", 0)
