"""Text completions as OpenAI has them, whole and in chunks."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from typing_extensions import NotRequired, TypedDict

from glmserve.api.openai.completions.protocol import CompletionRequest, PromptJob
from glmserve.api.openai.envelope import FINISH_REASONS, Finish, ReplyHead, UsageObject, finite_logprob, usage_object
from glmserve.generation.detokenizer import TokenLogprob
from glmserve.generation.generation import Answer, Completion, Usage
from glmserve.generation.output_processor import TextDelta
from glmserve.model_pool.host import Tokenizer


class LegacyLogprobs(TypedDict):
    """Four lists of the same length, an entry for each token."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


class CompletionChoice(TypedDict):
    """One of the answers, or a piece of it."""

    index: int
    text: str
    logprobs: LegacyLogprobs | None
    finish_reason: Finish | None


class TextCompletion(TypedDict):
    """The reply, or the data of an event."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str | None
    choices: list[CompletionChoice]
    usage: NotRequired[UsageObject | None]


def legacy_logprobs(tokens: Iterable[TokenLogprob], tokenizer: Tokenizer, *, top: int, offset: int) -> LegacyLogprobs:
    """Return the entries of ``tokens``.

    Args:
        tokens: in their order.
        tokenizer: that they are of; it has the names of those without text.
        top: how many of the likeliest tokens were asked for; with 0 there is no ``top_logprobs``.
        offset: characters of the text before the first of ``tokens``.
    """
    listed = tuple(tokens)
    return {
        "tokens": [_text(token, tokenizer) for token in listed],
        "token_logprobs": [None if token.logprob is None else finite_logprob(token) for token in listed],
        "top_logprobs": [_rivals(token, tokenizer) for token in listed] if top else None,
        "text_offset": [offset + token.offset for token in listed],
    }


def joined(first: LegacyLogprobs, second: LegacyLogprobs) -> LegacyLogprobs:
    """Return the entries of both, one after the other."""
    tops = (first["top_logprobs"], second["top_logprobs"])
    return {
        "tokens": first["tokens"] + second["tokens"],
        "token_logprobs": first["token_logprobs"] + second["token_logprobs"],
        "top_logprobs": None if None in tops else [entry for part in tops if part for entry in part],
        "text_offset": first["text_offset"] + second["text_offset"],
    }


def _rivals(token: TokenLogprob, tokenizer: Tokenizer) -> dict[str, float] | None:
    """Return the likeliest tokens and the token itself; of two that are spelled alike, the likelier one."""
    if token.logprob is None:
        return None
    rivals: dict[str, float] = {}
    for rival in (*token.top, token):
        rivals.setdefault(_text(rival, tokenizer), finite_logprob(rival))
    return rivals


def _text(token: TokenLogprob, tokenizer: Tokenizer) -> str:
    if not token.piece and not tokenizer.piece(token.token_id):
        return tokenizer.name(token.token_id)
    try:
        return token.piece.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token.piece)


@dataclass(frozen=True, slots=True)
class CompletionWriter:
    """Makes the reply to one request. Answer ``i`` to prompt ``p`` has the index ``p * n + i``."""

    head: ReplyHead
    body: CompletionRequest
    jobs: Sequence[PromptJob]
    tokenizer: Tokenizer

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with the token counts."""
        return bool(self.body.stream_options and self.body.stream_options.include_usage)

    def whole(self, completion: Completion) -> TextCompletion:
        """Return the whole reply."""
        choices = [self._whole_choice(index, answer, completion) for index, answer in enumerate(completion.answers)]
        reply = self._object(choices, disturbed=completion.usage.disturbed)
        return {**reply, "usage": self._usage(completion.usage)}

    def prompt_of(self, index: int) -> int:
        """Return the number of the prompt that answer ``index`` is to."""
        return index // self.jobs[0].request.n

    def echo(self, prompt: int, tokens: tuple[TokenLogprob, ...]) -> Iterator[TextCompletion]:
        """Yield the chunks that open the answers to ``prompt`` where it is echoed; ``tokens`` are its own."""
        job, n = self.jobs[prompt], self.jobs[prompt].request.n
        if self.body.echo:
            for index in range(prompt * n, (prompt + 1) * n):
                logprobs = self._prompt_logprobs(job, tokens)
                yield self._chunk([_choice(index, job.text, logprobs, None)])

    def delta(self, delta: TextDelta) -> TextCompletion:
        """Return the chunk of a piece of an answer."""
        reason = None if delta.finish_reason is None else FINISH_REASONS[delta.finish_reason]
        if self.body.scores_only:
            return self._chunk([_choice(delta.index, "", None, "length")])
        job = self.jobs[self.prompt_of(delta.index)]
        logprobs = self._answer_logprobs(job, delta.tokens) if delta.tokens else None
        return self._chunk([_choice(delta.index, delta.text, logprobs, reason)], disturbed=delta.disturbed)

    def usage(self, usage: Usage) -> TextCompletion:
        """Return the chunk with the counts, which has no choices."""
        return {**self._object([], disturbed=usage.disturbed), "usage": self._usage(usage)}

    def _whole_choice(self, index: int, answer: Answer, completion: Completion) -> CompletionChoice:
        prompt = self.prompt_of(index)
        job = self.jobs[prompt]
        text = job.text if self.body.echo else ""
        logprobs = self._prompt_logprobs(job, completion.prompts[prompt]) if self.body.echo else None
        if self.body.scores_only:
            return _choice(index, text, logprobs, "length")
        own = self._answer_logprobs(job, answer.tokens)
        both = joined(logprobs, own) if logprobs and own else own
        return _choice(index, text + answer.text, both, FINISH_REASONS[answer.finish_reason])

    def _prompt_logprobs(self, job: PromptJob, tokens: tuple[TokenLogprob, ...]) -> LegacyLogprobs | None:
        return self._logprobs(tokens[job.prefix_tokens :], 0)

    def _answer_logprobs(self, job: PromptJob, tokens: tuple[TokenLogprob, ...]) -> LegacyLogprobs | None:
        return self._logprobs(tokens, len(job.text) if self.body.echo else 0)

    def _logprobs(self, tokens: tuple[TokenLogprob, ...], offset: int) -> LegacyLogprobs | None:
        top = self.body.logprobs
        return None if top is None else legacy_logprobs(tokens, self.tokenizer, top=top, offset=offset)

    def _chunk(self, choices: list[CompletionChoice], *, disturbed: bool = False) -> TextCompletion:
        chunk = self._object(choices, disturbed=disturbed)
        return {**chunk, "usage": None} if self.include_usage else chunk

    def _object(self, choices: list[CompletionChoice], *, disturbed: bool = False) -> TextCompletion:
        return {
            "id": self.head.id,
            "object": "text_completion",
            "created": self.head.created,
            "model": self.head.model,
            "system_fingerprint": self.head.fingerprint_of(disturbed=disturbed),
            "choices": choices,
        }

    def _usage(self, usage: Usage) -> UsageObject:
        return usage_object(replace(usage, completion_tokens=0) if self.body.scores_only else usage)


def _choice(index: int, text: str, logprobs: LegacyLogprobs | None, reason: Finish | None) -> CompletionChoice:
    return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}
