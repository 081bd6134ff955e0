"""The body of a chat request as it comes over the wire. Checked here, then translated once and forgotten."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from server.errors import InvalidRequest, shown
from server.openai.fields import check_fields

_MAX_STOPS = 16
_MAX_STOP_CHARACTERS = 1000
_TEXT_PARTS = ("text", "input_text")


def _invalid(message: str) -> PydanticCustomError:
    # The message is a value and not the template, so that braces in it stay braces.
    return PydanticCustomError("invalid", "{message}", {"message": message})


def _content(value: object) -> str:
    """Return the text of a message's content: a string, parts of text joined by line breaks, or null."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(_part(part, index) for index, part in enumerate(value))
    raise _invalid("must be a string, a list of text parts, or null")


def _part(part: object, index: int) -> str:
    if not isinstance(part, dict):
        raise _invalid(f"part {index} must be an object with type and text")
    if part.get("type") not in _TEXT_PARTS:
        raise _invalid(f"part {index} has the type {shown(part.get('type'))}; only text parts are supported")
    if not isinstance(part.get("text"), str):
        raise _invalid(f"part {index} must have its text as a string")
    return str(part["text"])


def _role(value: object) -> object:
    if value in ("tool", "function"):
        raise _invalid(f"{value} messages are not supported by this server")
    return value


def _stops(value: object) -> tuple[str, ...]:
    stops = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise _invalid("must be a string or a list of strings")
    if len(stops) > _MAX_STOPS:
        raise _invalid(f"may have at most {_MAX_STOPS} strings, not {len(stops)}")
    if any(len(stop) > _MAX_STOP_CHARACTERS for stop in stops):
        raise _invalid(f"may have at most {_MAX_STOP_CHARACTERS} characters in a string")
    # The empty string would end every answer before it starts, which nobody who sends one means.
    return tuple(stop for stop in stops if stop)


class _Wire(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", allow_inf_nan=False)


class ChatMessage(_Wire):
    """One message; fields that only label it are left out."""

    role: Annotated[Literal["system", "developer", "user", "assistant"], BeforeValidator(_role)]
    content: Annotated[str, BeforeValidator(_content)] = ""


class StreamOptions(_Wire):
    """How a stream is framed."""

    include_usage: bool | None = None


class ChatRequest(_Wire):
    """The fields that are honoured; ``fields.py`` says what becomes of all others."""

    model: str | None = None
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, lt=2**31)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=2)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    min_tokens: Annotated[int, Field(ge=0)] | None = None
    ignore_eos: bool | None = None
    stop: Annotated[tuple[str, ...], BeforeValidator(_stops)] = ()
    seed: int | None = None
    n: Annotated[int, Field(ge=1)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None


def parse_chat_request(body: Mapping[str, object]) -> ChatRequest:
    """Return the body as a checked request.

    Raises:
        InvalidRequest: a field is refused or has a wrong value; ``param`` is its path.
    """
    check_fields(body)
    try:
        request = ChatRequest.model_validate(body)
    except ValidationError as error:
        raise _explain(error.errors(include_url=False)[0]) from None
    _check_contents(body)
    return request


def _check_contents(body: Mapping[str, object]) -> None:
    """Refuse a question without its content: null is empty on purpose, but an absent key is a mistake."""
    messages = body["messages"]
    for index, message in enumerate(messages if isinstance(messages, list) else []):
        if message["role"] != "assistant" and "content" not in message:
            path = f"messages[{index}].content"
            raise InvalidRequest(f"{path} is required", param=path, code="missing_required_parameter")


def _explain(detail: ErrorDetails) -> InvalidRequest:
    path = _path(detail["loc"])
    if detail["type"] == "missing":
        return InvalidRequest(f"{path} is required", param=path, code="missing_required_parameter")
    message = detail["msg"]
    if detail["type"] == "too_short":
        message = "must not be empty"
    text = message.replace("Input should be", "must be", 1) if message.startswith("Input") else message
    return InvalidRequest(f"{path}: {text}", param=path)


def _path(location: tuple[int | str, ...]) -> str:
    """Return a location as a caller would write it, such as ``messages[0].content``."""
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in location]
    return "".join(parts).removeprefix(".")
