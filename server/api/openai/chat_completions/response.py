"""The JSON of chat answers, whole and in chunks, in OpenAI's words."""

from glmserve.api.openai.chat_completions.tool_calls import CallShape
from glmserve.api.openai.envelope import ReplyHead, timings_object, usage_object
from glmserve.api.openai.logprobs import logprobs_object
from glmserve.api.openai.response_types import ChatChoice, ChatChunk, ChatCompletion, ChunkChoice, ChunkDelta, Finish
from glmserve.generation.generation import Answer, Completion, Timings, Usage
from glmserve.generation.output_processor import TextDelta

_TOOL_CALLS = CallShape()


def chat_completion(
    head: ReplyHead, completion: Completion, calls: CallShape = _TOOL_CALLS, *, timings: bool = False
) -> ChatCompletion:
    """Return the whole reply to a request that does not stream; its calls are written as ``calls`` says."""
    reply: ChatCompletion = {
        "id": head.id,
        "object": "chat.completion",
        "created": head.created,
        "model": head.model,
        "system_fingerprint": head.fingerprint,
        "choices": [_choice(index, answer, calls) for index, answer in enumerate(completion.answers)],
        "usage": usage_object(completion.usage),
    }
    if timings:
        reply["timings"] = timings_object(completion.usage, completion.timings)
    return reply


def _choice(index: int, answer: Answer, calls: CallShape) -> ChatChoice:
    return {
        "index": index,
        "message": calls.message(answer.text, answer.calls),
        "logprobs": logprobs_object(answer.tokens),
        "finish_reason": calls.finish_reason(answer.finish_reason, called=bool(answer.calls)),
    }


class ChunkWriter:
    """Makes the chunks of one stream.

    Where usage is asked for, every chunk has the field, null but in the last; where not, none has it, as some
    clients fail on it.
    """

    def __init__(
        self, head: ReplyHead, *, include_usage: bool, timings: bool = False, calls: CallShape = _TOOL_CALLS
    ) -> None:
        """All chunks share ``head``; calls are written as ``calls`` says."""
        self._head = head
        self._calls = calls
        self._called: set[int] = set()
        self._timings = timings
        self._include_usage = include_usage

    def role(self, index: int) -> ChatChunk:
        """Return the chunk that opens answer ``index``."""
        return self._chunk([_delta(index, {"role": "assistant", "content": ""})])

    def delta(self, delta: TextDelta) -> list[ChatChunk]:
        """Return the chunks of one delta: its text, each piece of a call, and the end, as far as it has them."""
        chunks = []
        if delta.text or delta.tokens:
            choice = _delta(delta.index, {"content": delta.text})
            chunks.append(self._chunk([{**choice, "logprobs": logprobs_object(delta.tokens)}]))
        for call in delta.calls:
            self._called.add(delta.index)
            chunks.append(self._chunk([_delta(delta.index, self._calls.delta(call))]))
        if delta.finish_reason is not None:
            reason = self._calls.finish_reason(delta.finish_reason, called=delta.index in self._called)
            chunks.append(self._chunk([_delta(delta.index, {}, reason)]))
        return chunks

    def end(self, usage: Usage, timings: Timings) -> list[ChatChunk]:
        """Return a chunk without choices, with counts and times as far as they are asked for; or none."""
        chunk = self._chunk([])
        if self._include_usage:
            chunk["usage"] = usage_object(usage)
        if self._timings:
            chunk["timings"] = timings_object(usage, timings)
        return [chunk] if self._include_usage or self._timings else []

    def _chunk(self, choices: list[ChunkChoice]) -> ChatChunk:
        chunk: ChatChunk = {
            "id": self._head.id,
            "object": "chat.completion.chunk",
            "created": self._head.created,
            "model": self._head.model,
            "system_fingerprint": self._head.fingerprint,
            "choices": choices,
        }
        return {**chunk, "usage": None} if self._include_usage else chunk


def _delta(index: int, delta: ChunkDelta, finish_reason: Finish | None = None) -> ChunkChoice:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
