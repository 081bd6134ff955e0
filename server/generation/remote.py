"""An answer that an upstream writes, as text deltas."""

import json
import logging
import time
from typing import TYPE_CHECKING

from glmserve.engine.messages import FinishReason, SampledToken
from glmserve.generation.detokenizer import TokenLogprob
from glmserve.generation.output_processor import TextDelta
from glmserve.http.errors import UpstreamDied, UpstreamError
from glmserve.http.request_context import RequestProgress
from glmserve.upstream.chat import ChatReader, RemotePiece, RemotePrompt, RemoteToken
from glmserve.upstream.replies import Counts, counts_in

if TYPE_CHECKING:
    from glmserve.upstream.connection import EventSource
    from glmserve.upstream.engine import Upstream

_BYTES_PER_TOKEN = 4
"""Of a prompt whose tokens were never told, as its answer was broken off: about right in Chinese and English."""


class RemoteTally:
    """Counts the tokens of one answer of an upstream: each chunk as one, until the upstream tells how many there are.

    To the upstream it is a running request from here until ``close``.
    """

    def __init__(self, upstream: "Upstream", progress: RequestProgress, body_bytes: int) -> None:
        """``body_bytes`` is the size of the request, for a prompt whose tokens are never told."""
        self._upstream = upstream
        self._progress = progress
        self._body_bytes = body_bytes
        self._work = upstream.in_work()
        self._work.__enter__()
        self._sent = time.monotonic()
        self._last = 0.0
        self._is_open = True
        self._failed = False
        self.counts: Counts | None = None
        self.tokens = 0
        self.first_seconds = 0.0
        """From the request to the first piece."""
        self.run_seconds = 0.0
        """From the request to the latest one."""

    def piece(self) -> None:
        """A piece of the answer has come."""
        now = time.monotonic()
        self.run_seconds = now - self._sent
        if not self._last:
            self.first_seconds = self.run_seconds
            self._progress.begin(0.0, self.first_seconds, 0)
        self.tokens += 1
        self._last = self._progress.token(1, self._last)

    def told(self, counts: Counts) -> None:
        """The upstream has told its counts, of the whole answer or up to now."""
        self._progress.completion_tokens += counts.completion_tokens - self.tokens
        self.tokens = counts.completion_tokens
        self._progress.prompt_tokens = max(self._progress.prompt_tokens, counts.prompt_tokens)
        self._progress.cached_tokens = counts.cached_tokens
        self.counts = counts

    def close(self) -> None:
        """The answer has ended, or was broken off. May be called again."""
        if not self._is_open:
            return
        self._is_open = False
        self._work.__exit__(None, None, None)
        if self.counts is None and (self.tokens or not self._failed):
            self.told(Counts(self._body_bytes // _BYTES_PER_TOKEN + 1, self.tokens))
        if self.counts is not None:
            self._upstream.count(self.counts)

    def failed(self) -> None:
        """The upstream failed: a request without a piece of an answer has cost nothing."""
        self._failed = True

    def cut(self) -> None:
        """The answer ended because it had become as long as it may."""
        self._progress.cut = True


class RemoteOutput:
    """One answer of an upstream's chat API; see ``AnswerOutput``."""

    def __init__(self, index: int, source: "EventSource", tally: RemoteTally, reader: ChatReader) -> None:
        """Take over ``source`` and ``tally``; the owner must close this object."""
        self._index = index
        self._source = source
        self._reader = reader
        self._tally = tally
        self._offset = 0
        self._thought = False
        self.queue_seconds = 0.0
        self.prompt: list[SampledToken] = []

    @property
    def thinks(self) -> bool:
        """Whether reasoning has come."""
        return self._thought or self.reasoning_tokens > 0

    @property
    def prompt_tokens(self) -> int:
        """Length of the prompt, once the upstream has told it."""
        return self._tally.counts.prompt_tokens if self._tally.counts else 0

    @property
    def completion_tokens(self) -> int:
        """Tokens of the answer."""
        return self._tally.tokens

    @property
    def cached_tokens(self) -> int:
        """Tokens of the prompt that the upstream found computed."""
        return self._tally.counts.cached_tokens if self._tally.counts else 0

    @property
    def disturbed(self) -> bool:
        """Left to the upstream's own fingerprint."""
        return False

    @property
    def reasoning_tokens(self) -> int:
        """Of the tokens of the answer, where the upstream tells."""
        return (self._tally.counts.reasoning_tokens or 0) if self._tally.counts else 0

    @property
    def prompt_seconds(self) -> float:
        """From the request to the first piece."""
        return self._tally.first_seconds

    @property
    def run_seconds(self) -> float:
        """From the request to the latest piece."""
        return self._tally.run_seconds

    async def next_delta(self) -> TextDelta:
        """Return the next piece that has something, or the end of the answer, after which the counts are known.

        Raises:
            UpstreamError: the upstream could not finish the answer.
        """
        while True:
            piece = await self._next_piece()
            if piece.finish_reason is not None:
                await self._read_counts()
                return self._delta(piece)
            if piece.text or piece.reasoning or piece.calls or piece.tokens:
                return self._delta(piece)

    async def aclose(self) -> None:
        """Close the connection if the answer has not ended; the upstream then aborts it."""
        self._tally.close()
        await self._source.aclose()

    async def _next_piece(self) -> RemotePiece:
        try:
            event = await self._source.next_event()
            if event is None:
                raise UpstreamDied("the server that runs the model ended the answer without a reason")
            piece = self._reader.feed(event)
        except UpstreamError:
            self._tally.failed()
            raise
        if piece.text or piece.reasoning or piece.calls:
            self._tally.piece()
        if counts := counts_in(event):
            self._tally.told(counts)
        return piece

    async def _read_counts(self) -> None:
        while (event := await self._source.next_event()) is not None:
            if counts := counts_in(event):
                self._tally.told(counts)

    def _delta(self, piece: RemotePiece) -> TextDelta:
        self._thought = self._thought or bool(piece.reasoning)
        if piece.finish_reason is FinishReason.LENGTH:
            self._tally.cut()
        tokens = tuple(map(self._scored, piece.tokens))
        return TextDelta(self._index, piece.text, piece.finish_reason, tokens, piece.stop, piece.calls, piece.reasoning)

    def _scored(self, token: RemoteToken) -> TokenLogprob:
        offset = self._offset
        self._offset += len(token.piece.decode("utf-8", "ignore"))
        top = tuple(TokenLogprob(0, rival.piece, rival.logprob, offset) for rival in token.top)
        return TokenLogprob(0, token.piece, token.logprob, offset, top)


_prompt_log = logging.getLogger("glmserve.generation.prompt_log")


def log_remote(prompt: RemotePrompt) -> None:
    """Log the conversation that an upstream gets."""
    told = [{"role": message.role.value, "content": message.content} for message in prompt.messages]
    _prompt_log.info("prompt: %s", json.dumps(told, ensure_ascii=False))
