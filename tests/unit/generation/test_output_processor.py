"""Answers as text: log-probabilities come out with the text of their tokens, whatever holds that text back."""

from collections.abc import AsyncGenerator

import pytest

from glmserve.engine.messages import FinishReason, SampledToken, StepOutput
from glmserve.generation.output_processor import RequestOutput, TextDelta
from tests.support.scripted_engine import EOS, ByteTokenizer

pytestmark = pytest.mark.anyio


async def play(text: str, per_step: int) -> AsyncGenerator[StepOutput, None]:
    ids = (*ByteTokenizer().encode(text), EOS)
    for start in range(0, len(ids), per_step):
        step = ids[start : start + per_step]
        scored = tuple(SampledToken(token, -0.5, (SampledToken(token, -0.5),)) for token in step)
        reason = FinishReason.STOP if step[-1] == EOS else None
        yield StepOutput(1, step, reason, logprobs=scored)


async def deltas(text: str, *stop: str, per_step: int = 1, skip_blanks: bool = False) -> list[TextDelta]:
    choice = RequestOutput(0, play(text, per_step), ByteTokenizer(), stop, skip_blanks=skip_blanks)
    out = [await choice.next_delta()]
    while out[-1].finish_reason is None:
        out.append(await choice.next_delta())
    return out


@pytest.mark.parametrize("per_step", [1, 2, 5, 100])
@pytest.mark.parametrize("text", ["plain", "你好，world", "  two blanks", "é" * 3])
async def test_the_bytes_of_the_tokens_are_the_text(text: str, per_step: int) -> None:
    """The token of the dummy prefix is there, and empty; so is the end token."""
    out = await deltas(text, per_step=per_step)
    assert "".join(delta.text for delta in out) == text
    tokens = [token for delta in out for token in delta.tokens]
    assert b"".join(token.piece for token in tokens).decode() == text
    assert len(tokens) == len(text.encode()) + 2
    for delta in out:
        assert b"".join(token.piece for token in delta.tokens).decode() == delta.text


async def test_a_token_says_how_many_characters_stand_before_it() -> None:
    tokens = [token for delta in await deltas("好a") for token in delta.tokens]
    assert [(token.piece, token.offset) for token in tokens if token.piece] == [
        (b"\xe5", 0), (b"\xa5", 0), (b"\xbd", 0), (b"a", 1),
    ]  # fmt: skip


@pytest.mark.parametrize("per_step", [1, 3, 100])
async def test_tokens_that_a_stop_string_cut_off_are_not_reported(per_step: int) -> None:
    out = await deltas("one STOP two", "STOP", per_step=per_step)
    tokens = [token for delta in out for token in delta.tokens]
    assert b"".join(token.piece for token in tokens) == b"one "
    assert out[-1].finish_reason is FinishReason.STOP


async def test_the_last_piece_tells_which_stop_string_ended_the_answer() -> None:
    assert [delta.stop for delta in await deltas("one STOP two", "never", "STOP")][-2:] == [None, "STOP"]
    assert {delta.stop for delta in await deltas("one", "never")} == {None}


async def test_tokens_wait_with_text_that_may_be_a_stop_string() -> None:
    out = await deltas("a STxy", "STOP")
    assert [(delta.text, b"".join(t.piece for t in delta.tokens)) for delta in out if delta.text][-2:] == [
        ("STx", b"STx"), ("y", b"y"),
    ]  # fmt: skip


async def test_blanks_that_are_dropped_have_no_tokens() -> None:
    out = await deltas("\n \nhi", skip_blanks=True)
    tokens = [token for delta in out for token in delta.tokens if token.piece]
    assert b"".join(token.piece for token in tokens) == b"hi"
    assert tokens[0].offset == 0


async def test_rivals_lose_the_dummy_prefix_where_the_token_does() -> None:
    async def outputs() -> AsyncGenerator[StepOutput, None]:
        ids = ByteTokenizer().encode("a")
        for token in ids:
            yield StepOutput(1, (token,), None, logprobs=(SampledToken(token, -1.0, (SampledToken(ids[0], -1.0),)),))
        yield StepOutput(1, (EOS,), FinishReason.STOP, logprobs=(SampledToken(EOS, -1.0),))

    choice = RequestOutput(0, outputs(), ByteTokenizer(), ())
    first, second = await choice.next_delta(), await choice.next_delta()
    assert [rival.piece for token in first.tokens for rival in token.top] == [b""]
    assert [rival.piece for token in second.tokens for rival in token.top] == [b" "]
