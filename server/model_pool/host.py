"""One engine and its tokenizer: loaded with the server or by a request, unloaded when idle."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from glmserve.chat.prompts.formats import Encoder
from glmserve.engine.errors import EngineError, EngineUnavailable, ModelLoadError
from glmserve.engine.interface import Engine, EngineState, EngineStatus
from glmserve.engine.messages import EngineInfo, Pin
from glmserve.model_pool.lifecycle import Lifecycle, Phase

log = logging.getLogger(__name__)

_LOAD_PATIENCE_S = 60.0


class Tokenizer(Encoder, Protocol):
    """Text to ids and ids to bytes, of one vocabulary."""

    @property
    def strips_leading_space(self) -> bool:
        """Whether the vocabulary has a dummy prefix, whose space decoding takes off again."""

    @property
    def max_piece_chars(self) -> int:
        """How many characters the longest token has: no text of more than n times this fits into n tokens."""

    def encode_framed(self, text: str) -> tuple[int, ...]:
        """Return the ids of plain text between the special tokens that the file puts around one."""

    def framed(self, *texts: tuple[int, ...]) -> tuple[int, ...]:
        """Return the ids of one text or two between the special tokens that the model expects there."""

    def piece(self, token_id: int) -> bytes:
        """Return the bytes of a token; none for a control token."""

    def name(self, token_id: int) -> str:
        """Return the vocabulary's name of a token, such as ``▁Hello``, ``<0xE4>`` or ``[gMASK]``."""


@dataclass(frozen=True, slots=True)
class LoadPolicy:
    """When an engine is loaded and unloaded; times in seconds."""

    on_first_use: bool = False
    """By the first request, and not with the server."""
    idle_seconds: float = 0.0
    """How long it stays without a request; 0 is for ever."""
    load_timeout: float = 600.0
    """How long a request waits for it."""


class ModelHost:
    """The engine that a model and its adapters share. Belongs to one event loop.

    The tokenizer is loaded only once the engine is ready: a bad file aborts the process that opens it, and that
    must be the engine's.
    """

    def __init__(
        self,
        engine: Engine,
        load_tokenizer: Callable[[], Tokenizer],
        policy: LoadPolicy | None = None,
        clock: Callable[[], float] = time.monotonic,
        turn: asyncio.Lock | None = None,
        *,
        pins: Callable[[Tokenizer], Sequence[Pin]] = lambda _: (),
    ) -> None:
        """Nothing is loaded yet.

        Args:
            engine: not started.
            load_tokenizer: runs in a thread, after the engine has loaded the same file.
            policy: when to load and unload; by default with the server, and never.
            clock: any that only goes forwards, in seconds.
            turn: held while loading. Hosts of one machine share it: each engine looks for itself how much memory is
                free, so two that looked at once would both take the same.
            pins: what the engine is to keep cached; runs in a thread, after the tokenizer is loaded.
        """
        self.engine = engine
        self.policy = policy or LoadPolicy()
        self._load_tokenizer = load_tokenizer
        self._clock = clock
        self._turn = turn or asyncio.Lock()
        self._pins = pins
        self._tokenizer: Tokenizer | None = None
        self._life = Lifecycle(on_first_use=self.policy.on_first_use, idle_seconds=self.policy.idle_seconds)
        self._work: asyncio.Task[None] | None = None
        """The load or unload that a request or the clock has caused."""
        self._timer: asyncio.TimerHandle | None = None

    @property
    def status(self) -> EngineStatus:
        """Whether requests are taken now, and why not."""
        status, phase = self.engine.status, self._life.phase
        if phase in (Phase.FAILED, Phase.STOPPED):
            state = EngineState.FAILED if phase is Phase.FAILED else EngineState.STOPPED
            return EngineStatus(state, str(self._life.failure))
        if phase in (Phase.IDLE, Phase.UNLOADING):
            return EngineStatus(EngineState.IDLE, "it will be loaded by the next request")
        if phase is Phase.READY or status.state in (EngineState.LOADING, EngineState.RESTARTING):
            return status
        reason = (
            "the tokenizer is loading"
            if status.state is EngineState.READY
            else "it is waiting for another model to load"
        )
        return EngineStatus(EngineState.LOADING, reason)

    @property
    def takes_requests(self) -> bool:
        """Whether a request that comes now is answered, if need be after the model was loaded because of one."""
        return self._life.phase is Phase.LOADING or self.status.state in (EngineState.READY, EngineState.IDLE)

    @property
    def has_given_up(self) -> bool:
        """Whether the model was served, and its engine then failed in spite of all restarts."""
        return self._tokenizer is not None and self.engine.status.state is EngineState.FAILED

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer.

        Raises:
            EngineUnavailable: it is not loaded.
        """
        if self._tokenizer is None:
            raise self._unavailable()
        return self._tokenizer

    @property
    def info(self) -> EngineInfo:
        """Capabilities of the engine. Raises EngineUnavailable before the first load."""
        return self.engine.info

    async def start(self) -> None:
        """Load the model with the server; returns when it takes requests. One loaded on first use is left alone.

        Raises:
            EngineError: it cannot be loaded; ``status`` has the reason from then on.
        """
        if self._life.phase is Phase.STARTING:
            await self._load()
            if self._life.failure is not None:
                raise self._life.failure

    async def stop(self) -> None:
        """Stop the engine for good, in any state."""
        self._life.stopped(EngineUnavailable("the server is shutting down"))
        if self._timer is not None:
            self._timer.cancel()
        if self._work is not None:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)
        await self.engine.stop()

    @contextlib.asynccontextmanager
    async def in_use(self) -> AsyncIterator[None]:
        """Have the model loaded, and keep it so while the block runs.

        Raises:
            EngineError: it is starting with the server, or cannot be loaded.
        """
        with self.keep_loaded():
            await self._ensure_loaded()
            yield

    @contextlib.contextmanager
    def keep_loaded(self) -> Iterator[None]:
        """Keep a model that is loaded from being unloaded while the block runs."""
        self._life.enter()
        try:
            yield
        finally:
            self._life.leave(self._clock())
            self._schedule()

    async def _ensure_loaded(self) -> None:
        """Wait for the model, and start loading it where no other request has."""
        while True:
            self._notice_failed_engine()
            if self._life.phase is Phase.READY:
                return
            if self._life.wants_load(self._clock()):
                self._life.loading()
                self._work = asyncio.create_task(self._load())
            if self._life.phase not in (Phase.LOADING, Phase.UNLOADING) or self._work is None:
                raise self._life.failure or self._unavailable()
            done, _ = await asyncio.wait((self._work,), timeout=self.policy.load_timeout)
            if not done:
                raise EngineUnavailable(f"the model was not loaded within {self.policy.load_timeout:g} s")

    def _notice_failed_engine(self) -> None:
        status = self.engine.status
        if self._life.phase is Phase.READY and status.state is EngineState.FAILED:
            self._life.failed(EngineUnavailable(f"the engine has given up: {status.reason}"), self._clock())

    async def _load(self) -> None:
        """Load engine and tokenizer. A failure goes into the lifecycle, where all waiting requests find it."""
        try:
            async with self._turn:
                if self.engine.status.state is EngineState.FAILED:
                    await self.engine.stop()
                await self.engine.start()
                await self._wait_ready()
            self._tokenizer = await asyncio.to_thread(self._load_tokenizer)
            for pin in await asyncio.to_thread(self._pins, self._tokenizer):
                self.engine.pin(pin)
        except EngineError as error:
            if self.engine.status.state is EngineState.READY:  # it was the tokenizer
                await self.engine.stop()
            self._life.failed(error, self._clock())
        except Exception as error:
            log.exception("the tokenizer could not be loaded: %s", error)
            await self.engine.stop()
            self._life.failed(ModelLoadError(f"the tokenizer could not be loaded: {error}"), self._clock())
        else:
            self._life.loaded(self._clock())
            self._schedule()

    async def _wait_ready(self) -> None:
        """Wait as long as the engine keeps trying; a large model on a slow disk takes minutes."""
        while True:
            try:
                return await self.engine.wait_ready(_LOAD_PATIENCE_S)
            except EngineUnavailable:
                if self.engine.status.state in (EngineState.FAILED, EngineState.STOPPED):
                    raise

    def _schedule(self) -> None:
        """Set the timer to when the model may be unloaded, if it may be at all."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        seconds = self._life.unload_in(self._clock())
        if seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._unload_if_due)

    def _unload_if_due(self) -> None:
        if self._life.unload_in(self._clock()) == 0.0:
            self._life.unloading()
            self._work = asyncio.create_task(self._unload())
        else:
            self._schedule()

    async def _unload(self) -> None:
        self._tokenizer = None
        try:
            await self.engine.stop()
        except Exception:
            log.exception("a model could not be unloaded cleanly")
        finally:
            if self._life.phase is Phase.UNLOADING:
                self._life.unloaded()

    def _unavailable(self) -> EngineUnavailable:
        status = self.status
        return EngineUnavailable(f"the model is not ready: {status.reason or status.state.value}")
