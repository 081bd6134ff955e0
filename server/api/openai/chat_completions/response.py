"""Chat answers as OpenAI has them, whole, in chunks, and as a stream of events."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Literal

from typing_extensions import NotRequired, TypedDict

from glmserve.api.common.passing import DONE
from glmserve.api.common.progress import ProgressObject, progress_comment, progress_object
from glmserve.api.openai.envelope import (
    FINISH_REASONS,
    Finish,
    Logprobs,
    ReplyHead,
    TimingsObject,
    UsageObject,
    logprobs_object,
    timings_object,
    usage_object,
)
from glmserve.chat.tools.types import CallDelta, ToolCall
from glmserve.engine.messages import FinishReason, PromptProgress
from glmserve.generation.generation import Answer, Completion, Generation, Timings, Usage
from glmserve.generation.output_processor import TextDelta
from glmserve.http.error_replies import ErrorReply
from glmserve.http.sse import Comment, Event, EventStream


class FunctionObject(TypedDict):
    """Name and arguments of a call; the arguments are the JSON text of an object."""

    name: str
    arguments: str


class ToolCallObject(TypedDict):
    """A call that the caller is asked to make."""

    id: str
    type: Literal["function"]
    function: FunctionObject


class AssistantMessage(TypedDict):
    """An answer: text, calls, or both."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    reasoning_content: NotRequired[str]
    tool_calls: NotRequired[list[ToolCallObject]]
    function_call: NotRequired[FunctionObject]


class ChatChoice(TypedDict):
    """One of the answers."""

    index: int
    message: AssistantMessage
    logprobs: Logprobs | None
    finish_reason: Finish


class ChatCompletion(TypedDict):
    """The whole reply to a request that does not stream."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str | None
    choices: list[ChatChoice]
    usage: UsageObject
    timings: NotRequired[TimingsObject]


class FunctionDelta(TypedDict):
    """A piece of a call; the name comes whole and first."""

    name: NotRequired[str]
    arguments: str


class ToolCallDelta(TypedDict):
    """A piece of one of the calls; the first piece of a call has its id."""

    index: int
    id: NotRequired[str]
    type: NotRequired[Literal["function"]]
    function: FunctionDelta


class ChunkDelta(TypedDict):
    """The part of an answer that a chunk carries."""

    role: NotRequired[Literal["assistant"]]
    content: NotRequired[str]
    reasoning_content: NotRequired[str]
    tool_calls: NotRequired[list[ToolCallDelta]]
    function_call: NotRequired[FunctionDelta]


class ChunkChoice(TypedDict):
    """A piece of one of the answers."""

    index: int
    delta: ChunkDelta
    logprobs: Logprobs | None
    finish_reason: Finish | None


class ChatChunk(TypedDict):
    """The data of an event; where usage is asked for, all chunks but the last have it as null."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    system_fingerprint: str | None
    choices: list[ChunkChoice]
    usage: NotRequired[UsageObject | None]
    timings: NotRequired[TimingsObject]
    prompt_progress: NotRequired[ProgressObject]


@dataclass(frozen=True, slots=True)
class CallFormat:
    """How the calls of one reply are written."""

    functions: bool = False
    """In the older shape, which has at most one call."""

    def message(self, text: str, calls: Sequence[ToolCall], reasoning: str = "") -> AssistantMessage:
        """Return the message of an answer with ``text`` and ``calls``, and the ``reasoning`` before them."""
        message: AssistantMessage = {"role": "assistant", "content": text, "refusal": None}
        if reasoning:
            message["reasoning_content"] = reasoning
        if not calls:
            return message
        message["content"] = text or None
        if self.functions:
            message["function_call"] = {"name": calls[0].name, "arguments": calls[0].arguments}
        else:
            message["tool_calls"] = [_tool_call(call) for call in calls]
        return message

    def delta(self, delta: CallDelta) -> ChunkDelta:
        """Return the part of a call that a chunk carries."""
        function: FunctionDelta = {"arguments": delta.arguments}
        if delta.name:
            function = {"name": delta.name, "arguments": delta.arguments}
        if self.functions:
            return {"function_call": function}
        if not delta.name:
            return {"tool_calls": [{"index": delta.index, "function": function}]}
        return {"tool_calls": [{"index": delta.index, "id": delta.id, "type": "function", "function": function}]}

    def finish_reason(self, reason: FinishReason, *, called: bool) -> Finish:
        """Return why an answer ended; one that was cut off in a call asks for no call."""
        if called and reason is FinishReason.STOP:
            return "function_call" if self.functions else "tool_calls"
        return FINISH_REASONS[reason]


def _tool_call(call: ToolCall) -> ToolCallObject:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


_TOOL_CALLS = CallFormat()


def chat_completion(
    head: ReplyHead, completion: Completion, calls: CallFormat = _TOOL_CALLS, *, timings: bool = False
) -> ChatCompletion:
    """Return the whole reply to a request that does not stream; its calls are written as ``calls`` says."""
    reply: ChatCompletion = {
        "id": head.id,
        "object": "chat.completion",
        "created": head.created,
        "model": head.model,
        "system_fingerprint": head.fingerprint_of(disturbed=completion.usage.disturbed),
        "choices": [_choice(index, answer, calls) for index, answer in enumerate(completion.answers)],
        "usage": usage_object(completion.usage),
    }
    if timings:
        reply["timings"] = timings_object(completion.usage, completion.timings)
    return reply


def _choice(index: int, answer: Answer, calls: CallFormat) -> ChatChoice:
    return {
        "index": index,
        "message": calls.message(answer.text, answer.calls, answer.reasoning),
        "logprobs": logprobs_object(answer.tokens),
        "finish_reason": calls.finish_reason(answer.finish_reason, called=bool(answer.calls)),
    }


class ChunkWriter:
    """Makes the chunks of one stream.

    Where usage is asked for, every chunk has the field, null but in the last; where not, none has it, as some
    clients fail on it.
    """

    def __init__(
        self, head: ReplyHead, *, include_usage: bool, timings: bool = False, calls: CallFormat = _TOOL_CALLS
    ) -> None:
        """All chunks share ``head``; calls are written as ``calls`` says."""
        self._head = head
        self._calls = calls
        self._called: set[int] = set()
        self._disturbed = False
        self._timings = timings
        self._include_usage = include_usage

    def role(self, index: int) -> ChatChunk:
        """Return the chunk that opens answer ``index``."""
        return self._chunk([_delta(index, {"role": "assistant", "content": ""})])

    def delta(self, delta: TextDelta) -> list[ChatChunk]:
        """Return the chunks of one delta: its reasoning, text, each piece of a call, and the end, if it has them."""
        chunks = []
        self._disturbed |= delta.disturbed
        if delta.reasoning:
            chunks.append(self._chunk([_delta(delta.index, {"reasoning_content": delta.reasoning})]))
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

    def progress(self, progress: PromptProgress) -> ChatChunk:
        """Return a chunk without choices, with how far the request is."""
        chunk = self._chunk([])
        chunk["prompt_progress"] = progress_object(progress)
        return chunk

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
            "system_fingerprint": self._head.fingerprint_of(disturbed=self._disturbed),
            "choices": choices,
        }
        return {**chunk, "usage": None} if self._include_usage else chunk


def _delta(index: int, delta: ChunkDelta, finish_reason: Finish | None = None) -> ChunkChoice:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def chat_stream(generation: Generation, writer: ChunkWriter, n: int, *, reports: bool = False) -> EventStream:
    """Return ``generation``, which has ``n`` answers, as a stream that owns it; progress as ``reports`` or comments."""
    return EventStream(generation, _events(generation, writer, n, reports=reports), failure)


def failure(reply: ErrorReply) -> tuple[Event, ...]:
    """Return the last events of a chunk stream that failed."""
    return Event(reply.envelope()), DONE


async def _events(
    generation: Generation, writer: ChunkWriter, n: int, *, reports: bool
) -> AsyncGenerator[Event | Comment, None]:
    for index in range(n):
        yield Event(writer.role(index))
    async for delta in generation:
        if delta.progress is not None:
            yield Event(writer.progress(delta.progress)) if reports else progress_comment(delta.progress)
            continue
        for chunk in writer.delta(delta):
            yield Event(chunk)
    for chunk in writer.end(generation.usage, generation.timings):
        yield Event(chunk)
    yield DONE
