"""Tools in plain words, for families that were never trained for them (ChatGLM2, Baichuan).

A call is two lines, at the beginning of the answer or of a line of it:

    调用工具：get_weather
    参数：{"city": "北京"}
"""

import json
import re
from collections.abc import Sequence

from glmserve.chat.tools.schema import embedded
from glmserve.chat.tools.types import AnswerPiece, CallDelta, NewId, Tool, ToolCall, ToolChoice, ToolConfig
from glmserve.engine.params import WHITE_SPACE, Grammar, GrammarKind


class JsonEnd:
    """Follows one JSON object or array, character by character, to the bracket that closes it."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self.found = False
        """Whether the value is complete."""

    def feed(self, text: str) -> int:
        """Return how many characters of ``text`` still belong to the value."""
        for position, character in enumerate(text):
            if self._ends_with(character):
                self.found = True
                return position + 1
        return len(text)

    def _ends_with(self, character: str) -> bool:
        if self._in_string:
            self._in_string = self._escaped or character != '"'
            self._escaped = character == "\\" and not self._escaped
            return False
        if character == '"':
            self._in_string = True
        elif character in "{[":
            self._depth += 1
        elif character in "}]":
            self._depth -= 1
            return self._depth <= 0
        return False


_FREE = r"/(.|\n)*/"
_REGEX_PARTS = re.compile(r"\\.|[/\n]", re.DOTALL)
_IN_LITERAL = {"/": r"\/", "\n": r"\n", "\\\n": r"\n"}


def text_rule(asked: Grammar | None) -> str:
    """Return the rule ``text`` for the format that was ``asked`` for; None allows any text."""
    if asked is None:
        return f"text: {_FREE}\n"
    return f"text: {_SIDES[asked.kind](asked.source)}\n"


def _schema(source: str) -> str:
    schema = json.loads(source)
    if isinstance(schema, dict):
        # Without tools a schema has this white space, too.
        schema = {**schema, "x-guidance": {"whitespace_pattern": WHITE_SPACE}}
    return f"%json {json.dumps(schema, ensure_ascii=False)}"


def _regex(source: str) -> str:
    escaped = _REGEX_PARTS.sub(lambda found: _IN_LITERAL.get(found[0], found[0]), source)
    # Two slashes would begin a comment.
    return f"/{escaped}/" if escaped else '""'


def _lark(source: str) -> str:
    return f"%lark {{\n{source}\n}}"


_SIDES = {GrammarKind.JSON_SCHEMA: _schema, GrammarKind.REGEX: _regex, GrammarKind.LARK: _lark}


_CALL = "调用工具："
_ARGUMENTS = "\n参数："
_LARK_ARGUMENTS = "\\n参数："
# From the mark on, at the beginning of a line, an answer is a call and nothing else.
_FIRST = rf"first[lazy]: /((.|\n)*\n)? ?{_CALL}/"
_ALONE = f"first: / ?{_CALL}/"

_EXPLANATION = """\
你可以使用下面的工具：

{tools}

需要使用工具时，只写下面两行，第一行是工具的名称，第二行是 JSON 格式的参数：
调用工具：工具名称
参数：{{"参数名称": "参数的值"}}
看到工具的结果以后，再根据结果回答问题。不需要工具时，直接回答问题。"""


class TextCallFormat:
    """The format as prompt text and as a grammar; prompt, grammar and parser use the same marks."""

    def describe(self, tools: Sequence[Tool], system: str) -> str:
        """Return ``system`` and the description of ``tools``; see ``ToolCallFormat``."""
        told = _EXPLANATION.format(tools="\n\n".join(map(_description, tools)))
        return f"{system}\n\n{told}" if system else told

    def calls(self, text: str, calls: Sequence[ToolCall]) -> str:
        """Return an earlier answer of ``text`` and ``calls`` as the model would have written it."""
        lines = [f"{_CALL}{call.name}{_ARGUMENTS}{call.arguments or '{}'}" for call in calls]
        return "\n".join([text, *lines] if text else lines)

    def result(self, name: str, content: str) -> str:
        """Return the result of tool ``name`` as a message to the model."""
        return f"工具 {name} 的结果：\n{content}"

    def grammar(self, config: ToolConfig) -> Grammar:
        """Return the grammar; see ``ToolCallFormat``."""
        more = f' ("\\n{_CALL}" call){{0,{config.max_calls - 1}}}' if config.max_calls > 1 else ""
        if config.choice is ToolChoice.REQUIRED:
            start = f"first call{more}\n{_ALONE}\n"
        else:
            first = _FIRST if config.text_format is None else _ALONE
            start = f"text | first call{more}\n{text_rule(config.text_format)}{first}\n"
        calls = [f'"{tool.name}{_LARK_ARGUMENTS}" %json {embedded(tool.schema)}' for tool in config.callable]
        return Grammar(GrammarKind.LARK, f"start: {start}call: {' | '.join(calls)}")

    def parser(self, config: ToolConfig, new_id: NewId) -> "TextFormParser":
        """Return a parser for one answer; see ``ToolCallFormat``."""
        return TextFormParser(config, new_id)


def _description(tool: Tool) -> str:
    told = f"{tool.name}：{tool.description}" if tool.description else tool.name
    return f"{told}\n参数的格式：{json.dumps(dict(tool.parameters), ensure_ascii=False)}"


def _any_start_of(atoms: Sequence[str]) -> str:
    """Return a regular expression for any strict prefix of ``atoms``."""
    pattern = ""
    for atom in reversed(atoms):
        pattern = f"(?:{atom}{pattern})?"
    return pattern


_PERHAPS_HEAD = re.compile(r"\s*(?:\n ?" + _any_start_of([*_CALL, "[a-zA-Z0-9_-]{1,128}", *_ARGUMENTS]) + r")?\Z")


class TextFormParser:
    """Finds the calls in an answer. Blanks around them belong to neither text nor calls."""

    def __init__(self, config: ToolConfig, new_id: NewId) -> None:
        """Start before the answer; ``new_id`` names its calls."""
        names = "|".join(tool.name for tool in config.callable)
        head = re.compile(rf"\s*\n ?{_CALL}({names}){_ARGUMENTS}(?={{)")
        self._is_exclusive = config.text_format is not None
        """A text in a format has no calls."""
        self._find_head = head.match if self._is_exclusive else head.search
        self._new_id = new_id
        # An answer begins with the beginning of a line.
        self._buffer = "\n"
        self._nothing_yet = True
        self._calls = 0
        self._arguments: JsonEnd | None = None

    def feed(self, text: str) -> AnswerPiece:
        """Return the certain part of the answer; see ``AnswerParser``."""
        self._buffer += text
        texts: list[str] = []
        calls: list[CallDelta] = []
        while self._buffer:
            if self._arguments is not None:
                calls.append(self._take_arguments(self._arguments))
                continue
            head = self._find_head(self._buffer) if self._may_call else None
            if head is None:
                texts.append(self._take_text(self._certain()))
                break
            texts.append(self._take_text(head.start()))
            self._buffer = self._buffer[head.end() - head.start() :]
            self._nothing_yet = False
            calls.append(CallDelta(self._calls, id=self._new_id(), name=head.group(1)))
            self._arguments = JsonEnd()
        return AnswerPiece("".join(texts), tuple(delta for delta in calls if delta.name or delta.arguments))

    def finish(self) -> AnswerPiece:
        """Return the buffered text; see ``AnswerParser``."""
        if self._arguments is not None or (self._calls and not self._buffer.strip()):
            return AnswerPiece()
        return AnswerPiece(self._take_text(len(self._buffer)))

    @property
    def _may_call(self) -> bool:
        return self._nothing_yet or self._calls > 0 or not self._is_exclusive

    def _certain(self) -> int:
        """Return how many of the buffered characters cannot become part of a call any more."""
        buffered = _PERHAPS_HEAD.search(self._buffer) if self._may_call else None
        if buffered is None or (self._is_exclusive and buffered.start()):
            return len(self._buffer)
        return buffered.start()

    def _take_text(self, size: int) -> str:
        """Take ``size`` characters off the buffered text, without the newline that was added before it."""
        text, self._buffer = self._buffer[:size], self._buffer[size:]
        if text and self._nothing_yet:
            self._nothing_yet = False
            return text[1:]
        return text

    def _take_arguments(self, arguments: JsonEnd) -> CallDelta:
        size = arguments.feed(self._buffer)
        delta = CallDelta(self._calls, self._buffer[:size])
        self._buffer = self._buffer[size:]
        if arguments.found:
            self._arguments = None
            self._calls += 1
        return delta
