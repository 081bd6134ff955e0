"""Tool calls in replies: as OpenAI has them, or in the older shape of functions where a request is written so."""

from collections.abc import Sequence
from dataclasses import dataclass

from glmserve.api.openai.envelope import FINISH_REASONS
from glmserve.api.openai.response_types import AssistantMessage, ChunkDelta, Finish, FunctionDelta, ToolCallObject
from glmserve.chat.tools.types import CallDelta, ToolCall
from glmserve.engine.messages import FinishReason


@dataclass(frozen=True, slots=True)
class CallShape:
    """How the calls of one reply are written."""

    functions: bool = False
    """In the older shape, which has at most one call."""

    def message(self, text: str, calls: Sequence[ToolCall]) -> AssistantMessage:
        """Return the message of an answer with ``text`` and ``calls``."""
        message: AssistantMessage = {"role": "assistant", "content": text, "refusal": None}
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
