"""Tool calls between marks, as chat templates have them: the arguments as JSON, or each one between marks of its own.

<tool_call>
{"name": "get_weather", "arguments": {"city": "北京"}}
</tool_call>

<tool_call>get_weather
<arg_key>city</arg_key>
<arg_value>北京</arg_value>
</tool_call>
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from glmserve.chat.tools.marked_parser import Body, MarkedParser
from glmserve.chat.tools.plain_text import JsonEnd, text_rule
from glmserve.chat.tools.schema import embedded
from glmserve.chat.tools.types import NewId, Tool, ToolChoice, ToolConfig, ToolError
from glmserve.engine.params import Grammar, GrammarKind

_BLANKS = r"[ \n]{0,4}"
"""In front of a call that has to come: without a bound, a weak model may write nothing else."""


@dataclass(frozen=True, slots=True)
class CallFrame:
    """The text around each call."""

    start: str
    """In front of the tool's name."""
    end: str
    """After the arguments."""
    separator: str | None = None
    """Between two calls; None where an answer has one."""

    @property
    def is_mark(self) -> bool:
        """Whether no text looks like ``start``, so that a call may come after text."""
        return self.start[:1] in "<["

    def grammar(self, config: ToolConfig, calls: Mapping[str, str], rules: str) -> Grammar:
        """Return the grammar of an answer; ``calls`` are expressions for the text after each name, up to the end.

        Raises:
            ToolError: its calls could not be told from its texts.
        """
        asked = config.text_format
        if not self.is_mark and asked and asked.kind is GrammarKind.JSON_SCHEMA and config.choice is ToolChoice.AUTO:
            raise ToolError(
                "this model's calls are JSON, which cannot be told from an answer in JSON; leave out the tools or the "
                "format, or set tool_choice to required"
            )
        most = 1 if self.separator is None else config.max_calls
        more = f" ({_quoted(f'{self.separator}{self.start}')} call){{0,{most - 1}}}" if most > 1 else ""
        before = r"((.|\n)*)" if self.is_mark and config.text_format is None else _BLANKS
        if config.choice is ToolChoice.REQUIRED:
            before = _BLANKS
            start = f"start: first call{more}\n"
        else:
            start = f"start: text | first call{more}\n{text_rule(config.text_format)}"
        first = f"first[lazy]: /{before}{_in_regex(self.start)}/\n"
        named = " | ".join(f"{_quoted(name)} {call}" for name, call in calls.items())
        return Grammar(GrammarKind.LARK, f"{start}{first}call: ({named}) {_quoted(self.end)}\n{rules}")

    def parser(self, config: ToolConfig, new_id: NewId, after: str, body: Callable[[Tool], Body]) -> MarkedParser:
        """Return a parser; ``after`` is the text that always follows the name, and ``body`` reads the rest."""
        alone = not self.is_mark or config.text_format is not None
        return MarkedParser(config, new_id, (self.start.lstrip(), after), body, only_first=alone)


@dataclass(frozen=True, slots=True)
class JsonCalls:
    """Calls whose arguments are one JSON object; see ``CallFormat``."""

    frame: CallFrame
    between: str
    """Between the name and the arguments."""

    def grammar(self, config: ToolConfig) -> Grammar:
        """Return the grammar; see ``CallFormat``."""
        calls = {tool.name: f"{_quoted(self.between)} %json {embedded(tool.schema)}" for tool in config.callable}
        return self.frame.grammar(config, calls, "")

    def parser(self, config: ToolConfig, new_id: NewId) -> MarkedParser:
        """Return a parser for one answer; see ``CallFormat``."""
        return self.frame.parser(config, new_id, self.between, lambda _: _MarkedJsonBody(self.frame.end))


@dataclass(frozen=True, slots=True)
class TaggedCalls:
    """Calls whose arguments stand one after the other, strings as they are and the rest as JSON."""

    frame: CallFrame
    key: str
    """In front of the name of an argument."""
    value: str
    """Between the name of an argument and its value."""
    close: str
    """After the value."""

    def grammar(self, config: ToolConfig) -> Grammar:
        """Return the grammar; see ``CallFormat``."""
        calls: dict[str, str] = {}
        rules = f"raw[lazy]: /(.|\\n)*{_in_regex(self.close)}/\n"
        for index, tool in enumerate(config.callable):
            calls[tool.name] = f"arguments_{index}"
            rules += f"arguments_{index}: {' '.join(self._argument(tool, name) for name in _properties(tool))}\n"
        return self.frame.grammar(config, calls, rules)

    def _argument(self, tool: Tool, name: str) -> str:
        schema = _properties(tool)[name]
        if not _is_raw(schema):
            shared = {key: tool.schema[key] for key in ("$defs", "definitions") if key in tool.schema}
            value = f"%json {embedded({**schema, **shared})} {_quoted(self.close)}"
        elif options := _options(schema):
            value = f"({' | '.join(map(_quoted, options))}) {_quoted(self.close)}"
        else:
            value = "raw"
        written = f"{_quoted(f'{self.key}{name}{self.value}')} {value}"
        required = tool.schema.get("required")
        return f"({written})" if isinstance(required, list) and name in required else f"({written})?"

    def parser(self, config: ToolConfig, new_id: NewId) -> MarkedParser:
        """Return a parser for one answer; see ``CallFormat``."""
        return self.frame.parser(config, new_id, "", lambda tool: _TaggedBody(self, tool))


class _MarkedJsonBody:
    """The arguments as they come, and then the end mark."""

    def __init__(self, end: str) -> None:
        self._json = JsonEnd()
        self._end = _EndMark(end)
        self._has_begun = False

    @property
    def is_done(self) -> bool:
        return self._json.found and self._end.is_done

    def feed(self, text: str) -> tuple[int, str]:
        size = 0 if self._json.found else self._json.feed(text)
        taken = self._end.feed(text[size:]) if self._json.found else 0
        arguments = text[:size] if self._has_begun else text[:size].lstrip()
        self._has_begun = self._has_begun or bool(arguments)
        return size + taken, arguments


class _TaggedBody:
    """Arguments between marks, given out as JSON once each is complete."""

    def __init__(self, form: TaggedCalls, tool: Tool) -> None:
        self._form, self._properties = form, _properties(tool)
        key, value, close = map(re.escape, (form.key.lstrip(), form.value, form.close))
        self._argument = re.compile(rf"\s*{key}(.+?){value}(.*?){close}", re.DOTALL)
        self._end = re.compile(r"\s*" + re.escape(form.frame.end.strip()))
        self._buffer = ""
        self._count = 0
        self.is_done = False

    def feed(self, text: str) -> tuple[int, str]:
        buffered = len(self._buffer)
        self._buffer += text
        pieces: list[str] = []
        while not self.is_done:
            if end := self._end.match(self._buffer):
                pieces.append("}" if self._count else "{}")
                self.is_done = True
                return end.end() - buffered, "".join(pieces)
            if not (found := self._argument.match(self._buffer)):
                break
            name = json.dumps(found[1], ensure_ascii=False)
            pieces.append(f"{', ' if self._count else '{'}{name}: {self._json(found)}")
            self._count += 1
            self._buffer = self._buffer[found.end() :]
            buffered -= found.end()
        return len(text), "".join(pieces)

    def _json(self, found: "re.Match[str]") -> str:
        name, value = found[1], found[2]
        if not _is_raw(self._properties.get(name, {})):
            try:
                json.loads(value)
            except ValueError:
                pass
            else:
                return value.strip()
        return json.dumps(value, ensure_ascii=False)


class _EndMark:
    """A mark that is taken off the text, with blanks wherever they stand."""

    def __init__(self, mark: str) -> None:
        self._left = "".join(mark.split())

    @property
    def is_done(self) -> bool:
        return not self._left

    def feed(self, text: str) -> int:
        """Return how many characters of ``text`` belong to it."""
        for position, character in enumerate(text):
            if not self._left or (not character.isspace() and character != self._left[0]):
                self._left = ""
                return position
            self._left = self._left if character.isspace() else self._left[1:]
        return len(text)


def _properties(tool: Tool) -> Mapping[str, Mapping[str, object]]:
    found = tool.schema.get("properties")
    named = found.items() if isinstance(found, Mapping) else ()
    return {name: schema if isinstance(schema, Mapping) else {} for name, schema in named}


def _is_raw(schema: Mapping[str, object]) -> bool:
    """Tell whether a value is written as it is: a string, and no rule says which, as a grammar could not hold it."""
    return schema.get("type") == "string" and schema.keys() <= _FREE_STRING


def _options(schema: Mapping[str, object]) -> list[str]:
    options = schema.get("enum")
    return [option for option in options if isinstance(option, str)] if isinstance(options, list) else []


_FREE_STRING = frozenset({"type", "title", "description", "default", "examples", "enum"})


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _in_regex(text: str) -> str:
    return re.escape(text).replace("/", r"\/").replace("\\\n", r"\n").replace("\n", r"\n")
