"""The JSON of text completions, whole and in chunks, in OpenAI's words."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from glmserve.api.openai.completions.logprobs import joined, legacy_logprobs
from glmserve.api.openai.completions.request import CompletionRequest, PromptJob
from glmserve.api.openai.completions.response_types import CompletionChoice, LegacyLogprobs, TextCompletion
from glmserve.api.openai.envelope import FINISH_REASONS, ReplyHead, usage_object
from glmserve.api.openai.response_types import Finish, UsageObject
from glmserve.generation.generation import Answer, Completion, Usage
from glmserve.generation.logprobs import TokenLogprob
from glmserve.generation.output_processor import TextDelta
from glmserve.model_pool.host import Tokenizer


@dataclass(frozen=True, slots=True)
class CompletionWriter:
    """Makes the reply to one request. Answer ``i`` to prompt ``p`` has the index ``p * n + i``."""

    head: ReplyHead
    body: CompletionRequest
    asks: Sequence[PromptJob]
    tokenizer: Tokenizer

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with the token counts."""
        return bool(self.body.stream_options and self.body.stream_options.include_usage)

    def whole(self, completion: Completion) -> TextCompletion:
        """Return the whole reply."""
        choices = [self._whole_choice(index, answer, completion) for index, answer in enumerate(completion.answers)]
        return {**self._object(choices), "usage": self._usage(completion.usage)}

    def prompt_of(self, index: int) -> int:
        """Return the number of the prompt that answer ``index`` is to."""
        return index // self.asks[0].request.n

    def echo(self, prompt: int, tokens: tuple[TokenLogprob, ...]) -> Iterator[TextCompletion]:
        """Yield the chunks that open the answers to ``prompt`` where it is echoed; ``tokens`` are its own."""
        ask, n = self.asks[prompt], self.asks[prompt].request.n
        if self.body.echo:
            for index in range(prompt * n, (prompt + 1) * n):
                logprobs = self._prompt_logprobs(ask, tokens)
                yield self._chunk([_choice(index, ask.text, logprobs, None)])

    def delta(self, delta: TextDelta) -> TextCompletion:
        """Return the chunk of a piece of an answer."""
        reason = None if delta.finish_reason is None else FINISH_REASONS[delta.finish_reason]
        if self.body.scores_only:
            return self._chunk([_choice(delta.index, "", None, "length")])
        ask = self.asks[self.prompt_of(delta.index)]
        logprobs = self._answer_logprobs(ask, delta.tokens) if delta.tokens else None
        return self._chunk([_choice(delta.index, delta.text, logprobs, reason)])

    def usage(self, usage: Usage) -> TextCompletion:
        """Return the chunk with the counts, which has no choices."""
        return {**self._object([]), "usage": self._usage(usage)}

    def _whole_choice(self, index: int, answer: Answer, completion: Completion) -> CompletionChoice:
        prompt = self.prompt_of(index)
        ask = self.asks[prompt]
        text = ask.text if self.body.echo else ""
        logprobs = self._prompt_logprobs(ask, completion.prompts[prompt]) if self.body.echo else None
        if self.body.scores_only:
            return _choice(index, text, logprobs, "length")
        own = self._answer_logprobs(ask, answer.tokens)
        both = joined(logprobs, own) if logprobs and own else own
        return _choice(index, text + answer.text, both, FINISH_REASONS[answer.finish_reason])

    def _prompt_logprobs(self, ask: PromptJob, tokens: tuple[TokenLogprob, ...]) -> LegacyLogprobs | None:
        return self._logprobs(tokens[ask.prefix_tokens :], 0)

    def _answer_logprobs(self, ask: PromptJob, tokens: tuple[TokenLogprob, ...]) -> LegacyLogprobs | None:
        return self._logprobs(tokens, len(ask.text) if self.body.echo else 0)

    def _logprobs(self, tokens: tuple[TokenLogprob, ...], offset: int) -> LegacyLogprobs | None:
        top = self.body.logprobs
        return None if top is None else legacy_logprobs(tokens, self.tokenizer, top=top, offset=offset)

    def _chunk(self, choices: list[CompletionChoice]) -> TextCompletion:
        chunk = self._object(choices)
        return {**chunk, "usage": None} if self.include_usage else chunk

    def _object(self, choices: list[CompletionChoice]) -> TextCompletion:
        return {
            "id": self.head.id,
            "object": "text_completion",
            "created": self.head.created,
            "model": self.head.model,
            "system_fingerprint": self.head.fingerprint,
            "choices": choices,
        }

    def _usage(self, usage: Usage) -> UsageObject:
        return usage_object(replace(usage, completion_tokens=0) if self.body.scores_only else usage)


def _choice(index: int, text: str, logprobs: LegacyLogprobs | None, reason: Finish | None) -> CompletionChoice:
    return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}
