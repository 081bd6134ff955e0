"""Messages become rounds, and rounds the ids that the model authors' tokenizer would make."""

import pytest

from server.prompts.format import BaichuanFormat, ChatGLM2Format, PromptError, prompt_format, to_conversation
from server.prompts.message import Message, Role
from tests.support.scripted_engine import ByteTokenizer

SYSTEM, USER, ASSISTANT = Role.SYSTEM, Role.USER, Role.ASSISTANT


def conversation(*messages: tuple[Role, str]) -> tuple[tuple[tuple[str, str], ...], str]:
    result = to_conversation([Message(role, text) for role, text in messages])
    return result.turns, result.query


def test_a_question_alone_is_the_query() -> None:
    assert conversation((USER, "你好")) == ((), "你好")


def test_finished_rounds_come_before_the_query() -> None:
    assert conversation((USER, "a"), (ASSISTANT, "b"), (USER, "c")) == ((("a", "b"),), "c")


def test_system_text_goes_in_front_of_the_first_question_and_stays_there_as_the_chat_grows() -> None:
    assert conversation((SYSTEM, "s"), (USER, "a")) == ((), "s\n\na")
    assert conversation((SYSTEM, "s"), (USER, "a"), (ASSISTANT, "b"), (USER, "c")) == (
        (("s\n\na", "b"),),
        "c",
    )


def test_several_system_messages_are_joined() -> None:
    assert conversation((SYSTEM, "s"), (SYSTEM, "t"), (USER, "a")) == ((), "s\n\nt\n\na")


def test_a_later_system_message_joins_the_next_question() -> None:
    assert conversation((USER, "a"), (ASSISTANT, "b"), (SYSTEM, "s"), (USER, "c")) == (
        (("a", "b"),),
        "s\n\nc",
    )


def test_messages_of_one_speaker_in_a_row_are_joined() -> None:
    turns, query = conversation((USER, "a"), (USER, "b"), (ASSISTANT, "c"), (ASSISTANT, "d"), (USER, "e"))
    assert (turns, query) == ((("a\nb", "c\nd"),), "e")


def test_an_answer_that_nobody_asked_for_gets_an_empty_question() -> None:
    assert conversation((ASSISTANT, "hello"), (USER, "a")) == ((("", "hello"),), "a")


@pytest.mark.parametrize("roles", [[], [SYSTEM], [ASSISTANT], [USER, ASSISTANT], [USER, SYSTEM]])
def test_the_last_message_must_be_from_the_user(roles: list[Role]) -> None:
    with pytest.raises(PromptError, match="last message must be from the user"):
        conversation(*((role, "x") for role in roles))


def test_chatglm2_puts_two_special_ids_before_one_encoding_of_the_whole_text() -> None:
    tokenizer = ByteTokenizer()
    ids = ChatGLM2Format().encode([Message(USER, "sop [gMASK] </s>")], tokenizer)
    text = "[Round 1]\n\n问：sop [gMASK] </s>\n\n答："
    assert ids == (300, 301, *tokenizer.encode(text))


def baichuan(*messages: tuple[Role, str]) -> tuple[int, ...]:
    return BaichuanFormat().encode([Message(role, text) for role, text in messages], ByteTokenizer())


def encoded(text: str) -> tuple[int, ...]:
    return ByteTokenizer().encode(text)


def test_baichuan_puts_each_message_by_itself_after_the_token_of_its_role() -> None:
    assert baichuan((USER, "a"), (ASSISTANT, "b"), (USER, "<reserved_102>")) == (
        *(302, *encoded("a")),
        *(303, *encoded("b")),
        *(302, *encoded("<reserved_102>")),
        303,
    )


def test_baichuan_has_system_text_in_front_without_a_token() -> None:
    assert baichuan((SYSTEM, "s"), (SYSTEM, "t"), (USER, "a")) == (*encoded("s\n\nt"), 302, *encoded("a"), 303)


def test_baichuan_joins_later_system_text_to_the_next_question() -> None:
    later = baichuan((USER, "a"), (ASSISTANT, "b"), (SYSTEM, "s"), (USER, "c"))
    assert later == (302, *encoded("a"), 303, *encoded("b"), 302, *encoded("s\n\nc"), 303)


def test_baichuan_too_wants_a_question_at_the_end() -> None:
    with pytest.raises(PromptError, match="last message must be from the user"):
        baichuan((SYSTEM, "s"))


def test_formats_are_found_by_name() -> None:
    assert prompt_format("chatglm2") == ChatGLM2Format()
    with pytest.raises(ValueError, match=r"known: .*chatglm2"):
        prompt_format("gpt")
