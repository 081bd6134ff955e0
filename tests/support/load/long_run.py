"""A long run: requests in stages, between which the server comes to rest and is measured; then the verdict."""

import asyncio
import json
import random
import time
from dataclasses import dataclass, field, replace
from itertools import combinations_with_replacement
from typing import Any

from tests.support.load.asks import get
from tests.support.load.catalog import Plan, make_catalog
from tests.support.load.connection import Connection
from tests.support.load.run import Callers
from tests.support.load.server import BYTES_PER_TOKEN, PREFIX_TOKENS, Served
from tests.support.load.vitals import Vitals, family, measure


@dataclass(slots=True)
class Report:
    """What was found."""

    vitals: list[dict[str, Vitals]] = field(default_factory=list)
    """After each stage, by process. Of the engine that has most, without the prefixes that it has offloaded just then:
    up to 19 MB, which come and go."""
    seconds: float = 0.0
    """While requests were sent."""
    figures: dict[str, float] = field(default_factory=dict)
    checks: int = 0


class LongRun:
    """``prepare``, then any number of ``stage``s, then ``check``."""

    def __init__(self, server: Served, seed: int, callers: int) -> None:
        self.callers = Callers(server.host, server.port, callers)
        self.report = Report()
        self._server = server
        self._seed = seed
        self._link = Connection(server.host, server.port)
        self._plan: Plan
        self._sent = 0
        self._left: set[int] = set()
        self._before: dict[str, float] = {}
        self._rested: list[dict[str, int]] = []
        """The figures of the engines when nothing ran last."""

    async def prepare(self, cases: int) -> None:
        """Ask everything alone that will be asked together."""
        while not (held := (await self._models())[0]["stats"]["pins_computed"]):
            await asyncio.sleep(0.1)
        held = (await self._models())[0]["stats"]["cells_held"]
        catalog = await make_catalog(self._server, random.Random(self._seed), cases)
        await self.settle()
        callers = self.callers
        self._before = await callers.start()
        callers.pinned = held - (PREFIX_TOKENS if self._server.everything else 0)
        for ask in catalog.sure:
            await callers.alone(ask, compare=True)
        for ask in catalog.repeated:
            await callers.alone(ask, compare=ask.kind in ("refused", "plain"))
        for ask in catalog.leaving:
            await callers.alone(ask, compare=False)
            self._left.add(callers.known[ask.request].tokens)
        self._plan = Plan(catalog, self._seed, everything=self._server.everything)

    async def stage(self, count: int) -> None:
        """Send the next ``count`` requests of the plan, wait until all is at rest, and measure."""
        began = time.monotonic()
        await self.callers.together(self._plan.asks(self._sent, count))
        self.report.seconds += time.monotonic() - began
        self._sent += count
        self.callers.close()
        await self.settle()
        vitals = {f"{name} {pid}": measure(pid) for pid, name in family(self._server.pid).items()}
        largest = max(vitals, key=lambda name: vitals[name].memory)
        offloaded = self._rested[0]["tokens_parked"] * BYTES_PER_TOKEN
        vitals[largest] = replace(vitals[largest], memory=vitals[largest].memory - offloaded)
        self.report.vitals.append(vitals)

    def progress(self) -> str:
        """Return how it goes, in a line."""
        held = ", ".join(
            f"{name} {at.memory / 2**20:.1f} MB {at.files} files {at.threads} threads"
            for name, at in self.report.vitals[-1].items()
        )
        rate, wrong = self._sent / self.report.seconds, len(self.callers.tally.wrong)
        return f"{self._sent} requests, {rate:.0f} a second, {wrong} wrong; {held}"

    async def settle(self) -> None:
        """Wait until nothing runs and the first engine has checked its books since, if it ran."""
        for _ in range(600):
            now = [model["stats"] for model in await self._models()]
            idle = not any(one["running"] + one["waiting"] for one in now)
            first, rested = now[0], (self._rested or now)[0]
            unchecked = first["generated_tokens"] > rested["generated_tokens"] and first["checks"] <= rested["checks"]
            if idle and not unchecked:
                break
            await asyncio.sleep(0.1)
        else:
            raise AssertionError(f"the server does not come to rest: {now}")
        self._rested = now
        self.report.checks = now[0]["checks"]

    async def check(self) -> None:
        """Raise AssertionError where requests or tokens were lost, or counted twice, or a model is still in use."""
        await self._unloaded()
        assert "Traceback" not in self._server.log.read_text("utf-8")
        tally, now = self.callers.tally, await self.callers.figures()
        sums = {name: value - self._before.get(name, 0) for name, value in now.items()}
        self.report.figures = sums
        assert not tally.wrong, f"{len(tally.wrong)} wrong: {tally.wrong[:5]}"
        assert not tally.of(5)
        assert sums["requests_received_total"] == tally.sent, (sums, tally)
        assert sums["request_refused_total"] == tally.of(4)
        assert sums.get("request_failed_total", 0) == 0
        unseen = sums["request_success_total"] - tally.of(2)
        assert unseen >= 0
        assert sums["request_aborted_total"] == tally.left - unseen
        assert now["num_requests_running"] == now["num_requests_waiting"] == now["engine_restarts_total"] == 0
        told = sums["prompt_tokens_total"] + sums["generation_tokens_total"] - sums["wasted_tokens_total"]
        assert _adds_up(int(told) - tally.tokens, int(unseen), sorted(self._left)), (told, tally.tokens, unseen)

    async def _unloaded(self) -> None:
        """Wait until the model that is there for its requests alone is gone: each has let go of it."""
        for _ in range(200):
            waits = [
                model for model in await self._models() if model["name"] == "baichuan" and model["state"] != "idle"
            ]
            if not waits:
                return
            await asyncio.sleep(0.2)
        raise AssertionError(f"a request that has ended keeps its model loaded: {waits}")

    async def _models(self) -> list[dict[str, Any]]:
        reply = await self._link.send(get("/health").request)
        assert reply is not None
        assert reply.status == 200, reply.body
        self._link.close()
        models: list[dict[str, Any]] = json.loads(reply.body)["models"]
        return models


def _adds_up(tokens: int, requests: int, sizes: list[int]) -> bool:
    """Whether so many requests, each of one of these sizes, may have had so many tokens.

    They are those that were answered in full just when their caller left.
    """
    return any(sum(chosen) == tokens for chosen in combinations_with_replacement(sizes, requests))
