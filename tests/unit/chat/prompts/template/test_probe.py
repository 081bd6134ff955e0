"""What a chat template shows of its model: where answers end, whether it has system messages, whether it thinks."""

from datetime import datetime, timezone

import pytest

from glmserve.chat.prompts.messages import Message, Role
from glmserve.chat.prompts.template.format import TemplateFormat
from glmserve.chat.prompts.template.marks import Special
from glmserve.chat.prompts.template.probe import find_traits
from glmserve.chat.prompts.template.rendering import Template, TemplateInput, TemplateSource

SPECIALS = ("<|user|>", "<|assistant|>", "<|open|>", "<|close|>", "<|end|>")


def format_of(text: str) -> TemplateFormat:
    source = TemplateSource(text, SPECIALS)
    renderer = Template(source, lambda: datetime(2026, 1, 1, tzinfo=timezone.utc))
    return TemplateFormat(renderer, find_traits(renderer, source))


def turns(answer: str) -> str:
    return (
        "{% for m in messages %}{% if m.role == 'assistant' %}<|assistant|>"
        + answer
        + "{% else %}<|user|>{{ m.content }}"
        "{% endif %}{% endfor %}<|assistant|>"
    )


@pytest.mark.parametrize(
    ("answer", "ends"),
    [
        ("{{ m.content }}<|end|>", ("<|end|>",)),
        ("{{ m.content }}\n<|end|>\n", ("<|end|>",)),
        ("{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content }}<|end|>",
         ("<|end|>",)),
        ("<|open|>think{{ m.reasoning_content }}<|close|>think<|open|>text{{ m.content }}<|close|>text<|end|>", ()),
    ],
)  # fmt: skip
def test_what_closes_each_part_of_an_answer_does_not_end_it(answer: str, ends: tuple[str, ...]) -> None:
    """Kimi K3 closes its reasoning and its text by the same token: a server that stopped there had no text."""
    assert format_of(turns(answer)).end_tokens == ends


def test_where_there_are_no_system_messages_they_begin_the_next_question_as_in_llama_cpp() -> None:
    form = format_of(
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}<|user|>"
        "{{ m.content }}{% endfor %}"
    )
    asked = [Message(Role.SYSTEM, "Be brief."), Message(Role.USER, "Hi")]
    assert form.pieces(asked) == (Special("<|user|>"), "Be brief.\nHi")


@pytest.mark.parametrize(
    ("closing", "thinks"),
    [
        ("{% if not enable_thinking %}</think>{% endif %}", True),
        ("{% if add_generation_prompt and not enable_thinking %}</think>{% endif %}", True),
        ("{% if not enable_thinking | default(false) %}</think>{% endif %}", False),
        ("{% if enable_thinking is not defined or not enable_thinking %}</think>{% endif %}", False),
        ("{% set enable_thinking = enable_thinking | default(false) %}{% if not enable_thinking %}</think>{% endif %}",
         False),
        ("{% if enable_thinking %}{% else %}</think>{% endif %}", False),
        ("{% if not enable_thinking %}<|close|>{% endif %}", False),
    ],
)  # fmt: skip
def test_a_template_that_takes_the_variable_for_given_thinks_unless_told(closing: str, thinks: bool) -> None:
    """As that of QwQ for llama-server, which always gives it. One that says what it means undefined is believed.
    Reasoning between other marks could not be told from the answer."""
    source = "{{ messages[0].content }}<think>" + closing
    template = Template(TemplateSource(source), lambda: datetime(2026, 1, 1, tzinfo=timezone.utc))

    def ends(**options: object) -> bool:
        asked = TemplateInput(({"role": "user", "content": "x"},), options=options)
        return "".join(str(piece) for piece in template.render(asked)).endswith("<think>")

    assert ends() is thinks
    assert ends(enable_thinking=True)
    assert not ends(enable_thinking=False)
