"""Strings that a chat template puts together from its own strings, such as names of special tokens. Pure.

A caller's text has no part in them, so they are as good as written in one piece.
"""

from collections import Counter

from jinja2 import nodes
from jinja2.visitor import NodeTransformer

_LONGEST = 200
"""Characters of a string that is put together here: names are shorter, and doubled strings could take all memory."""


def fold(tree: nodes.Template) -> nodes.Template:
    """Return the template with such strings in one piece."""
    folded = _Folder(tree).visit(tree)
    assert isinstance(folded, nodes.Template)
    return folded


def strings(tree: nodes.Template) -> str:
    """Return all strings of a template, one on each line."""
    return "\n".join(const.value for const in tree.find_all(nodes.Const) if isinstance(const.value, str))


class _Folder(NodeTransformer):
    """Joins strings, and names of strings that are set once, outside of loops and conditions."""

    def __init__(self, tree: nodes.Template) -> None:
        set_names = Counter(name.name for name in tree.find_all(nodes.Name) if name.ctx != "load")
        set_names.update(macro.name for macro in tree.find_all(nodes.Macro))
        self._once = {id(node) for node in tree.body if isinstance(node, nodes.Assign)}
        self._set_names = set_names
        self._known: dict[str, str] = {}

    def visit_Assign(self, node: nodes.Assign) -> nodes.Node:  # noqa: N802 - named by jinja2
        self.generic_visit(node)
        target = node.target
        value = self._text(node.node)
        is_once = id(node) in self._once and isinstance(target, nodes.Name) and self._set_names[target.name] == 1
        if is_once and value is not None:
            assert isinstance(target, nodes.Name)
            self._known[target.name] = value
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return self._joined(node, node.nodes)

    def visit_Add(self, node: nodes.Add) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return self._joined(node, [node.left, node.right])

    def visit_Call(self, node: nodes.Call) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        called = node.node
        if not isinstance(called, nodes.Getattr) or called.attr != "format" or node.kwargs or node.dyn_kwargs:
            return node
        form, values = self._text(called.node), [self._text(argument) for argument in node.args]
        parts = [] if form is None else form.split("{}")
        if node.dyn_args or len(parts) != len(values) + 1 or any(set(part) & {"{", "}"} for part in parts):
            return node
        return _in_one(node, [text for pair in zip(parts, [*values, ""], strict=True) for text in pair])

    def _joined(self, node: nodes.Expr, parts: list[nodes.Expr]) -> nodes.Expr:
        return _in_one(node, [self._text(part) for part in parts])

    def _text(self, node: nodes.Node) -> str | None:
        """Return the string that an expression always is; None where it is another, or depends on something."""
        if isinstance(node, nodes.Name):
            return self._known.get(node.name)
        return node.value if isinstance(node, nodes.Const) and isinstance(node.value, str) else None


def _in_one(node: nodes.Expr, values: list[str | None]) -> nodes.Expr:
    """Return a string for ``node``, or the node itself where a part is unknown or the whole is no name."""
    known = [value for value in values if value is not None]
    if len(known) < len(values) or sum(map(len, known)) > _LONGEST:
        return node
    return nodes.Const("".join(known), lineno=node.lineno)
