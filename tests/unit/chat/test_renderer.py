"""The process that renders: a template that loops, or takes all memory, costs one request and not the server."""

import pytest

from glmserve.chat.prompts.messages import PromptError
from glmserve.chat.prompts.template.marks import Special, TemplateFault
from glmserve.chat.prompts.template.rendering import TemplateInput, TemplateSource
from glmserve.chat.renderer import TemplateRenderer

IF_ASKED = "{% if messages[0].content == 'bad' %}BAD{% endif %}<|user|>{{ messages[0].content }}"
LOOPS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
DOUBLES = "{% set ns = namespace(t='x' * 1000) %}{% for i in range(60) %}{% set ns.t = ns.t ~ ns.t %}{% endfor %}"
NESTS = "{% set ns = namespace(t=[1]) %}{% for i in range(60) %}{% set ns.t = [ns.t, ns.t] %}{% endfor %}"
LISTS = NESTS + "{{ ns.t | tojson }}"


def _input(content: str) -> TemplateInput:
    return TemplateInput(({"role": "user", "content": content},))


@pytest.mark.parametrize(
    "bad",
    [
        LOOPS,
        DOUBLES,
        LISTS,
        "{{ 'x' * 10**11 }}",
        "{{ 10 ** (messages | length * 10 ** 9) }}",
        "{{ 'x' | center(10**11) }}",
        "{% for a in range(90000) %}{{ 'y' * 1000 }}{% endfor %}",
    ],
)
def test_a_template_that_explodes_is_stopped_and_the_next_conversation_is_rendered(bad: str) -> None:
    renderer = TemplateRenderer(TemplateSource(IF_ASKED.replace("BAD", bad), ("<|user|>",)), seconds=1.0)
    try:
        assert renderer.render(_input("good")) == (Special("<|user|>"), "good")
        with pytest.raises(PromptError, match=r"does not end|too much memory|makes more than"):
            renderer.render(_input("bad"))
        assert renderer.render(_input("<|user|>")) == (Special("<|user|>"), "<|user|>")
    finally:
        renderer.close()


def test_a_template_that_is_none_is_a_fault_that_names_the_line() -> None:
    with pytest.raises(TemplateFault, match="line 2"):
        TemplateRenderer(TemplateSource("\n{% for %}")).render(_input("x"))


def test_lone_surrogates_of_a_caller_never_reach_a_template() -> None:
    """They are what special tokens are marked with."""
    with pytest.raises(UnicodeEncodeError):
        TemplateRenderer(TemplateSource(IF_ASKED, ("<|user|>",))).render(_input("\ud800"))
