"""What is left of a conversation that grew past every context."""

from glmserve.api.openai.responses.input_items import Item, parse_item, user_item
from glmserve.api.openai.responses.request import latest


def said(text: str) -> Item:
    return parse_item({"role": "assistant", "content": text}, "item")


SYSTEM = parse_item({"role": "system", "content": "s" * 50}, "item")
ROUNDS = [item for number in range(100) for item in (user_item(f"{number:04}"), said("yes!"))]


def test_what_a_context_could_hold_stays_whole() -> None:
    assert latest([SYSTEM, *ROUNDS], 1000, 10_000) == (SYSTEM, *ROUNDS)


def test_the_oldest_rounds_go_by_number_and_by_text_and_system_text_stays() -> None:
    assert latest([SYSTEM, *ROUNDS], 21, 10_000) == (SYSTEM, *ROUNDS[-20:])
    assert latest([SYSTEM, *ROUNDS], 1000, 151) == (SYSTEM, *ROUNDS[-20:])


def test_what_is_left_begins_with_a_question_and_the_last_one_stays() -> None:
    assert latest(ROUNDS, 3, 10_000) == tuple(ROUNDS[-2:])
    assert latest(ROUNDS, 0, 0) == tuple(ROUNDS[-2:])
