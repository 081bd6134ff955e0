"""The native sampler chain against the same arithmetic in numpy: what each parameter leaves of a distribution."""

import ctypes
from collections.abc import Iterator
from dataclasses import replace

import llama_cpp
import numpy as np
import pytest
from typing_extensions import Unpack

from glmserve.engine.llama.sampler import Sampler
from glmserve.engine.params import SamplingParams
from tests.support.changes import SamplingChanges

LOGITS = np.array([2.0, 1.5, 1.0, 0.5, 0.0, -0.5, -1.0, -4.0], np.float32)
STOP = 1


@pytest.fixture
def samplers() -> Iterator[list[Sampler]]:
    made: list[Sampler] = []
    yield made
    for sampler in made:
        sampler.close()


def _kept(sampler: Sampler, logits: np.ndarray = LOGITS) -> dict[int, float]:
    """Probability of each token that the chain leaves over before it draws."""
    data = (llama_cpp.llama_token_data * len(logits))()
    for token, logit in enumerate(logits):
        data[token] = llama_cpp.llama_token_data(token, float(logit), 0.0)
    array = llama_cpp.llama_token_data_array(data, len(logits), -1, False)
    llama_cpp.llama_sampler_apply(sampler._chain, ctypes.byref(array))
    kept = {array.data[i].id: array.data[i].logit for i in range(array.size) if np.isfinite(array.data[i].logit)}
    weights = {token: np.exp(logit) for token, logit in kept.items()}
    return {token: weight / sum(weights.values()) for token, weight in weights.items()}


def _make(samplers: list[Sampler], prompt: tuple[int, ...] = (), **changes: Unpack[SamplingChanges]) -> Sampler:
    params = replace(SamplingParams(max_tokens=9, seed=1), **changes)
    sampler = Sampler(params, prompt, len(LOGITS), frozenset({STOP}), 64)
    samplers.append(sampler)
    return sampler


def _softmax(logits: np.ndarray) -> dict[int, float]:
    weights = np.exp(logits - logits.max())
    return dict(enumerate(weights / weights.sum()))


def _renormalised(probabilities: dict[int, float]) -> dict[int, float]:
    total = sum(probabilities.values())
    return {token: p / total for token, p in probabilities.items()}


def test_temperature_divides_the_logits(samplers: list[Sampler]) -> None:
    assert _kept(_make(samplers, temperature=0.5)) == pytest.approx(_softmax(LOGITS / 0.5), abs=1e-5)


def test_top_k_keeps_the_k_most_likely(samplers: list[Sampler]) -> None:
    expected = _renormalised({t: p for t, p in _softmax(LOGITS).items() if t < 3})
    assert _kept(_make(samplers, top_k=3)) == pytest.approx(expected, abs=1e-5)


def test_top_p_keeps_the_fewest_that_reach_p_after_temperature_and_top_k(samplers: list[Sampler]) -> None:
    """The order of the model's authors: at temperature 0.5 and top_k 4, two tokens hold more than 0.8; else three."""
    warm = _renormalised({t: p for t, p in _softmax(LOGITS / 0.5).items() if t < 4})
    assert warm[0] < 0.8 < warm[0] + warm[1]
    kept = _kept(_make(samplers, temperature=0.5, top_k=4, top_p=0.8))
    assert kept == pytest.approx(_renormalised({t: warm[t] for t in (0, 1)}), abs=1e-5)
    assert set(_kept(_make(samplers, temperature=1.0, top_k=4, top_p=0.8))) == {0, 1, 2}


def test_min_p_drops_what_is_unlikely_beside_the_best(samplers: list[Sampler]) -> None:
    assert set(_kept(_make(samplers, min_p=0.2))) == {0, 1, 2, 3}


def test_a_repetition_penalty_divides_what_the_prompt_holds_as_transformers_does(samplers: list[Sampler]) -> None:
    expected = LOGITS.copy()
    expected[0] /= 1.5
    expected[7] *= 1.5
    kept = _kept(_make(samplers, prompt=(0, 7, 7), repetition_penalty=1.5))
    assert kept == pytest.approx(_softmax(expected), abs=1e-5)


def test_presence_and_frequency_penalties_look_at_the_answer_alone(samplers: list[Sampler]) -> None:
    sampler = _make(samplers, prompt=(3, 3), presence_penalty=0.5, frequency_penalty=0.25)
    assert _kept(sampler) == pytest.approx(_softmax(LOGITS), abs=1e-5)
    for token in (0, 0, 2):
        llama_cpp.llama_sampler_accept(sampler._chain, token)
    expected = LOGITS.copy()
    expected[0] -= 0.5 + 2 * 0.25
    expected[2] -= 0.5 + 0.25
    assert _kept(sampler) == pytest.approx(_softmax(expected), abs=1e-5)


@pytest.mark.parametrize("held_back", [{"min_tokens": 1}, {"ignore_eos": True}])
def test_end_tokens_are_impossible_while_they_are_held_back(
    samplers: list[Sampler], held_back: SamplingChanges
) -> None:
    assert STOP in _kept(_make(samplers))
    assert STOP not in _kept(_make(samplers, **held_back))
