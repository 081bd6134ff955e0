"""Tools whose schemas the engine rejects: an error names them, or their arguments are left free."""

from dataclasses import replace
from types import MappingProxyType

from glmserve.chat.tools.schema import embedded
from glmserve.chat.tools.types import Tool, ToolConfig
from glmserve.engine.errors import GrammarRejected
from glmserve.engine.interface import Caller
from glmserve.engine.params import Grammar, GrammarKind
from glmserve.http.request_context import RequestObserver
from glmserve.model_pool.served_model import ServedModel

_ANY_ARGUMENTS = MappingProxyType({"type": "object"})


async def without_refused_schemas(
    model: ServedModel, config: ToolConfig, refusal: GrammarRejected, caller: Caller, observer: RequestObserver
) -> ToolConfig:
    """Return ``config`` with free arguments for the tools that the engine rejects one by one.

    ``observer`` is told of each.

    Raises:
        GrammarRejected: such a tool is strict, or the tools are not to blame.
    """
    reasons = {tool.name: reason for tool in config.callable if (reason := await _refusal(model, tool, caller))}
    if not reasons:
        raise refusal
    for tool in config.callable:
        if tool.name in reasons and tool.strict:
            raise GrammarRejected(f"the parameters of the tool {tool.name}: {reasons[tool.name]}")
    for name in reasons:
        observer.relax(f"{name}: parameters")
    return replace(config, tools=tuple(_freed(tool) if tool.name in reasons else tool for tool in config.tools))


async def _refusal(model: ServedModel, tool: Tool, caller: Caller) -> str:
    try:
        await model.host.engine.check_grammar(Grammar(GrammarKind.JSON_SCHEMA, embedded(tool.schema)), caller)
    except GrammarRejected as error:
        return error.reason
    return ""


def _freed(tool: Tool) -> Tool:
    return replace(tool, held=_ANY_ARGUMENTS)
