"""SamplingParams -> a native sampler chain."""

from __future__ import annotations

import ctypes
import secrets

import llama_cpp

from server.engine.messages import SampledToken
from server.engine.params import SamplingParams


class Sampler:
    """The chain of one sequence: penalties, temperature, top_k, top_p, min_p, then the draw."""

    def __init__(
        self,
        params: SamplingParams,
        prompt_ids: tuple[int, ...],
        vocab_size: int,
        stop_ids: frozenset[int],
        window: int,
    ) -> None:
        """Build the chain. ``window`` is how many tokens back the penalties look."""
        self._ban_until = params.max_tokens + 1 if params.ignore_eos else params.min_tokens
        self._sampled = 0
        self._banned = bool(self._ban_until and stop_ids)
        self._chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
        if self._banned:
            self._add(_ban(stop_ids, vocab_size))
        if params.repetition_penalty != 1.0:
            self._add(_repetition(params.repetition_penalty, prompt_ids, vocab_size, window))
        if params.frequency_penalty or params.presence_penalty:
            penalties = (params.frequency_penalty, params.presence_penalty)
            self._add(llama_cpp.llama_sampler_init_penalties(vocab_size, window, 1.0, *penalties))
        for part in _draw(params):
            self._add(part)

    def sample(self, context: llama_cpp.llama_context_p, index: int) -> SampledToken:
        """Draw the token that follows the batch's token at ``index``, and remember it."""
        if self._banned and self._sampled >= self._ban_until:
            llama_cpp.llama_sampler_free(llama_cpp.llama_sampler_chain_remove(self._chain, 0))
            self._banned = False
        self._sampled += 1
        return SampledToken(int(llama_cpp.llama_sampler_sample(self._chain, context, index)))

    def close(self) -> None:
        """Free the chain and all in it."""
        llama_cpp.llama_sampler_free(self._chain)

    def _add(self, part: llama_cpp.llama_sampler_p) -> None:
        # A NULL from ctypes is a falsy pointer, not None, and adding one to a chain is a crash.
        if not part:
            raise RuntimeError("llama.cpp could not make a sampler")
        llama_cpp.llama_sampler_chain_add(self._chain, part)


def _ban(stop_ids: frozenset[int], vocab_size: int) -> llama_cpp.llama_sampler_p:
    biases = (llama_cpp.llama_logit_bias * len(stop_ids))()
    for bias, token in zip(biases, sorted(stop_ids), strict=True):
        bias.token, bias.bias = token, float("-inf")
    return llama_cpp.llama_sampler_init_logit_bias(
        vocab_size, len(stop_ids), ctypes.cast(biases, llama_cpp.llama_logit_bias_p)
    )


def _repetition(penalty: float, prompt_ids: tuple[int, ...], vocab_size: int, window: int) -> llama_cpp.llama_sampler_p:
    """A penalty that has seen the prompt: the others must not, so it is a sampler of its own."""
    part = llama_cpp.llama_sampler_init_penalties(vocab_size, window, penalty, 0.0, 0.0)
    for token in prompt_ids[-window:]:
        llama_cpp.llama_sampler_accept(part, token)
    return part


def _draw(params: SamplingParams) -> list[llama_cpp.llama_sampler_p]:
    if params.temperature == 0.0:
        return [llama_cpp.llama_sampler_init_greedy()]
    parts = [llama_cpp.llama_sampler_init_temp(params.temperature)]
    if params.top_k:
        parts.append(llama_cpp.llama_sampler_init_top_k(params.top_k))
    if params.top_p < 1.0:
        parts.append(llama_cpp.llama_sampler_init_top_p(params.top_p, 1))
    if params.min_p > 0.0:
        parts.append(llama_cpp.llama_sampler_init_min_p(params.min_p, 1))
    seed = secrets.randbits(32) if params.seed is None else params.seed
    parts.append(llama_cpp.llama_sampler_init_dist(seed))
    return parts
