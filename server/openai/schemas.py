"""The body of a chat request as it comes over the wire. Checked here, then translated once and forgotten."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from server.errors import InvalidRequest
from server.openai.chat_fields import CHAT, check_chat_fields
from server.openai.checked import TextContent, Wire, invalid, parse
from server.openai.sampling import SamplingFields, StreamOptions


def _role(value: object) -> object:
    if value in ("tool", "function"):
        raise invalid(f"{value} messages are not supported by this server")
    return value


class ChatMessage(Wire):
    """One message; fields that only label it are left out."""

    role: Annotated[Literal["system", "developer", "user", "assistant"], BeforeValidator(_role)]
    content: TextContent = ""


class ChatRequest(SamplingFields):
    """The fields that are honoured; ``chat_fields.py`` says what becomes of all others."""

    model_config = ConfigDict(json_schema_extra=CHAT.complete)

    model: str | None = None
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    n: Annotated[int, Field(ge=1)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None


def parse_chat_request(body: Mapping[str, object]) -> ChatRequest:
    """Return the body as a checked request.

    Raises:
        InvalidRequest: a field is refused or has a wrong value; ``param`` is its path.
    """
    check_chat_fields(body)
    request = parse(ChatRequest, body)
    _check_contents(body)
    return request


def _check_contents(body: Mapping[str, object]) -> None:
    """Refuse a question without its content: null is empty on purpose, but an absent key is a mistake."""
    messages = body["messages"]
    for index, message in enumerate(messages if isinstance(messages, list) else []):
        if message["role"] != "assistant" and "content" not in message:
            path = f"messages[{index}].content"
            raise InvalidRequest(f"{path} is required", param=path, code="missing_required_parameter")
