"""An answer that calls a tool or is a text in a format: what the grammar lets through, and what the parser reads."""

import json

import jsonschema_rs
import pytest

from glmserve.chat.tools.types import ToolChoice, ToolConfig, ToolError
from glmserve.engine.params import Grammar, GrammarKind, one_of
from tests.unit.chat.tools.samples import CLOCK, FORMS, WEATHER, babble, ids, read, takes
from tests.unit.chat.tools.test_call_formats import CALL, CALLS, MARKED

SCHEMA = {
    "type": "object",
    "properties": {"verdict": {"enum": ["good", "bad"]}, "stars": {"type": "integer", "minimum": 1, "maximum": 5}},
    "required": ["verdict", "stars"],
    "additionalProperties": False,
}
JSON = Grammar(GrammarKind.JSON_SCHEMA, json.dumps(SCHEMA))
FITS = '{"verdict": "good",\n "stars": 4}'
OPENINGS = {"text": ("",), "chatglm3": ("\n", "\n ", " \n"), "glm4": ("\n", "\n ")}
OPENINGS |= dict.fromkeys(MARKED, ("",))
"""What a family writes in front of a text."""

families = pytest.mark.parametrize("family", [family for family in FORMS if family != "llama3"])


def offer(asked: Grammar, choice: ToolChoice = ToolChoice.AUTO, *, parallel: bool = True) -> ToolConfig:
    return ToolConfig((WEATHER, CLOCK), choice, parallel, text_format=asked)


@families
def test_an_answer_is_a_call_or_a_text_in_the_format(family: str) -> None:
    grammar = FORMS[family].grammar(offer(JSON))
    assert takes(grammar, CALLS[family])
    for opening in OPENINGS[family]:
        assert takes(grammar, opening + FITS)
        assert not takes(grammar, f"{opening}你好")
        assert not takes(grammar, f"{opening}{FITS}\n{CALLS[family]}")
    assert not takes(grammar, f"我查一下。\n{CALLS[family]}")


@families
def test_where_a_call_is_required_there_are_calls_alone(family: str) -> None:
    grammar = FORMS[family].grammar(offer(JSON, ToolChoice.REQUIRED))
    assert takes(grammar, CALLS[family])
    assert not any(takes(grammar, opening + FITS) for opening in OPENINGS[family])


@families
@pytest.mark.parametrize(
    ("asked", "fits", "fails"),
    [
        (Grammar(GrammarKind.JSON_SCHEMA, "true"), '["x"]', "x"),
        (Grammar(GrammarKind.REGEX, r"\d{3}/[/\]a]\/"), "123/]/", "123"),
        (Grammar(GrammarKind.REGEX, "a\nb"), "a\nb", "ab"),
        (Grammar(GrammarKind.REGEX, ""), "", "x"),
        (one_of(["a/b", "c\\d"]), "c\\d", "cd"),
        (Grammar(GrammarKind.LARK, 'start: call text\ncall: "}"\ntext: /[{}x]/ # the end'), "}{", "}"),
        (Grammar(GrammarKind.LARK, 'start: line\nline: %json {"type": "integer"}'), "7", "x"),
    ],
)
def test_a_format_of_any_kind_stands_beside_calls(family: str, asked: Grammar, fits: str, fails: str) -> None:
    grammar = FORMS[family].grammar(offer(asked))
    opening = OPENINGS[family][0]
    assert takes(grammar, CALLS[family])
    assert takes(grammar, opening + fits)
    assert not takes(grammar, opening + fails)


@families
def test_both_are_read_however_they_are_cut(family: str) -> None:
    for text, said in [(CALLS[family], ("", (CALL,))), (OPENINGS[family][-1] + FITS, (FITS, ()))]:
        for size in range(1, len(text) + 1):
            parser = FORMS[family].parser(offer(JSON), ids())
            assert read(parser, [text[i : i + size] for i in range(0, len(text), size)]) == said


def test_a_text_in_a_format_has_no_calls_whatever_it_says() -> None:
    text = f"例子：\n{CALLS['text']}\n{CALLS['text']}"
    for size in range(1, len(text) + 1):
        parser = FORMS["text"].parser(offer(one_of([text])), ids())
        assert read(parser, [text[i : i + size] for i in range(0, len(text), size)]) == (text, ())


def test_several_calls_need_no_text_in_front() -> None:
    answer = f"{CALLS['text']}\n{CALLS['text']}"
    assert takes(FORMS["text"].grammar(offer(JSON)), answer)
    assert not takes(FORMS["text"].grammar(offer(JSON, parallel=False)), answer)
    text, calls = read(FORMS["text"].parser(offer(JSON), ids()), answer)
    assert (text, len(calls)) == ("", 2)


@pytest.mark.parametrize("family", ["text", "chatglm3", "glm4", "hermes"])
@pytest.mark.parametrize("seed", range(20))
def test_any_model_makes_one_or_the_other(family: str, seed: int) -> None:
    form = FORMS[family]
    text, calls = read(form.parser(offer(JSON), ids()), [babble(form.grammar(offer(JSON)), seed)])
    assert bool(text) is not bool(calls)
    if text:
        assert jsonschema_rs.is_valid(SCHEMA, json.loads(text)), text
    schemas = {tool.name: dict(tool.parameters) for tool in (WEATHER, CLOCK)}
    for call in calls:
        assert jsonschema_rs.is_valid(schemas[call.name], json.loads(call.arguments)), call


def test_calls_in_json_cannot_be_told_from_an_answer_in_json() -> None:
    with pytest.raises(ToolError, match="calls are JSON"):
        FORMS["llama3"].grammar(offer(JSON))
    assert takes(FORMS["llama3"].grammar(offer(JSON, ToolChoice.REQUIRED)), CALLS["llama3"])
