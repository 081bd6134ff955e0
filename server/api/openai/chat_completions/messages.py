"""The messages of a chat request as every prompt format takes them."""

from collections.abc import Sequence

from glmserve.api.openai.chat_completions.protocol import ChatMessage
from glmserve.chat.prompts.messages import Message, PromptError, Role
from glmserve.chat.tools.types import ToolCall

_ROLES = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "tool": Role.TOOL,
    "function": Role.TOOL,
}


def to_messages(messages: Sequence[ChatMessage]) -> tuple[Message, ...]:
    """Return the messages; the older calls of functions, which have no ids, get some.

    Raises:
        PromptError: a function's message is the result of no call.
    """
    functions: dict[str, str] = {}
    translated = []
    for index, message in enumerate(messages):
        calls = [ToolCall(call.id, call.function.name, call.function.arguments) for call in message.tool_calls or ()]
        if message.function_call is not None:
            functions[message.function_call.name] = f"function_call_{index}"
            called = message.function_call
            calls.append(ToolCall(functions[called.name], called.name, called.arguments))
        call_id = message.tool_call_id if message.role == "tool" else ""
        if message.role == "function":
            call_id = functions.get(message.name or "")
            if call_id is None:
                raise PromptError(f"messages[{index}].name: no message before it calls a function of that name")
        content = message.content or message.refusal or ""
        translated.append(Message(_ROLES[message.role], content, tuple(calls), call_id or ""))
    return tuple(translated)
