"""An engine that plays a script, and a tokenizer of bytes: all that is needed to test what is above the engine."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from glmserve.engine.errors import EngineUnavailable, GrammarRejected, PromptTooLong, QueueFull
from glmserve.engine.grammar_backend import fault
from glmserve.engine.interface import ANYBODY, Caller, EngineState, EngineStatus
from glmserve.engine.messages import (
    EngineInfo,
    EngineStats,
    FinishReason,
    Pin,
    PromptProgress,
    SampledToken,
    StepOutput,
)
from glmserve.engine.params import Grammar, SamplingParams

EOS = 2
_FIRST_BYTE = 3
_SPECIAL = {"</s>": EOS, "[gMASK]": 300, "sop": 301, "user": 302, "assistant": 303,
            "<|system|>": 304, "<|user|>": 305, "<|assistant|>": 306, "<|observation|>": 307}  # fmt: skip


class ByteTokenizer:
    """A token a byte, a dummy prefix in front, and the special tokens of ChatGLM2 and Baichuan."""

    strips_leading_space = True
    max_piece_chars = 4
    opening: tuple[int, ...] = ()

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(_FIRST_BYTE + byte for byte in f" {text}".encode()) if text else ()

    def special_id(self, piece: str) -> int:
        return _SPECIAL[piece]

    def takes_blanks(self, token_id: int) -> bool:
        return False

    def piece(self, token_id: int) -> bytes:
        return bytes([token_id - _FIRST_BYTE]) if _FIRST_BYTE <= token_id < _FIRST_BYTE + 256 else b""

    def name(self, token_id: int) -> str:
        special = {number: name for name, number in _SPECIAL.items()}
        return special.get(token_id) or self.piece(token_id).decode("latin-1")

    def encode_framed(self, text: str) -> tuple[int, ...]:
        return (EOS, *self.encode(text), EOS)

    def framed(self, *texts: tuple[int, ...]) -> tuple[int, ...]:
        return (EOS, *(token for number, text in enumerate(texts) for token in ((EOS,) * bool(number) + text)), EOS)

    def decode(self, ids: tuple[int, ...]) -> str:
        return b"".join(map(self.piece, ids)).decode("utf-8", "replace").removeprefix(" ")


@dataclass
class Submission:
    """What was asked of the engine, and how it ended."""

    prompt: str
    prompt_ids: tuple[int, ...]
    params: SamplingParams
    adapter: str = ""
    caller: Caller = ANYBODY
    closed: bool = False
    finished: bool = False


Reply = Callable[[Submission], str]
Hold = Callable[[int], bool]


def echo(submission: Submission) -> str:
    """Answer with the last question, in a sentence that tells the seed where there is one."""
    question = submission.prompt.rpartition("问：")[2].removesuffix("\n\n答：")
    return f"你问的是：{question}"


def says(text: str) -> Reply:
    """Answer everything with ``text``."""
    return lambda _: text


def never(number: int) -> bool:
    """Hold no step."""
    return False


@dataclass
class ScriptedEngine:
    """Answers every prompt with ``reply``, ``per_step`` tokens at a time."""

    reply: Reply = echo
    per_step: int = 3
    step_seconds: float = 0.0
    holds: Hold = never
    """Whether the step of this number, from 0 for each request, is still to wait: for what a test must have seen."""
    scoring_seconds: float = 0.0
    """What it takes to score a prompt."""
    progress: tuple[PromptProgress, ...] = ()
    """Told, a step each, before the answer to a request that asks for it."""
    endless: bool = False
    """Repeat the answer until somebody closes the stream."""
    reject: Exception | None = None
    """Raised by ``submit``, from submission ``reject_from`` on."""
    reject_from: int = 0
    is_full: QueueFull | None = None
    """Raised where it is asked whether there is room."""
    fail: Exception | None = None
    """Raised by the stream after its first step."""
    fail_choice: int | None = None
    """Only this submission fails, where not all do."""
    cached_tokens: int = 0
    load_error: Exception | None = None
    context_length: int = 4096
    parallel: int = 4
    state: EngineState = EngineState.LOADING
    reason: str = "the model is loading"
    loaded: asyncio.Event | None = None
    """Where given, loading ends when it is set."""
    prefix_tokens: dict[str, int] = field(default_factory=dict)
    """By adapter."""
    restarts_total: int = 0
    resumed_total: int = 0
    starts: int = 0
    """How often it was loaded."""
    submissions: list[Submission] = field(default_factory=list)
    embedded: list[tuple[int, ...]] = field(default_factory=list)
    """Inputs of an embedding model."""
    ranks: bool = False
    """It is a reranker, which likes long pairs."""
    pins: list[Pin] = field(default_factory=list)

    @property
    def status(self) -> EngineStatus:
        return EngineStatus(self.state, self.reason)

    @property
    def info(self) -> EngineInfo:
        if not self.starts or self.state is EngineState.LOADING:
            raise EngineUnavailable("the model is loading")
        return EngineInfo(
            self.context_length,
            4 * self.context_length,
            self.parallel,
            512,
            "a script",
            0.0,
            self.prefix_tokens,
            embedding_size=1 if self.ranks else 4,
            ranks=self.ranks,
            normalizes=False,
        )

    @property
    def stats(self) -> EngineStats:
        return EngineStats(running=self.running)

    @property
    def running(self) -> int:
        """How many streams are neither finished nor closed."""
        return sum(not (one.closed or one.finished) for one in self.submissions)

    async def start(self) -> None:
        self.starts += 1

    async def wait_ready(self, timeout: float) -> None:
        if self.loaded is not None:
            await asyncio.wait_for(self.loaded.wait(), timeout)
        if self.load_error is not None:
            self.state, self.reason = EngineState.FAILED, str(self.load_error)
            raise self.load_error
        self.state, self.reason = EngineState.READY, ""

    async def submit(
        self, prompt_ids: tuple[int, ...], params: SamplingParams, adapter: str = "", caller: Caller = ANYBODY
    ) -> AsyncGenerator[StepOutput, None]:
        if self.reject is not None and len(self.submissions) >= self.reject_from:
            raise self.reject
        room = self.context_length - self.prefix_tokens.get(adapter, 0)
        if len(prompt_ids) >= room:
            raise PromptTooLong(len(prompt_ids), room)
        prompt = ByteTokenizer().decode(prompt_ids)
        submission = Submission(prompt, prompt_ids, params, adapter, caller)
        self.submissions.append(submission)
        return _Stream(self, submission, index=len(self.submissions) - 1)

    async def check_grammar(self, grammar: Grammar, caller: Caller) -> None:
        if problem := fault(grammar):
            raise GrammarRejected(problem)

    def check_room(self, caller: Caller) -> None:
        if self.is_full is not None:
            raise self.is_full

    def pin(self, pin: Pin) -> None:
        self.pins.append(pin)

    async def embed(self, inputs: tuple[tuple[int, ...], ...], caller: Caller = ANYBODY) -> tuple[bytes, ...]:
        """Give each input a vector that points the way of its length; as a reranker, a score that grows with it."""
        if self.reject is not None:
            raise self.reject
        self.embedded += inputs
        if self.ranks:
            return tuple(np.array([len(ids) / 8 - 4], np.float32).tobytes() for ids in inputs)
        return tuple(np.array([0.6, -0.8, 0, len(ids)], np.float32).tobytes() for ids in inputs)

    async def stop(self) -> None:
        self.state = EngineState.STOPPED


class _Stream(AsyncGenerator[StepOutput, None]):
    """A stream that notes when it is closed, even one that was never read."""

    def __init__(self, engine: ScriptedEngine, submission: Submission, index: int) -> None:
        self._submission = submission
        self._steps = _play(engine, submission, index)

    async def asend(self, value: None) -> StepOutput:
        return await self._steps.asend(value)

    async def athrow(self, *error: Any) -> StepOutput:  # noqa: ANN401 (as of the class above)
        output: StepOutput = await self._steps.athrow(*error)
        return output

    async def aclose(self) -> None:
        self._submission.closed = True
        await self._steps.aclose()


def scored(ids: tuple[int, ...], top: int | None) -> tuple[SampledToken, ...]:
    """Score each token with a hundredth of its id, the other way, behind rivals that are likelier by one."""
    if top is None:
        return ()
    return tuple(
        SampledToken(i, -i / 100, tuple(SampledToken(i + 1 + n, 1 - i / 100 - n) for n in range(top))) for i in ids
    )


def scored_prompt(submission: Submission) -> tuple[SampledToken, ...]:
    """Score the prompt in the same way; its first token has nothing to go by."""
    tokens = scored(submission.prompt_ids, submission.params.prompt_logprobs)
    return (SampledToken(tokens[0].token_id), *tokens[1:]) if tokens else ()


async def _next_step(engine: ScriptedEngine, number: int) -> None:
    await asyncio.sleep(engine.step_seconds)
    while engine.holds(number):
        await asyncio.sleep(0.005)


async def _play(engine: ScriptedEngine, submission: Submission, index: int) -> AsyncGenerator[StepOutput, None]:
    ids = ByteTokenizer().encode(engine.reply(submission)) + (() if engine.endless else (EOS,))
    failure = engine.fail if engine.fail_choice in (None, index) else None
    sent = 0
    if submission.params.prompt_logprobs is not None:
        await asyncio.sleep(engine.scoring_seconds)
    numbers = itertools.count()
    for report in engine.progress if submission.params.progress_seconds is not None else ():
        await _next_step(engine, next(numbers))
        yield StepOutput(index, progress=report)
    while True:
        await _next_step(engine, next(numbers))
        left = submission.params.max_tokens - sent
        start = sent % len(ids)
        step = ids[start : start + min(engine.per_step, left)]
        sent += len(step)
        reason = None
        if not engine.endless and step[-1] == EOS:
            reason = FinishReason.STOP
        elif sent == submission.params.max_tokens:
            reason = FinishReason.LENGTH
        submission.finished = reason is not None
        yield StepOutput(
            index,
            step,
            reason,
            cached_tokens=engine.cached_tokens,
            logprobs=scored(step, submission.params.logprobs),
            prompt_logprobs=() if sent > len(step) else scored_prompt(submission),
        )
        if reason is not None:
            return
        if failure is not None:
            raise failure
