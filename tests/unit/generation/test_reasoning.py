"""Reasoning is told from text, wherever the answer is cut into pieces."""

import pytest

from glmserve.generation.detokenizer import ReasonedPiece, ReasoningParser, opens_reasoning


def parsed(text: str, size: int, *, is_open: bool) -> ReasonedPiece:
    parser = ReasoningParser(is_open=is_open)
    pieces = [parser.feed(text[start : start + size]) for start in range(0, len(text), size)]
    pieces.append(parser.finish())
    found = ReasonedPiece("".join(p.reasoning for p in pieces), "".join(p.text for p in pieces))
    assert parser.dropped + len(found.text) == len(text)
    return found


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
@pytest.mark.parametrize(
    ("text", "is_open", "reasoning", "answer"),
    [
        ("<think>\nhm, so\n\nyes\n</think>\n\nYes. ", False, "hm, so\n\nyes", "Yes. "),
        ("\n<think>\n\n</think>\n\nYes", False, "", "Yes"),
        ("hm\n</think>\nYes", True, "hm", "Yes"),
        ("Yes, <think> is a tag</think>", False, "", "Yes, <think> is a tag</think>"),
        ("  <thi", False, "", "  <thi"),
        (" no <b>", False, "", " no <b>"),
        ("a </thin b </think>c", True, "a </thin b", "c"),
        ("cut off <", True, "cut off <", ""),
        ("x</think>a</think>b", True, "x", "a</think>b"),
        ("", True, "", ""),
        ("", False, "", ""),
    ],
)
def test_reasoning_is_told_from_text(text: str, is_open: bool, reasoning: str, answer: str, size: int) -> None:
    assert parsed(text, size, is_open=is_open) == ReasonedPiece(reasoning, answer)


def test_a_prompt_may_open_it() -> None:
    assert opens_reasoning(b"assistant\n<think>\n")
    assert not opens_reasoning(b"assistant\n<think>\n\n</think>\n\n")
