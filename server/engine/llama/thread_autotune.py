"""Finds by trial how many threads generate fastest with a model that is loaded."""

from __future__ import annotations

import logging
import time
from dataclasses import replace

import llama_cpp

from glmserve.engine.errors import ModelLoadError
from glmserve.engine.llama.cpu_topology import best, measure
from glmserve.engine.llama.placement import Placement

log = logging.getLogger(__name__)

TRIAL_SECONDS = 1.0
"""No step is begun after; one step of a 6B model takes 0.05 s on sixteen cores and 0.3 s on two."""


def settle_threads(context: llama_cpp.llama_context_p, placement: Placement) -> Placement:
    """Measure and set the numbers of threads that ``placement`` leaves open. ``context`` is empty before and after.

    Raises:
        ModelLoadError: the model cannot compute a token.
    """
    if not placement.threads_to_try:
        return placement
    token = (llama_cpp.llama_token * 1)(0)

    def step(threads: int) -> None:
        llama_cpp.llama_set_n_threads(context, threads, placement.threads_batch)
        if code := llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(token, 1)):
            raise ModelLoadError(f"the model was loaded, but computing a token failed: llama_decode answered {code}")

    step(placement.threads)  # the first step touches all weights for the first time
    seconds = measure(step, placement.threads_to_try, TRIAL_SECONDS, time.monotonic)
    llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), False)
    threads = best(seconds)
    llama_cpp.llama_set_n_threads(context, threads, placement.threads_batch)
    figures = ", ".join(f"{number} threads {1000 * best_of:.1f} ms" for number, best_of in sorted(seconds.items()))
    log.info("generating with %d threads; measured times per token: %s", threads, figures)
    return replace(placement, threads=threads)
