"""Calls in Python become JSON, however they are cut."""

import ast
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmserve.chat.tools.python_call import STRING_RULE, PythonArguments, call_rules, written
from glmserve.engine.params import Grammar, GrammarKind
from tests.unit.chat.tools.samples import takes

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text("ab'\"\\北 "),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("k'\"", min_size=1), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.text("abc_北", min_size=1, max_size=4).filter(str.isidentifier)


def read(code: str, size: int = 1000) -> str:
    reader = PythonArguments()
    return "".join(reader.feed(code[i : i + size]) for i in range(0, len(code), size))


@given(st.dictionaries(NAMES, VALUES, max_size=3))
def test_what_is_written_is_read(arguments: dict[str, object]) -> None:
    code = f" ```python\n{written(arguments)}\n```"
    assert json.loads(read(code)) == arguments
    assert read(code, 1) == read(code)


@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        ("tool_call()", {}),
        ("tool_call(a=1)", {"a": 1}),
        ("tool_call(a=-1.5e-3, b=True, c=None)", {"a": -0.0015, "b": True, "c": None}),
        ("tool_call(a=\"it's\", b='say \"hi\"', c='it\\'s')", {"a": "it's", "b": 'say "hi"', "c": "it's"}),
        ('tool_call(a="\\u5317\\n", b="tool_call(x=1)")', {"a": "北\n", "b": "tool_call(x=1)"}),
        ("tool_call(a=[1, {'b': (2, 3)}])", {"a": [1, {"b": [2, 3]}]}),
        ("tool_call(a={'True': true, 'x=1': null})", {"a": {"True": True, "x=1": None}}),
        ('tool_call(**{"a b": [1, "c"]})', {"a b": [1, "c"]}),
        ("tool_call(a=1) and more = 'words'", {"a": 1}),
    ],
)
def test_python_becomes_json(code: str, arguments: dict[str, object]) -> None:
    assert json.loads(read(code)) == arguments


def test_a_call_that_is_cut_off_stays_cut_off() -> None:
    assert read("tool_call(city='北") == '{"city": "北'


def grammar(schema: dict[str, object]) -> Grammar:
    return Grammar(GrammarKind.LARK, f"start: call\n{call_rules('call', schema)}{STRING_RULE}")


TWO = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("required", "code", "taken"),
    [
        ([], "tool_call()", True),
        ([], "tool_call(a='x')", True),
        ([], "tool_call(b=2)", True),
        ([], 'tool_call(a="x", b=2)', True),
        ([], "tool_call(b=2, a='x')", False),
        ([], "tool_call(a='x',)", False),
        ([], "tool_call(, b=2)", False),
        ([], "tool_call(c=1)", False),
        ([], "tool_call(a=1)", False),
        ([], "tool_call(a='x\ny')", False),
        (["b"], "tool_call(a='x')", False),
        (["b"], "tool_call(b=2)", True),
        (["a", "b"], "tool_call(a='x', b=2)", True),
    ],
)
def test_arguments_come_in_order_and_the_required_ones_all(required: list[str], code: str, taken: bool) -> None:
    assert takes(grammar({**TWO, "required": required}), code) is taken
    if taken:
        ast.parse(code)


@pytest.mark.parametrize(
    ("schema", "code"),
    [
        ({**TWO, "minProperties": 1}, 'tool_call(**{"a": "x"})'),
        ({**TWO, "additionalProperties": {"type": "integer"}}, 'tool_call(**{"z": 1})'),
        ({"type": "object", "properties": {"a b": {}}}, 'tool_call(**{"a b": 1})'),
        ({**TWO, "required": ["z"]}, 'tool_call(**{"z": 1})'),
        (
            {"type": "object", "properties": {"next": {"$ref": "#"}, "x": {"type": "integer"}}},
            'tool_call(**{"next": {"x": 1}})',
        ),
    ],
)
def test_a_schema_that_is_no_list_of_arguments_is_one_object(schema: dict[str, object], code: str) -> None:
    assert takes(grammar(schema), code)


def test_values_that_are_listed_may_have_any_characters() -> None:
    values = ["it's", 'a"b', "c\\d", "北\n"]
    schema: dict[str, object] = {"type": "object", "properties": {"a": {"enum": values}}}
    for code in ("tool_call(a='it\\'s')", "tool_call(a='a\"b')", "tool_call(a='c\\\\d')", "tool_call(a='北\\n')"):
        assert takes(grammar(schema), code)
        assert json.loads(read(code))["a"] in values
