"""GLM-4's own format: the tools under a heading of the system message, a call as its name and JSON below it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from glmserve.chat.tools.interface import NewId
from glmserve.chat.tools.json_end import JsonEnd
from glmserve.chat.tools.named_answer import NamedAnswerParser, named_answer
from glmserve.chat.tools.schema import embedded
from glmserve.chat.tools.types import Tool, ToolCall, ToolConfig
from glmserve.engine.params import Grammar, GrammarKind

# Both texts are what the model was trained with; its authors' chat template has them.
_WHO = (
    "你是一个名为 ChatGLM 的人工智能助手。你是基于智谱AI训练的语言模型 GLM-4 模型开发的，"
    "你的任务是针对用户的问题和要求提供适当的答复和支持。"
)
_HOW = "在调用上述函数时，请使用 Json 格式表示调用的参数。"


@dataclass(frozen=True, slots=True)
class Glm4Form:
    """See ``NamedForm``."""

    introduction: str = _WHO
    """What stands before the tools where the caller has no system text."""

    def describe(self, tools: Sequence[Tool], system: str) -> str:
        """Return the system message; see ``ToolForm``."""
        told = [
            f"## {tool.name}\n\n{json.dumps(tool.definition(), ensure_ascii=False, indent=4)}\n{_HOW}" for tool in tools
        ]
        who = system or self.introduction
        return "\n\n".join((*((who,) if who else ()), "# 可用工具", *told))

    def body(self, call: ToolCall) -> str:
        """Return the arguments; see ``NamedForm``."""
        return call.arguments or "{}"

    def grammar(self, config: ToolConfig) -> Grammar:
        """Return the grammar; see ``ToolForm``."""
        calls = " | ".join(f'"{tool.name}\\n" %json {embedded(tool.schema)}' for tool in config.callable)
        return Grammar(GrammarKind.LARK, named_answer(config) + f"call: / ?/ ({calls})")

    def parser(self, config: ToolConfig, new_id: NewId) -> NamedAnswerParser:
        """Return a parser for one answer; see ``ToolForm``."""
        return NamedAnswerParser(config, _JsonBody(), new_id)


class _JsonBody:
    """JSON as it comes, up to its end."""

    def __init__(self) -> None:
        self._end = JsonEnd()

    def feed(self, text: str) -> str:
        return "" if self._end.found else text[: self._end.feed(text)]
