"""One sequence of the engine as text deltas, with log-probabilities and tool calls; and their log (--log-prompts)."""

import json
import logging
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass
from typing import Protocol

from glmserve.chat.tools.types import AnswerParser, AnswerPiece, CallDelta, gather_calls
from glmserve.engine.errors import EngineDied
from glmserve.engine.messages import FinishReason, PromptProgress, SampledToken, StepOutput
from glmserve.generation.detokenizer import (
    Detokenizer,
    LogprobBuffer,
    ReasonedPiece,
    ReasoningParser,
    StopChecker,
    TokenLogprob,
)
from glmserve.http.request_context import RequestProgress
from glmserve.model_pool.host import Tokenizer


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of answer ``index``; the one with a ``finish_reason`` (STOP or LENGTH) is its last."""

    index: int
    text: str
    finish_reason: FinishReason | None = None
    tokens: tuple[TokenLogprob, ...] = ()
    """Tokens that this piece completes, where log-probabilities are asked for; none of a cut stop string."""
    stop: str | None = None
    """The stop string that ended the answer, where one did."""
    calls: tuple[CallDelta, ...] = ()
    """Pieces of tool calls, which come after the text."""
    reasoning: str = ""
    """A piece of what the model wrote before the text, to itself."""
    progress: PromptProgress | None = None
    """Where it is asked for, and nothing of the answer has come yet; such a delta has nothing else."""
    disturbed: bool = False
    """The same request with the same seed may be answered otherwise from here on."""


class AnswerOutput(Protocol):
    """One answer as text, and its counts up to now; times are the engine's, in seconds."""

    prompt: list[SampledToken]
    """The tokens of the prompt, where their log-probabilities are asked for."""

    @property
    def completion_tokens(self) -> int:
        """Tokens of the answer."""

    @property
    def cached_tokens(self) -> int:
        """Tokens of the prompt that were found in a prefix cache."""

    @property
    def disturbed(self) -> bool:
        """Whether the same request with the same seed may be answered otherwise."""

    @property
    def reasoning_tokens(self) -> int:
        """Tokens of its reasoning."""

    @property
    def queue_seconds(self) -> float:
        """From its submission to its admission."""

    @property
    def prompt_seconds(self) -> float:
        """From its admission to its first token."""

    @property
    def run_seconds(self) -> float:
        """From its admission to its latest token."""

    @property
    def thinks(self) -> bool:
        """Whether it has reasoning apart from its text."""

    @property
    def prompt_tokens(self) -> int:
        """Length of its prompt."""

    async def next_delta(self) -> TextDelta:
        """Return the next piece; the last one has a finish reason. Raises EngineError or UpstreamError."""

    async def aclose(self) -> None:
        """Abort it if it still runs."""


class RequestOutput:
    """One sequence in the engine, as text."""

    def __init__(
        self,
        index: int,
        outputs: AsyncGenerator[StepOutput, None],
        tokenizer: Tokenizer,
        stop: tuple[str, ...],
        *,
        progress: RequestProgress | None = None,
        skip_blanks: bool = False,
        continued: bool = False,
        parser: AnswerParser | None = None,
        reasoning: ReasoningParser | None = None,
    ) -> None:
        """Take over ``outputs``; the owner must close this object.

        Args:
            index: which answer of its request this is.
            outputs: what the engine gives.
            tokenizer: the model's.
            stop: where the text ends; not looked for in calls.
            progress: counts every token.
            skip_blanks: drop those in front of the text.
            continued: the text continues one that the prompt began, so that a space in front is one of its own.
            parser: finds the calls in the text. Scores are for answers without one.
            reasoning: finds what comes before the text and its calls.
        """
        self._index = index
        self._outputs = outputs
        self._tokenizer = tokenizer
        self._detokenizer = Detokenizer(strip_leading_space=tokenizer.strips_leading_space and not continued)
        self._checker = StopChecker(stop)
        self._skip_blanks = skip_blanks
        self._parser = parser
        self._reasoning = reasoning or ReasoningParser(is_open=False)
        self.thinks = reasoning is not None
        self.reasoning_tokens = 0
        self._scores = LogprobBuffer()
        self._decoded = 0
        self._sent = 0
        self._progress = progress or RequestProgress("", 0)
        self._last = 0.0
        self.completion_tokens = 0
        self.queue_seconds = 0.0
        self.prompt_seconds = 0.0
        """From its admission to its first token."""
        self.run_seconds = 0.0
        """From its admission to its latest token."""
        self.cached_tokens = 0
        self.disturbed = False
        self.prompt: list[SampledToken] = []

    @property
    def prompt_tokens(self) -> int:
        """Length of its prompt."""
        return self._progress.prompt_tokens

    async def next_delta(self) -> TextDelta:
        """Return the next piece that has text or calls, or ends the answer; before, reports of progress if asked.

        Raises:
            EngineError: the engine could not finish the answer.
        """
        async for output in self._outputs:
            if output.progress is not None:
                return TextDelta(self._index, "", progress=output.progress)
            delta = self._take(output)
            if self._checker.stopped:
                await self._outputs.aclose()
            if delta.text or delta.calls or delta.tokens or delta.reasoning or delta.finish_reason is not None:
                return delta
        raise EngineDied("the engine ended the answer without a reason")

    async def aclose(self) -> None:
        """Abort the sequence if it still runs."""
        await self._outputs.aclose()

    def _take(self, output: StepOutput) -> TextDelta:
        self.completion_tokens += len(output.token_ids)
        if output.token_ids:
            self._note_times(output)
        self.cached_tokens = output.cached_tokens
        self.disturbed |= output.disturbed
        self.prompt += output.prompt_logprobs
        reason = output.finish_reason
        texts = map(self._feed, output.logprobs) if output.logprobs else map(self._decode, output.token_ids)
        reasoned = self._without_reasoning(texts, ended=reason is not None)
        piece = self._parse(reasoned.text, ended=reason is not None)
        text = self._checker.feed(piece.text)
        if self._checker.stopped:
            reason = FinishReason.STOP
        elif piece.calls or reason is not None:
            text += self._checker.finish()
        self._sent += len(text)
        sent = self._sent + self._reasoning.dropped
        self._progress.cut |= reason is FinishReason.LENGTH
        if reason is None:
            tokens = self._scores.released(sent)
            return TextDelta(
                self._index, text, None, tokens, None, piece.calls, reasoned.reasoning, disturbed=self.disturbed
            )
        tokens = self._scores.finish(sent, cut=self._checker.stopped)
        calls = () if self._checker.stopped else piece.calls
        return TextDelta(
            self._index, text, reason, tokens, self._checker.found, calls, reasoned.reasoning, disturbed=self.disturbed
        )

    def _without_reasoning(self, texts: Iterable[str], *, ended: bool) -> ReasonedPiece:
        """Return the text of tokens, and the reasoning apart; all of it is text where the model does not think."""
        if not self.thinks:
            text = "".join(texts)
            return ReasonedPiece(text=text + self._without_blanks(self._detokenizer.finish()) if ended else text)
        pieces = []
        for text in texts:
            pieces.append(self._reasoning.feed(text))
            self.reasoning_tokens += bool(self._reasoning.is_reasoning or pieces[-1].reasoning)
        if ended:
            pieces += [self._reasoning.feed(self._detokenizer.finish()), self._reasoning.finish()]
        return ReasonedPiece("".join(p.reasoning for p in pieces), "".join(p.text for p in pieces))

    def _note_times(self, output: StepOutput) -> None:
        if not self._last:
            self.queue_seconds, self.prompt_seconds = output.queue_seconds, output.run_seconds
            self._progress.begin(output.queue_seconds, output.run_seconds, output.cached_tokens)
        self.run_seconds = output.run_seconds
        self._last = self._progress.token(len(output.token_ids), self._last)

    def _parse(self, text: str, *, ended: bool) -> AnswerPiece:
        if self._parser is None:
            return AnswerPiece(text)
        piece = self._parser.feed(text)
        return piece + self._parser.finish() if ended else piece

    def _decode(self, token_id: int) -> str:
        return self._without_blanks(self._detokenizer.feed(self._tokenizer.piece(token_id)))

    def _feed(self, token: SampledToken) -> str:
        """Decode ``token`` and hold its log-probability for when its text is sent."""
        scored = scored_token(token, self._tokenizer, self._decoded, bare=self._detokenizer.strips_next)
        text = self._decode(token.token_id)
        self._decoded += len(text)
        blank = scored.piece and not text and self._detokenizer.is_whole
        if not blank:
            self._scores.add(scored, self._decoded + (not self._detokenizer.is_whole))
        return text

    def _without_blanks(self, text: str) -> str:
        if self._skip_blanks:
            text = text.lstrip()
            self._skip_blanks = not text
        return text


def scored_token(token: SampledToken, tokenizer: Tokenizer, offset: int, *, bare: bool) -> TokenLogprob:
    """Return ``token`` with its bytes; ``bare`` without the space that stands for the dummy prefix."""

    def piece(token_id: int) -> bytes:
        return tokenizer.piece(token_id).removeprefix(b" ") if bare else tokenizer.piece(token_id)

    top = tuple(TokenLogprob(rival.token_id, piece(rival.token_id), rival.logprob, offset) for rival in token.top)
    return TokenLogprob(token.token_id, piece(token.token_id), token.logprob, offset, top)


_prompt_log = logging.getLogger("glmserve.generation.prompt_log")


def log_prompt(prompt_ids: tuple[int, ...], tokenizer: Tokenizer) -> None:
    """Log the text that the model gets."""
    text = b"".join(map(tokenizer.piece, prompt_ids)).decode("utf-8", "replace")
    _prompt_log.info("prompt: %s", _quoted(text))


async def log_deltas(deltas: AsyncGenerator[TextDelta, None]) -> AsyncGenerator[TextDelta, None]:
    """Yield ``deltas``, and log the answers when they have ended, as far as they came."""
    texts: dict[int, str] = defaultdict(str)
    calls: dict[int, list[CallDelta]] = defaultdict(list)
    try:
        async for delta in deltas:
            texts[delta.index] += delta.text
            calls[delta.index] += delta.calls
            yield delta
    finally:
        await deltas.aclose()
        for index, text in sorted(texts.items()):
            _prompt_log.info("answer %d: %s", index, _quoted(text))
            for call in gather_calls(calls[index]):
                _prompt_log.info("answer %d calls %s", index, _quoted(f"{call.name} {call.arguments}"))


def _quoted(text: str) -> str:
    """Return ``text`` on one line."""
    return json.dumps(text, ensure_ascii=False)
