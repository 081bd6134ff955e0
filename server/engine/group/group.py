"""Several engines of one model behind the interface of one. Each has its own process, KV cache and share of the cores.

A prompt goes to the engine that has its longest prefix, unless that one is busier by a bound. When a process ends, the
requests that may go on do so in another engine at once, and the engine comes back by itself.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, fields, replace

from glmserve.engine.client.client import EngineClient
from glmserve.engine.client.output_stream import RequestOutputQueue
from glmserve.engine.config import EngineConfig
from glmserve.engine.errors import EngineError, EngineUnavailable, ModelLoadError, QueueFull
from glmserve.engine.group.prefix_router import PrefixRouter, PromptKey
from glmserve.engine.interface import ANYBODY, Caller, EngineState, EngineStatus
from glmserve.engine.messages import EngineInfo, EngineStats, Pin, StepOutput, Submit
from glmserve.engine.params import Grammar, SamplingParams
from glmserve.engine.worker.entry import RunnerFactory, load_llama

log = logging.getLogger(__name__)

_BEST_FIRST = (
    EngineState.READY,
    EngineState.RESTARTING,
    EngineState.LOADING,
    EngineState.STOPPED,
    EngineState.FAILED,
)


class EngineGroup:
    """Implements ``glmserve.engine.interface.Engine`` over several engines. Belongs to one event loop."""

    def __init__(self, configs: Sequence[EngineConfig], load: RunnerFactory = load_llama) -> None:
        """Nothing is started yet; see ``glmserve.engine.group.division`` for the ``configs``."""
        self.members = tuple(
            EngineClient(config, load, _Siblings(self, number)) for number, config in enumerate(configs)
        )
        self._router = PrefixRouter(range(len(configs)))

    @property
    def status(self) -> EngineStatus:
        """That of the member which is best off."""
        return min((member.status for member in self.members), key=lambda status: _BEST_FIRST.index(status.state))

    @property
    def info(self) -> EngineInfo:
        """Capabilities of all together. Raises EngineUnavailable before the first load has ended."""
        known = []
        for member in self.members:
            try:
                known.append(member.info)
            except EngineUnavailable:
                continue
        if not known:
            return self.members[0].info
        return replace(
            known[0],
            cache_cells=sum(info.cache_cells for info in known),
            parallel=sum(info.parallel for info in known),
            max_waiting=sum(info.max_waiting for info in known),
            device=f"{len(self.members)} engines, each on {known[0].device}",
        )

    @property
    def stats(self) -> EngineStats:
        """The sums of the latest snapshots."""
        each = [member.stats for member in self.members]
        return EngineStats(**{field.name: sum(getattr(stats, field.name) for stats in each) for field in _FIGURES})

    @property
    def restarts_total(self) -> int:
        """Number of process restarts."""
        return sum(member.restarts_total for member in self.members)

    @property
    def resumed_total(self) -> int:
        """How many answers another process went on with."""
        return sum(member.resumed_total for member in self.members)

    async def start(self) -> None:
        """Start loading; returns at once."""
        self._router = PrefixRouter(range(len(self.members)))
        for member in self.members:
            await member.start()

    async def wait_ready(self, timeout: float) -> None:
        """Wait until each member has loaded or failed, and one is READY. Raises EngineUnavailable or ModelLoadError."""
        outcomes = await asyncio.gather(
            *(member.wait_ready(timeout) for member in self.members), return_exceptions=True
        )
        failures = [outcome for outcome in outcomes if outcome is not None]
        for failure in failures:
            if not isinstance(failure, EngineUnavailable | ModelLoadError):
                raise failure
        if len(failures) == len(outcomes):
            raise failures[0]

    async def submit(
        self, prompt_ids: tuple[int, ...], params: SamplingParams, adapter: str = "", caller: Caller = ANYBODY
    ) -> AsyncGenerator[StepOutput, None]:
        """Queue a sequence in the engine that suits it best; see ``Engine.submit``."""
        key = PromptKey(prompt_ids, adapter, caller.scope)
        rejection: EngineError | None = None
        for number in self._order(key):
            try:
                stream = await self.members[number].submit(prompt_ids, params, adapter, caller)
            except (QueueFull, EngineUnavailable) as error:
                rejection = rejection or error
                continue
            self.note(number, key)
            return stream
        assert rejection is not None, "there is at least one engine"
        raise rejection

    async def embed(self, inputs: tuple[tuple[int, ...], ...], caller: Caller = ANYBODY) -> tuple[bytes, ...]:
        """Return a vector for each input; see ``Engine.embed``."""
        numbers = self._asked() or range(len(self.members))
        number = min(numbers, key=lambda number: self.members[number].load)
        return await self.members[number].embed(inputs, caller)

    def check_room(self, caller: Caller) -> None:
        """Raise QueueFull where every engine would reject a request; see ``Engine.check_room``."""
        rejection: QueueFull | None = None
        for number in self._asked() or range(len(self.members)):
            try:
                return self.members[number].check_room(caller)
            except QueueFull as error:
                rejection = rejection or error
        assert rejection is not None, "there is at least one engine"
        raise rejection

    async def check_grammar(self, grammar: Grammar, caller: Caller) -> None:
        """Find out whether the grammar can be used; see ``Engine.check_grammar``."""
        number = next(iter(self._asked()), 0)
        await self.members[number].check_grammar(grammar, caller)

    def pin(self, pin: Pin) -> None:
        """Keep a beginning of prompts in the cache of every engine; see ``Engine.pin``."""
        for member in self.members:
            member.pin(pin)

    async def stop(self) -> None:
        """End the processes; every open stream ends with EngineUnavailable. ``start`` may start fresh ones."""
        await asyncio.gather(*(member.stop() for member in self.members))

    def emptied(self, number: int) -> None:
        """Note that nothing is cached by this engine any more."""
        self._router.forget(number)

    def take_over(self, number: int, outcomes: RequestOutputQueue) -> bool:
        """Continue a request that this engine has lost; return False where no other one can."""
        request = outcomes.request
        key = _key(request, outcomes.so_far.token_ids) if isinstance(request, Submit) else PromptKey(())
        for other in self._order(key):
            if other != number and self.members[other].adopt(outcomes):
                self.note(other, key)
                return True
        return False

    def adopt(self, outcomes: RequestOutputQueue) -> bool:
        """Compute a request that was admitted elsewhere; False where no engine takes one now."""
        request = outcomes.request
        key = _key(request) if isinstance(request, Submit) else PromptKey(())
        for number in self._order(key):
            if self.members[number].adopt(outcomes):
                self.note(number, key)
                return True
        return False

    def note(self, number: int, key: PromptKey) -> None:
        """Note that this engine has computed ``key``, or is to."""
        self._router.resize(number, self.members[number].info.cache_cells)
        self._router.note(number, key)

    def _asked(self) -> list[int]:
        return [number for number, member in enumerate(self.members) if member.status.state is EngineState.READY]

    def _order(self, key: PromptKey) -> list[int]:
        """Return the engines to ask, the best one first; where none is READY, the one that may be so the soonest."""
        if asked := self._asked():
            return self._router.order(key, {number: self.members[number].load for number in asked})
        best = self.status.state
        return [next(number for number, member in enumerate(self.members) if member.status.state is best)]


@dataclass(frozen=True, slots=True)
class _Siblings:
    """The group as one of its engines knows it."""

    group: EngineGroup
    number: int

    def emptied(self) -> None:
        self.group.emptied(self.number)

    def take_over(self, outcomes: RequestOutputQueue) -> bool:
        return self.group.take_over(self.number, outcomes)

    def finished(self, request: Submit, token_ids: Sequence[int]) -> None:
        """The next prompt of a chat begins with both."""
        self.group.note(self.number, _key(request, token_ids))


_FIGURES = fields(EngineStats)


def _key(request: Submit, token_ids: Sequence[int] = ()) -> PromptKey:
    return PromptKey((*request.prompt_ids, *token_ids), request.adapter, request.scope)
