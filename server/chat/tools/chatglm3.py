"""ChatGLM3's own format: the tools as JSON in the system message, a call as its name and a line of Python below it."""

import json
from collections.abc import Sequence

from glmserve.chat.tools.interface import NewId
from glmserve.chat.tools.named_answer import NamedAnswerParser, named_answer
from glmserve.chat.tools.python_call import STRING_RULE, PythonArguments, call_rules, written
from glmserve.chat.tools.types import Tool, ToolCall, ToolConfig
from glmserve.engine.params import Grammar, GrammarKind

# The sentence that the model was trained with.
_HOW = "Answer the following questions as best as you can. You have access to the following tools:"


class ChatGLM3Form:
    """See ``NamedForm``."""

    def describe(self, tools: Sequence[Tool], system: str) -> str:
        """Return the system message; see ``ToolForm``."""
        told = f"{_HOW}\n{json.dumps([tool.definition() for tool in tools], indent=4, ensure_ascii=False)}"
        return f"{system}\n\n{told}" if system else told

    def body(self, call: ToolCall) -> str:
        """Return the arguments; see ``NamedForm``."""
        arguments = call.parsed()
        code = f"tool_call({call.arguments})" if arguments is None else written(arguments)
        return f"```python\n{code}\n```"

    def grammar(self, config: ToolConfig) -> Grammar:
        """Return the grammar; see ``ToolForm``."""
        named = [f'"{tool.name}\\n" / ?/ "```python\\n" tool_{i} "\\n```"' for i, tool in enumerate(config.callable)]
        rules = [call_rules(f"tool_{i}", tool.schema) for i, tool in enumerate(config.callable)]
        call = f"call: / ?/ ({' | '.join(named)})\n"
        return Grammar(GrammarKind.LARK, named_answer(config) + call + "".join(rules) + STRING_RULE)

    def parser(self, config: ToolConfig, new_id: NewId) -> NamedAnswerParser:
        """Return a parser for one answer; see ``ToolForm``."""
        return NamedAnswerParser(config, PythonArguments(), new_id)
