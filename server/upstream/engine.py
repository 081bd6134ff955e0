"""A model that another server runs, in the place of an engine: whether it answers, and its totals."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager, suppress

from glmserve.engine.errors import EngineUnavailable
from glmserve.engine.interface import ANYBODY, Caller, EngineState, EngineStatus
from glmserve.engine.messages import EngineInfo, EngineStats, Pin, StepOutput
from glmserve.engine.params import MAX_TOKENS, Grammar, SamplingParams
from glmserve.http.errors import UpstreamError, UpstreamRejected, UpstreamUnreachable
from glmserve.upstream.connection import Connection, EventSource, Place
from glmserve.upstream.replies import Counts, Json, parsed

log = logging.getLogger(__name__)

_LOOK_S, _LOOK_AGAIN_S = 5.0, 1.0
"""Between two looks at an upstream that answers, and at one that does not."""
_LOOK_TIMEOUT_S = 10.0
_FIRST_LOOK_S = 3.0
"""How long the start of the server waits for the first."""
_NOT_READY = frozenset(state.value for state in EngineState if state not in (EngineState.READY, EngineState.IDLE))
_TELLS_MODELS = "/models"
_NO_IDS = "the server that runs the model takes text, not token ids"


class Upstream:
    """An engine whose model is behind a connection. It takes text, by ``post`` and ``stream``, and no token ids."""

    def __init__(self, place: Place) -> None:
        """Nothing is opened yet."""
        self.connection = Connection(place)
        self.restarts_total = self.resumed_total = 0
        self._status = EngineStatus(EngineState.LOADING, "the server that runs the model has not been asked yet")
        self._context = 0
        self._running = 0
        self._totals = Counts(0, 0)
        self._watching: asyncio.Task[None] | None = None
        self._looked = asyncio.Event()
        self._warned = False

    @property
    def place(self) -> Place:
        """Where the model is."""
        return self.connection.place

    @property
    def status(self) -> EngineStatus:
        """Whether the upstream answers."""
        return self._status

    @property
    def info(self) -> EngineInfo:
        """Facts about the model, as far as the upstream tells them."""
        return EngineInfo(self._context or MAX_TOKENS, 0, 0, 0, "upstream", 0.0, max_waiting=0)

    @property
    def stats(self) -> EngineStats:
        """Requests that are under way, and tokens so far."""
        return EngineStats(
            running=self._running,
            prompt_tokens=self._totals.prompt_tokens,
            cached_tokens=self._totals.cached_tokens,
            generated_tokens=self._totals.completion_tokens,
        )

    async def start(self) -> None:
        """Begin to look whether the upstream answers."""
        self._watching = asyncio.create_task(self._watch())

    async def wait_ready(self, timeout: float) -> None:
        """Wait for the first look, but not for an upstream that does not answer: others are served meanwhile."""
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._looked.wait(), min(timeout, _FIRST_LOOK_S))
        if not self._looked.is_set():
            self._turn(EngineState.UNREACHABLE, "the server that runs the model has not answered yet")

    async def stop(self) -> None:
        """Close the connections; streams that are open end with an error."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        self._status = EngineStatus(EngineState.STOPPED, "the server is shutting down")
        await self.connection.close()

    async def post(self, path: str, body: Mapping[str, object], request_id: str) -> dict[str, object]:
        """Return the reply to ``body``. Raises UpstreamError."""
        with self._noticing(), self.in_work():
            return await self.connection.post(path, body, request_id)

    async def stream(self, path: str, body: Mapping[str, object], request_id: str) -> EventSource:
        """Return the events of the reply to ``body``, which the caller closes. Raises UpstreamError."""
        with self._noticing():
            return await self.connection.stream(path, body, request_id)

    @contextmanager
    def in_work(self) -> Iterator[None]:
        """Count a request as running while the block runs."""
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1

    def count(self, counts: Counts) -> None:
        """Note the tokens of a request that has ended."""
        total = self._totals
        self._totals = Counts(
            total.prompt_tokens + counts.prompt_tokens,
            total.completion_tokens + counts.completion_tokens,
            total.cached_tokens + counts.cached_tokens,
        )

    @contextmanager
    def _noticing(self) -> Iterator[None]:
        """Learn from a request whether the upstream answers."""
        if self._status.state is EngineState.STOPPED:
            raise EngineUnavailable(self._status.reason)
        try:
            yield
        except UpstreamUnreachable as error:
            self._turn(EngineState.UNREACHABLE, str(error))
            raise
        self._turn(EngineState.READY)

    async def _watch(self) -> None:
        while True:
            await self._look()
            self._looked.set()
            await asyncio.sleep(_LOOK_S if self._status.state is EngineState.READY else _LOOK_AGAIN_S)

    async def _look(self) -> None:
        """Ask for the list of models, which costs an upstream nothing."""
        try:
            listed = parsed(await self.connection.get(_TELLS_MODELS, _LOOK_TIMEOUT_S)).get("data")
        except UpstreamRejected:
            listed = None  # it has no such list, but it answers
        except UpstreamError as error:
            return self._turn(EngineState.UNREACHABLE, str(error))
        except Exception:
            log.exception("looking at the upstream of %s failed", self.place.model)
            return self._turn(EngineState.UNREACHABLE, "the server that runs the model could not be asked")
        state = self._learn([one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else [])
        if state in _NOT_READY:
            return self._turn(EngineState.UNREACHABLE, f"the server that runs the model says that it is {state}")
        return self._turn(EngineState.READY)

    def _learn(self, listed: list[Json]) -> object:
        """Take the context length from the list, and warn of a name that is not in it.

        Return the state that another glmserve tells.
        """
        own = next((one for one in listed if self.place.model in _names_of(one)), None)
        if own is None:
            if listed and not self._warned:
                names = ", ".join(str(one.get("id")) for one in listed[:20])
                log.warning("%s lists no model %s; it has: %s", self.place.url, self.place.model, names)
                self._warned = True
            return None
        length = next((own[name] for name in ("max_model_len", "context_length") if own.get(name)), 0)
        self._context = length if isinstance(length, int) and 0 < length < MAX_TOKENS else 0
        return own.get("state")

    def _turn(self, state: EngineState, reason: str = "") -> None:
        if self._status.state is EngineState.STOPPED:
            return
        if state is not self._status.state:
            level = logging.INFO if state is EngineState.READY else logging.WARNING
            told = f"{state.value}: {reason}" if reason else state.value
            log.log(level, "the upstream %s of %s is %s", self.place.url, self.place.model, told)
        self._status = EngineStatus(state, reason)

    async def submit(
        self,
        prompt_ids: tuple[int, ...],  # noqa: ARG002 - the interface of an engine
        params: SamplingParams,  # noqa: ARG002
        adapter: str = "",  # noqa: ARG002
        caller: Caller = ANYBODY,  # noqa: ARG002
    ) -> AsyncGenerator[StepOutput, None]:
        """Raise EngineUnavailable: see ``stream``."""
        raise EngineUnavailable(_NO_IDS)

    async def embed(self, inputs: tuple[tuple[int, ...], ...], caller: Caller = ANYBODY) -> tuple[bytes, ...]:  # noqa: ARG002
        """Raise EngineUnavailable: see ``post``."""
        raise EngineUnavailable(_NO_IDS)

    async def check_grammar(self, grammar: Grammar, caller: Caller) -> None:
        """Leave the check to the upstream."""

    def check_room(self, caller: Caller) -> None:
        """Leave the limit to the upstream."""

    def pin(self, pin: Pin) -> None:
        """Do nothing: the upstream has a prefix cache of its own."""


def _names_of(listed: Json) -> tuple[object, ...]:
    aliases = listed.get("aliases")
    return (listed.get("id"), listed.get("root"), *(aliases if isinstance(aliases, list) else ()))
