import jinja2
import pytest

from glmserve.chat.prompts.formats import chatglm2_text
from glmserve.chat.prompts.messages import Message, Role, to_conversation
from glmserve.convert.vocab.chat_templates import CHATGLM2_TEMPLATE

Turns = list[tuple[str, str]]


def rendered(turns: Turns, *, add_generation_prompt: bool = True) -> str:
    messages = [{"role": role, "content": content} for role, content in turns]
    template = jinja2.Environment(autoescape=False).from_string(CHATGLM2_TEMPLATE)
    return template.render(messages=messages, add_generation_prompt=add_generation_prompt)


def test_the_authors_prompt_follows_the_two_special_tokens() -> None:
    turns = [("user", "你好"), ("assistant", "你好👋！"), ("user", "再见 {{x}}\n")]
    assert rendered(turns) == (
        "[gMASK]<sop>[Round 1]\n\n问：你好\n\n答：你好👋！\n\n[Round 2]\n\n问：再见 {{x}}\n\n\n答："
    )


@pytest.mark.parametrize(
    "turns",
    [
        [("user", "a")],
        [("system", "s"), ("user", "a")],
        [("system", "s"), ("system", "t"), ("user", "a"), ("assistant", "b"), ("user", "c")],
        [("user", "a"), ("user", "b"), ("assistant", "c"), ("assistant", "d"), ("user", "e")],
        [("assistant", "hello"), ("user", "a")],
        [("user", "a"), ("assistant", "b"), ("system", "s"), ("user", "c")],
        [("user", ""), ("assistant", ""), ("user", " ")],
    ],
)
def test_it_gives_what_the_server_gives(turns: Turns) -> None:
    conversation = to_conversation([Message(Role(role), content) for role, content in turns])
    assert rendered(turns) == "[gMASK]<sop>" + chatglm2_text(conversation.turns, conversation.query)


def test_without_a_generation_prompt_it_ends_with_the_question() -> None:
    assert rendered([("user", "a")], add_generation_prompt=False).endswith("问：a")


def test_llama_cpp_does_not_mistake_it_for_a_template_it_knows() -> None:
    for known in ("[gMASK]<sop>", "[gMASK]sop", "<|user|>", "<|im_start|>"):
        assert known not in CHATGLM2_TEMPLATE
