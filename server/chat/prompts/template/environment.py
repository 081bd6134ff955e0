"""The Jinja environment that chat templates are written for: as in transformers, in the sandbox. Pure.

The sandbox keeps a template from Python's insides; that it ends, in bounded memory, is up to who runs it.
"""

import json
from collections.abc import Callable
from datetime import datetime

from jinja2 import TemplateSyntaxError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from glmserve.chat.prompts.template.constants import fold
from glmserve.chat.prompts.template.marks import Marks, TemplateFault

THINKING = "enable_thinking"
"""The variable by which callers turn thinking on and off."""
_JOIN = "_glmserve_role_token"
_BY_NUMBER = ("%c", "c}")
"""Formats that make a character of a number, which might be one of ours."""


class TemplateRole(str):
    """The role of a message: the one word outside of the template's source that special tokens are made of."""

    __slots__ = ()


class RaisedByTemplate(Exception):
    """The template itself rejects the conversation."""


class _Generation(Extension):
    """``{% generation %}``, with which templates show trainers the answers; a prompt has nothing of it."""

    tags = {"generation"}  # noqa: RUF012 - declared so by jinja2

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def make_environment(now: Callable[[], datetime]) -> ImmutableSandboxedEnvironment:
    """Return an environment; ``strftime_now`` shows ``now``."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = lambda form: now().strftime(form)
    return environment


def parse(environment: ImmutableSandboxedEnvironment, source: str) -> nodes.Template:
    """Return the template. Raises TemplateFault where it is no Jinja."""
    try:
        return fold(environment.parse(source))
    except TemplateSyntaxError as error:
        raise TemplateFault(f"line {error.lineno}: {error.message}") from None
    except RecursionError:
        raise TemplateFault("it is nested too deep") from None


def mark(environment: ImmutableSandboxedEnvironment, tree: nodes.Template, marks: Marks) -> nodes.Template:
    """Return the template with ``marks`` in the place of its special tokens.

    Raises:
        TemplateFault: it has nothing that can be told apart from a caller's text.
    """
    environment.globals[_JOIN] = _joiner(marks)
    marked = _Marker(marks).visit(tree)
    assert isinstance(marked, nodes.Template)
    return marked


def can_think(text: str) -> bool:
    """Tell whether a template knows of reasoning that can be told from an answer: between these two marks."""
    return "<think>" in text and "</think>" in text


def thinks_unless_told(tree: nodes.Template) -> bool:
    """Tell whether a template takes ``enable_thinking`` for given, and reads it to leave thinking out.

    Such a template was made for llama-server, which always gives it, as true. Where it is undefined, the template would
    do the opposite of what its model does.
    """
    read = [name for name in tree.find_all(nodes.Name) if name.name == THINKING]
    negated = [
        one for one in tree.find_all(nodes.Not) if isinstance(one.node, nodes.Name) and one.node.name == THINKING
    ]
    return bool(read) and len(read) == len(negated)


def _tojson(value: object, ensure_ascii: bool = False, **options: object) -> str:
    known = {name: options[name] for name in ("indent", "separators", "sort_keys") if options.get(name) is not None}
    return json.dumps(value, ensure_ascii=ensure_ascii, **known)  # type: ignore[arg-type]


def _raise(message: object = "") -> None:
    raise RaisedByTemplate(str(message))


def _joiner(marks: Marks) -> Callable[[str, object, str], str]:
    def join(before: str, value: object, after: str) -> str:
        text = f"{before}{value}{after}"
        return marks.of(text) if isinstance(value, TemplateRole) else text

    return join


class _Marker(NodeTransformer):
    """Marks special tokens in all strings of a template, and the tokens that it makes of a role between two strings."""

    def __init__(self, marks: Marks) -> None:
        self._marks = marks

    def visit_TemplateData(self, node: nodes.TemplateData) -> nodes.Node:  # noqa: N802 - named by jinja2
        return nodes.TemplateData(self._marks.mark(node.data), lineno=node.lineno)

    def visit_Const(self, node: nodes.Const) -> nodes.Node:  # noqa: N802
        if not isinstance(node.value, str):
            return node
        if any(form in node.value for form in _BY_NUMBER):
            raise TemplateFault(f"line {node.lineno}: it formats characters by their numbers ({node.value[:40]!r})")
        return nodes.Const(self._marks.mark(node.value), lineno=node.lineno)

    def visit_Output(self, node: nodes.Output) -> nodes.Node:  # noqa: N802
        return nodes.Output(self._parts(node.nodes), lineno=node.lineno)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        return nodes.Concat(self._parts(node.nodes), lineno=node.lineno)

    def visit_Add(self, node: nodes.Add) -> nodes.Node:  # noqa: N802
        parts: list[nodes.Expr] = []
        left: nodes.Expr = node
        while isinstance(left, nodes.Add):
            parts.insert(0, left.right)
            left = left.left
        first, *others = self._parts([left, *parts])
        for part in others:
            first = nodes.Add(first, part, lineno=node.lineno)
        return first

    def _parts(self, parts: list[nodes.Expr]) -> list[nodes.Expr]:
        """Return parts that stand one after the other, with marks, and with a call where a role makes a token."""
        parts = [*parts]
        joins: dict[int, tuple[str, str]] = {}
        for index in range(1, len(parts) - 1):
            before, after = _literal(parts[index - 1]), _literal(parts[index + 1])
            if before is None or after is None or _literal(parts[index]) is not None:
                continue
            if (ends := self._marks.ends(before, after)) is not None:
                joins[index] = ends
                parts[index - 1] = _with_literal(parts[index - 1], before[: -len(ends[0])])
                parts[index + 1] = _with_literal(parts[index + 1], after[len(ends[1]) :])
        visited = [self.visit(part) for part in parts]
        for index, (start, end) in joins.items():
            arguments = [nodes.Const(start), visited[index], nodes.Const(end)]
            called = nodes.Name(_JOIN, "load")
            visited[index] = nodes.Call(called, arguments, [], None, None, lineno=parts[index].lineno)
        return visited


def _literal(node: nodes.Expr) -> str | None:
    if isinstance(node, nodes.TemplateData):
        return node.data
    return node.value if isinstance(node, nodes.Const) and isinstance(node.value, str) else None


def _with_literal(node: nodes.Expr, text: str) -> nodes.Expr:
    return type(node)(text, lineno=node.lineno)
