"""Formats of families whose answers begin with a line of metadata: empty before text, a tool's name before a call.

ChatGLM3 calls a tool with a line of Python, GLM-4 with JSON.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from glmserve.chat.tools.plain_text import JsonEnd, text_rule
from glmserve.chat.tools.python_call import STRING_RULE, PythonArguments, call_rules, written
from glmserve.chat.tools.schema import embedded
from glmserve.chat.tools.types import AnswerPiece, CallDelta, NewId, Tool, ToolCall, ToolChoice, ToolConfig
from glmserve.engine.params import Grammar, GrammarKind


class BodyReader(Protocol):
    """Reads the text below the name."""

    def feed(self, text: str) -> str:
        """Return the JSON of the arguments as far as ``text`` completes it."""


def named_answer(config: ToolConfig) -> str:
    """Return the beginning of the grammar of such an answer; the rule ``call`` has to follow."""
    if config.choice is ToolChoice.REQUIRED:
        return "start: call\n"
    if config.text_format is None:
        return "start: text | call\ntext: / ?\\n(.|\\n)*/\n"
    # The text may have the tokenizer's space in front.
    return f"start: line text | call\nline: / ?\\n ?/\n{text_rule(config.text_format)}"


class NamedAnswerParser:
    """Tells a call from text by the first line. Such an answer has one call or is text, and not both."""

    def __init__(self, config: ToolConfig, body: BodyReader, new_id: NewId) -> None:
        """Start before the line of metadata."""
        self._names = [tool.name for tool in config.callable]
        self._body = body
        self._new_id = new_id
        self._line = ""
        self._is_text = False
        self._is_call = False

    def feed(self, text: str) -> AnswerPiece:
        """Return the certain part of the answer; see ``AnswerParser``."""
        if self._is_text:
            return AnswerPiece(text)
        if self._is_call:
            return self._arguments(text)
        self._line += text
        line, newline, rest = self._line.lstrip(" ").partition("\n")
        if newline and line in self._names:
            self._is_call = True
            start = CallDelta(0, id=self._new_id(), name=line)
            return AnswerPiece(calls=(start, *self._arguments(rest).calls))
        perhaps = any(name.startswith(line) for name in self._names) and not newline
        if perhaps or not self._line.strip():
            return AnswerPiece()
        self._is_text = True
        return AnswerPiece(self._line.lstrip())

    def finish(self) -> AnswerPiece:
        """Return the buffered text; see ``AnswerParser``."""
        return AnswerPiece() if self._is_call or self._is_text else AnswerPiece(self._line.lstrip())

    def _arguments(self, text: str) -> AnswerPiece:
        arguments = self._body.feed(text)
        return AnswerPiece(calls=(CallDelta(0, arguments),) if arguments else ())


# The sentence that the model was trained with.
_CHATGLM3_PREAMBLE = "Answer the following questions as best as you can. You have access to the following tools:"


class ChatGLM3CallFormat:
    """See ``NamedCallFormat``."""

    def describe(self, tools: Sequence[Tool], system: str) -> str:
        """Return the system message; see ``ToolCallFormat``."""
        definitions = json.dumps([tool.definition() for tool in tools], indent=4, ensure_ascii=False)
        told = f"{_CHATGLM3_PREAMBLE}\n{definitions}"
        return f"{system}\n\n{told}" if system else told

    def body(self, call: ToolCall) -> str:
        """Return the arguments; see ``NamedCallFormat``."""
        arguments = call.parsed()
        code = f"tool_call({call.arguments})" if arguments is None else written(arguments)
        return f"```python\n{code}\n```"

    def grammar(self, config: ToolConfig) -> Grammar:
        """Return the grammar; see ``ToolCallFormat``."""
        named = [f'"{tool.name}\\n" / ?/ "```python\\n" tool_{i} "\\n```"' for i, tool in enumerate(config.callable)]
        rules = [call_rules(f"tool_{i}", tool.schema) for i, tool in enumerate(config.callable)]
        call = f"call: / ?/ ({' | '.join(named)})\n"
        return Grammar(GrammarKind.LARK, named_answer(config) + call + "".join(rules) + STRING_RULE)

    def parser(self, config: ToolConfig, new_id: NewId) -> NamedAnswerParser:
        """Return a parser for one answer; see ``ToolCallFormat``."""
        return NamedAnswerParser(config, PythonArguments(), new_id)


# Both texts are what the model was trained with; its authors' chat template has them.
_WHO = (
    "你是一个名为 ChatGLM 的人工智能助手。你是基于智谱AI训练的语言模型 GLM-4 模型开发的，"
    "你的任务是针对用户的问题和要求提供适当的答复和支持。"
)
_HOW = "在调用上述函数时，请使用 Json 格式表示调用的参数。"


@dataclass(frozen=True, slots=True)
class Glm4CallFormat:
    """See ``NamedCallFormat``."""

    introduction: str = _WHO
    """The text before the tools where the caller has no system text."""

    def describe(self, tools: Sequence[Tool], system: str) -> str:
        """Return the system message; see ``ToolCallFormat``."""
        told = [
            f"## {tool.name}\n\n{json.dumps(tool.definition(), ensure_ascii=False, indent=4)}\n{_HOW}" for tool in tools
        ]
        who = system or self.introduction
        return "\n\n".join((*((who,) if who else ()), "# 可用工具", *told))

    def body(self, call: ToolCall) -> str:
        """Return the arguments; see ``NamedCallFormat``."""
        return call.arguments or "{}"

    def grammar(self, config: ToolConfig) -> Grammar:
        """Return the grammar; see ``ToolCallFormat``."""
        calls = " | ".join(f'"{tool.name}\\n" %json {embedded(tool.schema)}' for tool in config.callable)
        return Grammar(GrammarKind.LARK, named_answer(config) + f"call: / ?/ ({calls})")

    def parser(self, config: ToolConfig, new_id: NewId) -> NamedAnswerParser:
        """Return a parser for one answer; see ``ToolCallFormat``."""
        return NamedAnswerParser(config, _JsonBody(), new_id)


class _JsonBody:
    """JSON as it comes, up to its end."""

    def __init__(self) -> None:
        self._end = JsonEnd()

    def feed(self, text: str) -> str:
        return "" if self._end.found else text[: self._end.feed(text)]
