"""What the self-test finds, with arithmetic in the place of a model."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from glmserve.engine.errors import SelfTestFailed
from glmserve.engine.llama.self_test import MOST_NOISE, check_batches, check_sequences, check_vectors

TOKENS = tuple(range(33))
Rows = NDArray[np.float32]


class Model:
    """Outputs depend on the position and on how much is cached; ``change`` spoils those of a batch."""

    def __init__(self, change: Callable[[Rows], Rows] = lambda rows: rows) -> None:
        self._change = change
        self.cached = 0
        self.batches: list[int] = []

    def compute(self, ids: tuple[int, ...], start: int) -> Rows:
        assert start == self.cached
        self.cached += len(ids)
        self.batches.append(len(ids))
        rows = [np.random.default_rng(start + i).normal(size=500) for i in range(len(ids))]
        return self._change(np.array(rows, np.float32))

    def forget_from(self, position: int) -> None:
        assert position <= self.cached
        self.cached = position


def _in_batches_of(size: int, change: Callable[[Rows], Rows]) -> Callable[[Rows], Rows]:
    return lambda rows: change(rows) if len(rows) == size else rows


def test_a_right_model_passes_and_its_cache_is_empty_after() -> None:
    model = Model()
    assert check_batches(model.compute, model.forget_from, TOKENS) == 0.0
    assert model.cached == 0
    assert {1, 2, 8, 33} <= set(model.batches)


@pytest.mark.parametrize("size", [1, 2, 8, 33])
def test_one_wrong_row_in_batches_of_one_size_is_found(size: int) -> None:
    def spoil(rows: Rows) -> Rows:
        rows[-1] = np.random.default_rng(99).normal(size=500)
        return rows

    model = Model(_in_batches_of(size, spoil))
    with pytest.raises(SelfTestFailed, match=r"differ by 1\d\d%"):
        check_batches(model.compute, model.forget_from, TOKENS)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("row", [0, 20])
def test_a_value_that_is_no_number_is_found_in_any_row(value: float, row: int) -> None:
    def spoil(rows: Rows) -> Rows:
        rows[row, 7] = value
        return rows

    model = Model(_in_batches_of(33, spoil))
    with pytest.raises(SelfTestFailed, match="not finite"):
        check_batches(model.compute, model.forget_from, TOKENS)


@pytest.mark.parametrize(("share", "passes"), [(0.7, True), (1.3, False)])
def test_noise_counts_by_its_share_of_the_spread(share: float, passes: bool) -> None:
    noise = np.random.default_rng(7).normal(size=500) * share * MOST_NOISE
    model = Model(_in_batches_of(8, lambda rows: np.float32(rows + noise)))
    if passes:
        assert check_batches(model.compute, model.forget_from, TOKENS) == pytest.approx(share * MOST_NOISE, rel=0.1)
    else:
        with pytest.raises(SelfTestFailed, match="batches of 8 and 33"):
            check_batches(model.compute, model.forget_from, TOKENS)


@pytest.mark.parametrize("length", [1, 2, 9, 10])
def test_a_short_context_is_tested_with_what_fits(length: int) -> None:
    model = Model()
    check_batches(model.compute, model.forget_from, TOKENS[:length])
    assert model.cached == 0


def test_a_model_whose_outputs_are_all_equal_is_not_wrong() -> None:
    model = Model(np.zeros_like)
    assert check_batches(model.compute, model.forget_from, TOKENS) == 0.0


def _together(change: Callable[[Rows], Rows]) -> Callable[[tuple[tuple[int, ...], ...], int], Rows]:
    def compute(inputs: tuple[tuple[int, ...], ...], start: int) -> Rows:
        rows = np.array([np.random.default_rng(token).normal(size=500) for ids in inputs for token in ids], np.float32)
        assert start in (0, 2)
        return change(rows) if len(inputs) > 1 else rows

    return compute


@pytest.mark.parametrize("rows", [4, 2])
def test_sequences_that_are_confused_in_common_batches_are_found(rows: int) -> None:
    """As by llama.cpp's AMX kernels, in models with a running state: each answer had the other one's beginning."""
    forgotten: list[bool] = []
    assert check_sequences(_together(lambda right: right), lambda: forgotten.append(True), TOKENS) == 0.0
    assert len(forgotten) == 3
    confused = _together(_in_batches_of(rows, lambda right: np.roll(right, 1, axis=0)))
    with pytest.raises(SelfTestFailed, match="one and of two sequences"):
        check_sequences(confused, lambda: None, TOKENS)
    assert check_sequences(confused, lambda: None, TOKENS[:5]) == 0.0


def test_vectors_are_compared_alone_and_together() -> None:
    def vector(ids: tuple[int, ...], number: int) -> bytes:
        return np.random.default_rng(len(ids) + number).normal(size=64).astype(np.float32).tobytes()

    check_vectors(lambda inputs: tuple(vector(ids, 0) for ids in inputs), TOKENS)
    with pytest.raises(SelfTestFailed, match="differ"):
        check_vectors(lambda inputs: tuple(vector(ids, len(inputs)) for ids in inputs), TOKENS)
