"""The logits of a step: each sequence is answered from its own row, whatever else is in the batch."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from glmserve.engine.config import Device, EngineConfig
from glmserve.engine.gguf.gguf_check import check_gguf
from glmserve.engine.llama.runner import LlamaModelRunner
from glmserve.engine.llama.token_batch import logits_at
from glmserve.engine.params import SamplingParams
from glmserve.engine.scheduler.batch import BatchItem
from glmserve.engine.sequence import Sequence

PLAIN = SamplingParams(max_tokens=9, temperature=0.0)
IDS = (300, 411, 522, 633, 744)


@pytest.fixture
def runner(tiny_gguf: Path) -> Iterator[LlamaModelRunner]:
    runner = LlamaModelRunner(EngineConfig(tiny_gguf, context_length=64, device=Device.CPU), check_gguf(tiny_gguf))
    yield runner
    runner.close()


def _item(number: int, params: SamplingParams, *, samples: bool = True, drafts: tuple[int, ...] = ()) -> BatchItem:
    ids = (*IDS[number % 5 :], *IDS[: number % 5])
    return BatchItem(Sequence(number, ids, params, 1), number, 0, ids, samples, drafts)


def _rows(runner: LlamaModelRunner, item: BatchItem) -> list[np.ndarray]:
    """The logits of the item's last token and of its drafts, as llama.cpp gives them for an index of the batch."""
    index = runner._starts[item.sequence.request_id] + len(item.tokens) - 1
    vocab_size = runner.info.vocab_size
    return [logits_at(runner._context, index + draft, vocab_size).copy() for draft in range(len(item.drafts) + 1)]


def _open(runner: LlamaModelRunner, *items: BatchItem) -> None:
    for item in items:
        runner.open_sampler(item.sequence.request_id, item.sequence.params, item.sequence.real_prompt_ids)


def test_each_sequence_gets_the_most_likely_token_of_its_own_rows(runner: LlamaModelRunner) -> None:
    items = (
        _item(0, PLAIN, samples=False),
        _item(1, PLAIN),
        _item(2, SamplingParams(max_tokens=9, temperature=0.0, logprobs=2)),
        _item(3, PLAIN, drafts=(350, 351)),
        _item(4, PLAIN),
    )
    _open(runner, *items)
    runner.decode(items)
    for item in items[1:]:
        rows = _rows(runner, item)
        sampled = [runner.sample(item, draft).token_id for draft in range(len(rows))]
        assert sampled == [int(row.argmax()) for row in rows]
        assert len({row.tobytes() for row in rows}) == len(rows)


def test_the_rows_of_the_step_before_are_not_used_again(runner: LlamaModelRunner) -> None:
    first, second = _item(1, PLAIN), _item(2, PLAIN)
    _open(runner, first, second)
    for item in (first, second):
        runner.decode((item,))
        (row,) = _rows(runner, item)
        assert runner.sample(item).token_id == int(row.argmax())


def test_an_end_that_is_held_back_gives_way_in_its_own_row_alone(runner: LlamaModelRunner) -> None:
    probe, free = _item(1, PLAIN), _item(6, PLAIN)
    _open(runner, probe)
    runner.decode((probe,))
    row = _rows(runner, probe)[0]
    best, next_best = np.argsort(-row, kind="stable")[:2].tolist()
    runner.stop_ids = frozenset({best})
    held = BatchItem(Sequence(2, probe.tokens, SamplingParams(max_tokens=9, temperature=0.0, min_tokens=3), 1), 2, 0,
                     probe.tokens, True)  # fmt: skip
    _open(runner, held, free)
    runner.decode((held, free))
    assert int(_rows(runner, held)[0].argmax()) == int(_rows(runner, free)[0].argmax()) == best
    assert runner.sample(held).token_id == next_best
    assert runner.sample(free).token_id == best
