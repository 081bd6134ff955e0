"""Tools in a request and calls in an answer, independent of dialect and family; the interface of a family's format."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Protocol

from glmserve.chat.tools.schema import MAX_CHARACTERS, MAX_DEPTH, depth_exceeds, values_exceed
from glmserve.chat.tools.schema_relaxation import relaxed
from glmserve.engine.params import Grammar

MAX_TOOLS = 128
"""OpenAI's own bound."""
NAME_PATTERN = r"^[a-zA-Z0-9_-]{1,128}$"
MAX_CALLS = 8
"""Maximum number of calls in one answer, for models that never stop calling."""


class ToolError(ValueError):
    """A tool is not acceptable; the message has its name and the reason."""


class StrictToolError(ToolError):
    """A tool is strict, and the grammar cannot enforce all of its schema."""


NO_PARAMETERS: Mapping[str, object] = MappingProxyType(
    {"type": "object", "properties": {}, "additionalProperties": False}
)


@dataclass(frozen=True, slots=True)
class Tool:
    """A function of the caller's that the model may ask for."""

    name: str
    description: str = ""
    parameters: Mapping[str, object] = field(default_factory=lambda: NO_PARAMETERS)
    """The JSON schema of its arguments, which are an object."""
    enforced: Mapping[str, object] | None = None
    """The schema that a grammar enforces on its calls, where that is not ``parameters`` itself."""
    strict: bool = False
    """Whether calls have to fit ``parameters``, so that nothing of it may be left out."""

    @property
    def schema(self) -> Mapping[str, object]:
        """The schema that a grammar enforces on its calls."""
        return self.parameters if self.enforced is None else self.enforced

    @property
    def characters(self) -> int:
        """How much text a prompt has of it, at least."""
        return len(self.name) + len(json.dumps(self.definition(), ensure_ascii=False))

    def definition(self) -> dict[str, object]:
        """Return the tool as ChatGLM3's and GLM-4's authors put it into prompts."""
        return {"name": self.name, "description": self.description, "parameters": dict(self.parameters)}


class ToolChoice(str, Enum):
    """Whether the model calls."""

    AUTO = "auto"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class ToolConfig:
    """The tools of one request. A request whose model may not call has none."""

    tools: tuple[Tool, ...]
    """All tools that the prompt describes; names are unique."""
    choice: ToolChoice = ToolChoice.AUTO
    parallel: bool = True
    """Whether one answer may have several calls."""
    allowed: frozenset[str] | None = None
    """The names that may be called; None allows all of them."""
    text_format: Grammar | None = None
    """Grammar of an answer without a tool call; None allows any text, also before calls."""

    @property
    def callable(self) -> tuple[Tool, ...]:
        """The tools that may be called."""
        return tuple(tool for tool in self.tools if self.allowed is None or tool.name in self.allowed)

    @property
    def max_calls(self) -> int:
        """How many calls one answer may have."""
        return MAX_CALLS if self.parallel else 1


def check_total_size(schemas: Sequence[Mapping[str, object] | None]) -> None:
    """Reject schemas that are together too large for one grammar, before any more work is done on them.

    Raises:
        ToolError: they are.
    """
    left = MAX_CHARACTERS
    for schema in schemas:
        if schema is None or depth_exceeds(schema, MAX_DEPTH):
            continue  # make_tool says so, with the tool's name
        size = len(json.dumps(schema, ensure_ascii=False))
        left -= size if size <= MAX_CHARACTERS else 0
        if left < 0:
            raise ToolError(f"the parameters of all tools have more than {MAX_CHARACTERS} characters as JSON")


def make_tool(
    name: str, description: str = "", parameters: Mapping[str, object] | None = None, *, strict: bool = False
) -> tuple[Tool, tuple[str, ...]]:
    """Return a tool that is within bounds, and the parts of its parameters that no grammar can enforce.

    Args:
        name: of the function.
        description: told to the model.
        parameters: the JSON schema of its arguments; without one it takes none.
        strict: whether calls have to fit all of that.

    Raises:
        ToolError: it is not within bounds, or its parameters are not the schema of an object.
        StrictToolError: it is strict and something cannot be enforced.
    """
    if not re.fullmatch(NAME_PATTERN, name):
        raise ToolError(f"the tool name {name[:100]!r} must be 1 to 128 of the characters a-z, A-Z, 0-9, _ and -")
    if not parameters:
        return Tool(name, description), ()
    # The depth first: the encoder would run out of stack.
    if depth_exceeds(parameters, MAX_DEPTH):
        raise ToolError(f"the parameters of the tool {name} are nested more than {MAX_DEPTH} deep")
    if values_exceed(parameters, MAX_CHARACTERS) or len(json.dumps(parameters, ensure_ascii=False)) > MAX_CHARACTERS:
        raise ToolError(f"the parameters of the tool {name} have more than {MAX_CHARACTERS} characters as JSON")
    found = relaxed(parameters)
    kinds = found.schema.get("type", "object")
    if kinds != "object" and not (isinstance(kinds, list) and "object" in kinds):
        raise ToolError(f"the parameters of the tool {name} must be a schema of the type object")
    if strict and found.left_out:
        raise StrictToolError(
            f"the tool {name} is strict, but the grammar cannot enforce {found.left_out[0]} of its parameters; "
            "write them without it, or leave out strict"
        )
    enforced = {**found.schema, "type": "object"}
    return Tool(name, description, {"type": "object", **parameters}, enforced, strict), found.left_out


def make_tool_config(
    tools: Sequence[Tool],
    choice: ToolChoice = ToolChoice.AUTO,
    allowed: frozenset[str] | None = None,
    *,
    parallel: bool = True,
) -> ToolConfig:
    """Return a tool configuration that is within bounds; see ``ToolConfig``.

    Raises:
        ToolError: there are too many tools, or two of one name.
    """
    if len(tools) > MAX_TOOLS:
        raise ToolError(f"there may be at most {MAX_TOOLS} tools, not {len(tools)}")
    names: set[str] = set()
    for tool in tools:
        if tool.name in names:
            raise ToolError(f"two tools are called {tool.name}")
        names.add(tool.name)
    return ToolConfig(tuple(tools), choice, parallel, allowed)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that a model made."""

    id: str
    name: str
    arguments: str
    """JSON text of an object; anything else if an answer was truncated, or a client sent it."""

    def parsed(self) -> dict[str, object] | None:
        """Return the arguments, or None where they are no JSON object. No text at all means none of them."""
        try:
            value: object = json.loads(self.arguments or "{}")
        except (ValueError, RecursionError):
            return None
        return value if isinstance(value, dict) else None


@dataclass(frozen=True, slots=True)
class CallDelta:
    """A piece of call ``index`` of an answer. The first piece of a call has its id and name, and no arguments."""

    index: int
    arguments: str = ""
    id: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class AnswerPiece:
    """A parsed piece of an answer: text, and after it pieces of calls."""

    text: str = ""
    calls: tuple[CallDelta, ...] = ()

    def __add__(self, later: "AnswerPiece") -> "AnswerPiece":
        """Return both pieces as one."""
        return AnswerPiece(self.text + later.text, self.calls + later.calls)


def gather_calls(deltas: Sequence[CallDelta]) -> tuple[ToolCall, ...]:
    """Return the calls that the pieces of one answer come to."""
    starts = [delta for delta in deltas if delta.name]
    arguments = ["".join(delta.arguments for delta in deltas if delta.index == start.index) for start in starts]
    return tuple(ToolCall(start.id, start.name, text) for start, text in zip(starts, arguments, strict=True))


NewId = Callable[[], str]


class AnswerParser(Protocol):
    """Text of one answer in, text and calls out, however it is cut."""

    def feed(self, text: str) -> AnswerPiece:
        """Return the certain part of the answer; text that may still become a call is buffered."""

    def finish(self) -> AnswerPiece:
        """Return the buffered text: the answer has ended."""


class CallFormat(Protocol):
    """How a model calls tools."""

    def grammar(self, config: ToolConfig) -> Grammar:
        """Return a grammar in which every call is valid for its tool."""

    def parser(self, config: ToolConfig, new_id: NewId) -> AnswerParser:
        """Return a parser for one answer; ``new_id`` names its calls."""


class ToolCallFormat(CallFormat, Protocol):
    """How a family's prompt lists tools, and how it calls them."""

    def describe(self, tools: Sequence[Tool], system: str) -> str:
        """Return the system message that tells the model of ``tools``, with the caller's ``system`` text in it."""


class NamedCallFormat(ToolCallFormat, Protocol):
    """The format of a family that names the tool in the metadata line before a message."""

    def body(self, call: ToolCall) -> str:
        """Return the text below that line, the arguments, as the model would have written it."""
