"""What a model answers, found by the plainest loop over llama_decode: one sequence, one token at a time."""

from collections.abc import Sequence
from pathlib import Path

import llama_cpp
import numpy as np

from tests.support.native import loaded

NEAR_TIE = 0.02
"""Of the spread of the logits: closer tokens may change places in a batch of another size."""


def greedy_answers(path: Path, prompts: Sequence[Sequence[int]], count: int) -> list[list[int]]:
    """Return the most probable tokens after each prompt, up to ``count`` or to the first near tie."""
    with loaded(path) as model:
        return [_answer(model, prompt, count) for prompt in prompts]


def _answer(model: llama_cpp.llama_model_p, prompt: Sequence[int], count: int) -> list[int]:
    params = llama_cpp.llama_context_default_params()
    params.n_ctx, params.n_seq_max, params.n_threads = len(prompt) + count + 8, 1, 1
    context = llama_cpp.llama_init_from_model(model, params)
    size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    found: list[int] = []
    try:
        known = list(prompt)
        for at in range(len(prompt) + count - 1):
            one = (llama_cpp.llama_token * 1)(known[at])
            if llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(one, 1)) != 0:
                raise RuntimeError("llama_decode failed")
            if at + 1 < len(known):
                continue
            row = np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context, -1), shape=(size,))
            assert np.isfinite(row).all(), "the random weights are of no use"
            second, first = np.argpartition(row, -2)[-2:]
            if row[first] - row[second] < NEAR_TIE * row.std():
                break
            found.append(int(first))
            known.append(int(first))
        return found
    finally:
        llama_cpp.llama_free(context)
