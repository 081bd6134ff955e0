"""The interface between the API and an engine: a child process, or a scripted engine in tests."""

import math
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from glmserve.engine.messages import EVERYBODY, EngineInfo, EngineStats, Pin, PrefixScope, StepOutput
from glmserve.engine.params import Grammar, SamplingParams


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of requests, which share one turn in scheduling."""

    id: str = ""
    """Any text that tells callers apart."""
    timeout_s: float = math.inf
    """Seconds that the request may take: one that would wait longer need not begin."""
    scope: PrefixScope = EVERYBODY
    """Who else may find the prompt of the request in the prefix cache."""
    background: bool = False
    """Its requests are computed only while no other caller's are."""


ANYBODY = Caller()


class EngineState(str, Enum):
    """Life of an engine as its clients see it.

    IDLE: the next request starts the engine. UNREACHABLE: the server that runs the model does not answer.
    """

    IDLE = "idle"
    LOADING = "loading"
    READY = "ready"
    RESTARTING = "restarting"
    FAILED = "failed"
    STOPPED = "stopped"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """The state and, where it is not READY, the reason in one line."""

    state: EngineState
    reason: str = ""


class Engine(Protocol):
    """Runs sequences of token ids."""

    @property
    def status(self) -> EngineStatus:
        """Whether requests are taken now."""

    @property
    def info(self) -> EngineInfo:
        """Capabilities of the engine. Raises EngineUnavailable before the first load has ended."""

    @property
    def stats(self) -> EngineStats:
        """The latest snapshot."""

    @property
    def restarts_total(self) -> int:
        """Number of restarts of its process."""

    @property
    def resumed_total(self) -> int:
        """How many answers a fresh process went on with."""

    async def start(self) -> None:
        """Start loading; returns at once. ``wait_ready`` waits."""

    async def wait_ready(self, timeout: float) -> None:
        """Wait until READY, at most ``timeout`` seconds. Raises EngineUnavailable or ModelLoadError."""

    async def submit(
        self, prompt_ids: tuple[int, ...], params: SamplingParams, adapter: str = "", caller: Caller = ANYBODY
    ) -> AsyncGenerator[StepOutput, None]:
        """Queue a sequence and return the stream of its outputs; closing the stream aborts the sequence.

        An engine that is restarting is waited for, within a bound. The stream ends after the output that has a
        finish reason STOP or LENGTH; every other end is an exception.

        Raises:
            PromptTooLong: the prompt leaves no room for an answer.
            QueueFull: as many as allowed are waiting, or it would wait for longer than ``caller`` does.
            EngineUnavailable: loading, failed or stopped.
            EngineDied: (from the stream) the process ended, and no other one may continue the sequence.
            DecodeFailed: (from the stream) llama.cpp rejected this sequence.
        """

    async def embed(self, inputs: tuple[tuple[int, ...], ...], caller: Caller = ANYBODY) -> tuple[bytes, ...]:
        """Return a vector for each input, as float32 in the machine's order; of a reranker, a score.

        Inputs have at least one token, and at most as many as the context. Cancelling drops the request.

        Raises:
            QueueFull: as many as allowed are waiting, or it would wait for longer than ``caller`` does.
            EngineUnavailable: loading, failed or stopped.
            EngineDied: the process ended while the request ran.
            DecodeFailed: llama.cpp rejected it.
        """

    async def check_grammar(self, grammar: Grammar, caller: Caller) -> None:
        """Check that the engine can enforce ``grammar``; ``submit`` does so, too.

        Raises:
            GrammarRejected: they cannot.
            QueueFull: too many grammars of ``caller`` are being checked, or were too costly.
            EngineUnavailable: that could not be found out.
        """

    def check_room(self, caller: Caller) -> None:
        """Raise QueueFull where a request of ``caller`` would be rejected now. Costs next to nothing."""

    def pin(self, pin: Pin) -> None:
        """Keep a beginning of prompts in the cache as long as the engine lives, through restarts of its process.

        Requests are answered meanwhile. One that leaves no room for a request is not pinned, which is logged.
        """

    async def stop(self) -> None:
        """End the process; every open stream ends with EngineUnavailable."""
