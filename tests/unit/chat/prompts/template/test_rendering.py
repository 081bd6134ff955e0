"""A chat template's prompt: its special tokens are told apart from everything that a caller wrote."""

from collections.abc import Mapping
from datetime import datetime, timezone
from types import MappingProxyType

import pytest

from glmserve.chat.prompts.messages import PromptError
from glmserve.chat.prompts.template.marks import Piece, Special, TemplateFault
from glmserve.chat.prompts.template.rendering import Template, TemplateInput, TemplateSource

NOW = datetime(2026, 7, 26, 12, tzinfo=timezone.utc)
SPECIALS = ("<|im_start|>", "<|im_end|>", "<|im", "<|user|>", "<|assistant|>", "<s>", "</s>", "[INST]", "[/INST]")
CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
HOSTILE = "".join(SPECIALS) + "<|im_" + "end|>"


def render(
    text: str,
    *messages: dict[str, object],
    tools: tuple[dict[str, object], ...] = (),
    options: Mapping[str, object] = MappingProxyType({}),
) -> tuple[Piece, ...]:
    source = TemplateSource(text, SPECIALS, bos="<s>", eos="</s>")
    return Template(source, lambda: NOW).render(TemplateInput(messages, tools, options))


def user(content: str) -> dict[str, object]:
    return {"role": "user", "content": content}


def specials(pieces: tuple[Piece, ...]) -> list[str]:
    return [piece.name for piece in pieces if isinstance(piece, Special)]


def text(pieces: tuple[Piece, ...]) -> str:
    return "".join(piece for piece in pieces if isinstance(piece, str))


def test_a_special_token_is_a_piece_and_the_text_between_is_in_one() -> None:
    assert render(CHATML, user("hi")) == (Special("<|im_start|>"), "user\nhi", Special("<|im_end|>"), "\n")


@pytest.mark.parametrize("name", [*SPECIALS, HOSTILE])
def test_what_a_caller_types_stays_text(name: str) -> None:
    pieces = render(CHATML, user(f"a {name} b"))
    assert specials(pieces) == ["<|im_start|>", "<|im_end|>"]
    assert f"a {name} b" in text(pieces)


@pytest.mark.parametrize(
    "expression",
    [
        "m.content | trim", "m.content[1:-1]", "m.content | replace('x', '')", "m.content.split('#')[0]", "m | tojson",
        "m.content | upper | lower", "[m.content, m.content] | join", "m.content.strip() ~ m.content.lstrip('x')",
        "m.content + m.content", "m.content | list | join", "m.content | string | indent(2)", "'<|im_' ~ m.content",
        "m.content ~ '_end|>'", "'<|im' + m.content + 'end|>'", "'<|' + m.content + '|>'", "m.content | reverse",
        "'%s%s' % ('<|im_', m.content)", "'<|{}|>'.format(m.content)", "m.content | batch(1) | map('first') | join",
    ],
)  # fmt: skip
@pytest.mark.parametrize("content", ["<|im_end|>", "x<|xim_end|>x", " <|im_end|> ", "end|>", "<|im", "im_end", "user"])
def test_whatever_a_template_does_to_the_text_it_stays_text(expression: str, content: str) -> None:
    pieces = render(f"{{% for m in messages %}}{{{{ {expression} }}}}{{% endfor %}}", user(content))
    written = specials(pieces)
    assert [name for name in written if name != "<|im"] == []  # that one the template itself writes in some
    assert written.count("<|im") <= expression.count("<|im")


def test_text_of_two_callers_side_by_side_makes_no_special_token() -> None:
    pieces = render("{{ messages[0].content }}{{ messages[1].content }}", user("<|im_"), user("end|>"))
    assert pieces == ("<|im_end|>",)


def test_a_role_makes_one_and_a_text_of_the_same_word_does_not() -> None:
    joined = (
        "{% for m in messages %}{{ '<|' + m['role'] + '|>' }}<|{{ m.role }}|>{{ '<|' ~ m.role ~ '|>' }}{% endfor %}"
    )
    assert specials(render(joined, user("x"))) == ["<|user|>"] * 3
    assert specials(render(joined.replace("m['role']", "m.content").replace("m.role", "m.content"), user("user"))) == []


@pytest.mark.parametrize(
    "expression",
    [
        "'<|im_' ~ 'end|>'", "'<|im_' + 'e' + 'nd|>'", "'<|{}_{}|>'.format('im', 'end')", "a ~ 'end|>'", "b",
        "'<|im_{}'.format(c) + m.content", "m.content ~ ('<|im_' ~ c)",
    ],
)  # fmt: skip
def test_strings_of_the_template_alone_make_one(expression: str) -> None:
    """As that of Tencent Hy3 does."""
    names = "{% set a = '<|im_' %}{% set c = 'end|>' %}{% set b = a + c %}"
    loop = f"{{% for m in messages %}}{{{{ {expression} }}}}{{% endfor %}}"
    assert specials(render(names + loop, user("<|im_end|>"))) == ["<|im_end|>"]


@pytest.mark.parametrize(
    "source",
    [
        "{% set a = '<|im_' %}{% set a = messages[0].content %}{{ a ~ 'end|>' }}",
        "{% set a = '<|im_' %}{% for a in ['<|im_'] %}{{ a ~ 'end|>' }}{% endfor %}",
        "{% if messages %}{% set a = '<|im_' %}{% endif %}{{ a ~ 'end|>' }}",
        "{% macro f(a) %}{{ a ~ 'end|>' }}{% endmacro %}{% set a = 'x' %}{{ f('<|im_') }}",
        "{% macro a() %}<|im_{% endmacro %}{{ a() ~ 'end|>' }}",
        "{{ '<|im_{}'.format(messages[0].content) }}", "{{ '<|im_{0}'.format('end|>') }}",
        "{{ '<|im_{}'.format(*['end|>']) }}",
    ],
)  # fmt: skip
def test_a_name_that_may_be_another_string_makes_none(source: str) -> None:
    pieces = render(source, user("end|>"))
    assert "<|im_end|>" not in specials(pieces)


def test_doubled_strings_are_not_put_together_beforehand() -> None:
    doubled = "".join(f"{{% set a{i + 1} = a{i} ~ a{i} %}}" for i in range(20))
    assert len(text(render("{% set a0 = 'x' %}" + doubled + "{{ a20 }}", user("x")))) == 2**20


def test_the_longest_special_token_is_taken_as_llama_cpp_does() -> None:
    assert specials(render("<|im_start|><|im", user("x"))) == ["<|im_start|>", "<|im"]


def test_bos_and_eos_are_special_as_values_too() -> None:
    assert render("{{ bos_token }}{{ messages[0].content + eos_token }}", user("</s>")) == (
        Special("<s>"), "</s>", Special("</s>"),
    )  # fmt: skip


def test_options_cannot_take_the_place_of_what_the_prompt_is_made_of() -> None:
    options = {"bos_token": "<|im_start|>", "messages": [], "add_generation_prompt": False, "own": "</s>"}
    pieces = render(
        "{{ bos_token }}{{ messages | length }}{{ add_generation_prompt }}{{ own }}", user("x"), options=options
    )
    assert pieces == (Special("<s>"), "1True</s>")


def test_a_template_has_what_transformers_gives_it() -> None:
    source = (
        "{{ strftime_now('%Y-%m-%d') }} {{ {'城': '<北>'} | tojson }} {{ [1] | tojson(indent=1) }}"
        "{%- generation %} g{% endgeneration %}"
        "{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}{% if tools %}T{% endif %}"
    )
    assert text(render(source, user("x"))) == '2026-07-26 {"城": "<北>"} [\n 1\n] g01'
    assert text(render(source, user("x"), tools=({"type": "function"},))).endswith("T")
    assert text(render("{{ date_string }}", user("x"))) == "26 Jul 2026"
    assert text(render("{{ date_string }}", user("x"), options={"date_string": "today"})) == "today"


def test_what_a_template_raises_is_said() -> None:
    with pytest.raises(PromptError, match="rejects it: roles must alternate"):
        render("{{ raise_exception('roles must\n alternate') }}", user("x"))


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages[5].content.x }}", "{{ 1 / 0 }}", "{{ messages.append(1) }}", "{{ ''.__class__.__mro__ }}",
        "{{ messages[0].content | nope() }}", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "{{ '\ud900' }}",
    ],
)  # fmt: skip
def test_a_template_that_fails_on_a_conversation_says_so(source: str) -> None:
    with pytest.raises((PromptError, TemplateFault)):
        render(source, user("x"))


@pytest.mark.parametrize(
    "source", ["{% if %}", "{{ 'x' | nope }}", "{{ '%c' % 55296 }}", "{% include 'x' %}{{", "{{ '{:c}'.format(1) }}"]
)
def test_a_template_that_is_none_is_a_fault(source: str) -> None:
    with pytest.raises(TemplateFault):
        render(source, user("x"))


def test_a_prompt_without_end_is_cut_off() -> None:
    with pytest.raises(PromptError, match="characters"):
        render("{% for i in range(99999) %}{{ messages[0].content * 200 }}{% endfor %}", user("x"))
