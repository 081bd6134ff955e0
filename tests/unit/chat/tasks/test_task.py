"""A task: its slots are filled, in the prompt and in the grammar, by what stays text."""

import json

import pytest

from glmserve.chat.tasks.task import Task, Variable, VariableError
from glmserve.engine.params import Grammar, GrammarKind

HOSTILE = """{{other}} "} & ~ \\" %json {} \n start: /x/ \u2028 😀 <|user|> [gMASK]"""


def lark(source: str) -> Grammar:
    return Grammar(GrammarKind.LARK, source, trusted=True)


def test_every_slot_is_filled_and_nothing_in_a_value_is_a_slot() -> None:
    task = Task("t", "{{a}}-{{b}}-{{a}}")
    assert task.fill({"a": "{{b}}", "b": r"\1"}) == r"{{b}}-\1-{{b}}"


def test_values_must_fit_the_slots() -> None:
    task = Task("t", "{{a}}-{{b}}")
    with pytest.raises(VariableError, match="needs the variable 'b'"):
        task.fill({"a": "1"})
    with pytest.raises(VariableError, match="no variable 'c'; it has: a, b") as caught:
        task.fill({"a": "1", "b": "2", "c": "3"})
    assert caught.value.variable == "c"


def test_a_slot_with_a_default_need_not_be_filled() -> None:
    task = Task("t", "{{a}}-{{b}}", notes={"a": Variable("a", default="{{b}}")})
    assert task.fill({"b": "2"}) == "{{b}}-2"
    assert task.fill({"a": "1", "b": "2"}) == "1-2"
    assert task.main == "b"


@pytest.mark.parametrize(("template", "main"), [("x", None), ("{{a}}", "a"), ("{{a}}{{b}}", None), ("{{a}}{{a}}", "a")])
def test_the_main_slot_is_the_only_one_that_must_be_filled(template: str, main: str | None) -> None:
    assert Task("t", template).main == main


def test_the_beginning_ends_where_the_first_value_stands() -> None:
    assert Task("t", "a{{x}}b{{y}}c").beginning == "a"
    assert Task("t", "a{{x}}b{{y}}c", notes={"x": Variable("x", default="{{y}}")}).beginning == "a{{y}}b"
    assert Task("t", "abc").beginning == "abc"


def test_a_slot_of_a_grammar_becomes_a_literal_that_nothing_in_the_value_ends() -> None:
    grammar = Task("t", "{{a}}", grammar=lark("start: {{a}} {{ a }}")).output_constraint({"a": HOSTILE}).grammar
    assert grammar is not None
    first, second = grammar.source.removeprefix("start: ").split(" ")
    assert json.loads(first) == json.loads(second) == HOSTILE
    assert set(first[1:-1]) <= set("\\0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("完成1.2亿元A轮，2019年12月，12人，10:30", '("1\\u002e2" | "10\\u003a30" | "12" | "2019")'),
        ("没有数字，只有一二三", '("\\ufdd0")'),
    ],
)
def test_a_grammar_can_ask_for_the_numbers_of_a_text(text: str, numbers: str) -> None:
    grammar = Task("t", "{{a}}", grammar=lark("start: {{ a | numbers }}")).output_constraint({"a": text}).grammar
    assert grammar is not None
    assert grammar.source == f"start: {numbers}"


def test_only_a_lark_grammar_has_slots() -> None:
    grammar = Grammar(GrammarKind.REGEX, r"\{\{a}}|{{a}}")
    assert Task("t", "{{a}}", grammar=grammar).output_constraint({"a": "1"}).grammar == grammar
