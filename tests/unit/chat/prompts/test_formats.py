"""Messages become rounds, and rounds the ids that the model authors' tokenizer would make."""

import pytest

from glmserve.chat.prompts.formats import (
    BaichuanFormat,
    ChatGLM2Format,
    CodeGeeX2Format,
    RoleTokensFormat,
    prompt_format,
)
from glmserve.chat.prompts.messages import Message, PromptError, Role, to_conversation
from glmserve.chat.tools.types import ToolCall
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


@pytest.mark.parametrize(
    ("messages", "rounds"),
    [
        ([(SYSTEM, "s")], ((), "s")),
        ([(SYSTEM, "s"), (SYSTEM, "t")], ((), "s\n\nt")),
        ([(USER, "a"), (SYSTEM, "s")], ((), "a\n\ns")),
        ([(USER, "a"), (USER, "b"), (SYSTEM, "s")], ((), "a\nb\n\ns")),
        ([(USER, "a"), (ASSISTANT, "b"), (SYSTEM, "s")], ((("a", "b"),), "s")),
        ([(USER, "a"), (ASSISTANT, "b")], ((("a", "b"),), "")),
        ([(ASSISTANT, "b")], ((("", "b"),), "")),
    ],
)
def test_system_text_at_the_end_is_a_question_and_after_an_answer_there_is_an_empty_one(
    messages: list[tuple[Role, str]], rounds: object
) -> None:
    assert conversation(*messages) == rounds


@pytest.mark.parametrize(
    "asked", [[(SYSTEM, "s")], [(USER, "a"), (SYSTEM, "s")], [(USER, "a"), (ASSISTANT, "b"), (SYSTEM, "s")]]
)
@pytest.mark.parametrize("name", ["chatglm2", "chatglm3", "glm4", "baichuan", "baichuan2"])
def test_what_follows_a_system_message_keeps_the_prompt_that_it_ended(name: str, asked: list[tuple[Role, str]]) -> None:
    messages = [Message(role, text) for role, text in asked]
    grown = [*messages, Message(ASSISTANT, "x"), Message(USER, "y")]
    before, after = (prompt_format(name).encode(each, ByteTokenizer()) for each in (messages, grown))
    assert after[: len(before)] == before


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


def test_the_first_baichuan_has_the_end_token_after_earlier_answers() -> None:
    """Two of three revisions of its authors' code write it, and Baichuan2's does not."""
    messages = [Message(USER, "a"), Message(ASSISTANT, "b"), Message(USER, "c")]
    end = ByteTokenizer().special_id("</s>")
    rounds = (302, *encoded("a"), 303, *encoded("b"), end, 302, *encoded("c"), 303)
    assert prompt_format("baichuan").encode(messages, ByteTokenizer()) == rounds
    assert prompt_format("baichuan2").encode(messages, ByteTokenizer()) == tuple(i for i in rounds if i != end)
    going_on = [*messages, Message(ASSISTANT, "d")]
    assert prompt_format("baichuan").encode(going_on, ByteTokenizer(), continued=True) == (*rounds, *encoded("d"))


def test_baichuan_has_system_text_in_front_without_a_token() -> None:
    assert baichuan((SYSTEM, "s"), (SYSTEM, "t"), (USER, "a")) == (*encoded("s\n\nt"), 302, *encoded("a"), 303)


def test_baichuan_joins_later_system_text_to_the_next_question() -> None:
    later = baichuan((USER, "a"), (ASSISTANT, "b"), (SYSTEM, "s"), (USER, "c"))
    assert later == (302, *encoded("a"), 303, *encoded("b"), 302, *encoded("s\n\nc"), 303)


def test_baichuan_takes_system_text_that_no_question_follows_for_one() -> None:
    assert baichuan((SYSTEM, "s")) == (302, *encoded("s"), 303)
    assert baichuan((SYSTEM, "s"), (ASSISTANT, "b"), (USER, "a")) == (
        *(302, *encoded("s"), 303, *encoded("b")),
        *(302, *encoded("a"), 303),
    )


GMASK, SOP, ON_SYSTEM, ON_USER, ON_ASSISTANT = 300, 301, 304, 305, 306


def with_roles(*messages: tuple[Role, str]) -> tuple[int, ...]:
    return prompt_format("chatglm3").encode([Message(role, text) for role, text in messages], ByteTokenizer())


def test_role_tokens_stand_before_an_empty_line_and_the_text_each_tokenised_by_itself() -> None:
    assert with_roles((USER, "a")) == (GMASK, SOP, ON_USER, *encoded("\n"), *encoded("a"), ON_ASSISTANT)


def test_role_tokens_keep_every_message_with_its_own_role_and_in_its_place() -> None:
    line = encoded("\n")
    assert with_roles((SYSTEM, "s"), (USER, "a"), (ASSISTANT, "b"), (USER, "c"), (USER, "<|user|>")) == (
        *(GMASK, SOP),
        *(ON_SYSTEM, *line, *encoded("s")),
        *(ON_USER, *line, *encoded("a")),
        *(ON_ASSISTANT, *line, *encoded("b")),
        *(ON_USER, *line, *encoded("c")),
        *(ON_USER, *line, *encoded("<|user|>")),
        ON_ASSISTANT,
    )


def test_an_empty_message_is_its_role_alone() -> None:
    assert with_roles((USER, "")) == (GMASK, SOP, ON_USER, *encoded("\n"), ON_ASSISTANT)


def test_code_is_gone_on_with_from_the_last_message_alone() -> None:
    code = "# language: Python\n"
    messages = [Message(SYSTEM, "s"), Message(USER, "a"), Message(ASSISTANT, "b"), Message(USER, code)]
    assert CodeGeeX2Format().encode(messages, ByteTokenizer()) == (GMASK, SOP, *encoded(code))


LINE = encoded("\n")
ROLE_TOKENS = {SYSTEM: ON_SYSTEM, USER: ON_USER, ASSISTANT: ON_ASSISTANT}


def in_roles(*messages: tuple[Role, str]) -> tuple[int, ...]:
    """What ChatGLM3 and GLM-4 get: every message as it is, then the token of the assistant, whose turn it is."""
    said = (token for role, text in messages for token in (ROLE_TOKENS[role], *LINE, *encoded(text)))
    return (GMASK, SOP, *said, ON_ASSISTANT)


def in_rounds(text: str) -> tuple[int, ...]:
    return (GMASK, SOP, *encoded(text))


ENDINGS: dict[str, tuple[list[tuple[Role, str]], str, tuple[int, ...], str]] = {
    "an answer": (
        [(USER, "a"), (ASSISTANT, "b")],
        "[Round 1]\n\n问：a\n\n答：b\n\n[Round 2]\n\n问：\n\n答：",
        (302, *encoded("a"), 303, *encoded("b"), 302, 303),
        "b",
    ),
    "two answers": (
        [(USER, "a"), (ASSISTANT, "b"), (ASSISTANT, "c")],
        "[Round 1]\n\n问：a\n\n答：b\nc\n\n[Round 2]\n\n问：\n\n答：",
        (302, *encoded("a"), 303, *encoded("b\nc"), 302, 303),
        "c",
    ),
    "an answer alone": (
        [(ASSISTANT, "b")],
        "[Round 1]\n\n问：\n\n答：b\n\n[Round 2]\n\n问：\n\n答：",
        (302, 303, *encoded("b"), 302, 303),
        "b",
    ),
    "a system message": (
        [(SYSTEM, "s"), (USER, "a"), (ASSISTANT, "b"), (SYSTEM, "t")],
        "[Round 1]\n\n问：s\n\na\n\n答：b\n\n[Round 2]\n\n问：t\n\n答：",
        (*encoded("s"), 302, *encoded("a"), 303, *encoded("b"), 302, *encoded("t"), 303),
        "t",
    ),
    "a system message after the question": (
        [(USER, "a"), (SYSTEM, "s")],
        "[Round 1]\n\n问：a\n\ns\n\n答：",
        (302, *encoded("a\n\ns"), 303),
        "s",
    ),
    "a system message alone": (
        [(SYSTEM, "s")], "[Round 1]\n\n问：s\n\n答：", (302, *encoded("s"), 303), "s"
    ),
}  # fmt: skip


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_family_answers_whatever_message_is_last(ending: str) -> None:
    given, rounds, baichuan_ids, code = ENDINGS[ending]
    messages = [Message(role, text) for role, text in given]
    expected = {
        "chatglm2": in_rounds(rounds),
        "chatglm3": in_roles(*given),
        "glm4": in_roles(*given),
        "baichuan2": baichuan_ids,
        "codegeex2": in_rounds(code),
    }
    assert {name: prompt_format(name).encode(messages, ByteTokenizer()) for name in expected} == expected


@pytest.mark.parametrize("name", ["chatglm2", "chatglm3", "codegeex2", "glm4", "baichuan", "baichuan2"])
def test_there_must_be_a_message_and_the_results_of_its_calls(name: str) -> None:
    with pytest.raises(PromptError, match="no message"):
        prompt_format(name).encode([], ByteTokenizer())
    called = Message(ASSISTANT, "", (ToolCall("c", "now", "{}"),))
    with pytest.raises(PromptError, match="results of the last message's tool calls are missing"):
        prompt_format(name).encode([Message(USER, "a"), called], ByteTokenizer())


def test_formats_are_found_by_name() -> None:
    assert prompt_format("chatglm2") == ChatGLM2Format()
    assert isinstance(prompt_format("chatglm3"), RoleTokensFormat)
    assert isinstance(prompt_format("glm4"), RoleTokensFormat)
    with pytest.raises(ValueError, match=r"known: .*chatglm2"):
        prompt_format("gpt")
