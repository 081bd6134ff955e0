"""SamplingParams to a native sampler chain, and the log-probabilities of sampled and given tokens."""

from __future__ import annotations

import ctypes
import secrets
from collections.abc import Mapping

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from glmserve.engine.grammar_backend import Constraint, GrammarError
from glmserve.engine.llama.token_batch import BatchLogits
from glmserve.engine.messages import GRAMMAR_FAILED, SampledToken
from glmserve.engine.model_runner import SampleError
from glmserve.engine.params import SamplingParams


def score(logits: NDArray[np.float32], token_id: int, top: int) -> SampledToken:
    """Return ``token_id`` and the ``top`` most probable tokens with their natural log-probabilities.

    It is the model's own distribution that counts, before biases, penalties and temperature.

    Args:
        logits: one row, as the model gave it; it is not changed.
        token_id: a token of the vocabulary.
        top: how many of the most probable tokens to list.
    """
    best = float(logits.max())
    total = best + float(np.log(np.exp(logits - best).sum(dtype=np.float64)))
    listed = (SampledToken(int(i), float(logits[i]) - total) for i in _most_probable(logits, top))
    return SampledToken(token_id, float(logits[token_id]) - total, tuple(listed))


def _most_probable(logits: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    if not count:
        return np.empty(0, np.intp)
    found = np.argpartition(logits, -count)[-count:] if count < logits.size else np.arange(logits.size)
    return found[np.lexsort((found, -logits[found]))]


class Sampler:
    """The chain of one sequence: biases, penalties, temperature, top_k, top_p, min_p, then the draw."""

    def __init__(
        self,
        params: SamplingParams,
        prompt_ids: tuple[int, ...],
        vocab_size: int,
        stop_ids: frozenset[int],
        window: int,
        *,
        answered: int = 0,
        constraint: Constraint | None = None,
    ) -> None:
        """Build the chain.

        Args:
            params: how to sample.
            prompt_ids: the prompt, and the tokens of the answer that are there already.
            vocab_size: how many tokens there are.
            stop_ids: end-of-generation tokens.
            window: how many tokens back the penalties look.
            answered: how many of the last ``prompt_ids`` are of the answer.
            constraint: what the answer has to follow; it has followed these tokens.
        """
        self._constraint = constraint
        self._stop_ids = sorted(stop_ids)
        self._ban_until = params.max_tokens + 1 if params.ignore_eos else params.min_tokens
        self._sampled = 0
        self._logprobs = params.logprobs
        self._banned = bool(self._ban_until and stop_ids)
        self._plain = _is_plain(params)
        self._chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
        if self._banned:
            self._add(_biases(dict.fromkeys(stop_ids, float("-inf")), vocab_size))
        if params.logit_bias:
            self._add(_biases(dict(params.logit_bias), vocab_size))
        if params.repetition_penalty != 1.0:
            self._add(_penalties(prompt_ids, vocab_size, window, repetition=params.repetition_penalty))
        if params.frequency_penalty or params.presence_penalty:
            answer_ids = prompt_ids[len(prompt_ids) - answered :]
            penalties = (params.frequency_penalty, params.presence_penalty)
            self._add(_penalties(answer_ids, vocab_size, window, of_answer=penalties))
        for part in _draw(params):
            self._add(part)

    def sample(self, logits: BatchLogits, index: int) -> SampledToken:
        """Draw the token that follows the batch's token at ``index``, and remember it. Raises SampleError."""
        if self._banned and self._sampled >= self._ban_until:
            llama_cpp.llama_sampler_free(llama_cpp.llama_sampler_chain_remove(self._chain, 0))
            self._banned = False
        self._sampled += 1
        if self._constraint is not None:
            try:
                return self._sample_within(self._constraint, logits, index)
            except GrammarError as error:
                raise SampleError(f"{GRAMMAR_FAILED}{error}") from None
        if self._plain:
            return SampledToken(self._most_likely(logits, index))
        token = int(llama_cpp.llama_sampler_sample(self._chain, logits.context, index))
        return SampledToken(token) if self._logprobs is None else score(logits.row(index), token, self._logprobs)

    def _most_likely(self, logits: BatchLogits, index: int) -> int:
        """Return the result of a greedy chain."""
        token = logits.most_likely(index)
        if not self._banned or token not in self._stop_ids:
            return token
        row = logits.row(index)
        for stop in self._stop_ids:  # an index of a list takes four times as long
            row[stop] = -np.inf
        return int(row.argmax())

    def _sample_within(self, constraint: Constraint, batch: BatchLogits, index: int) -> SampledToken:
        logits = batch.row(index)
        model_logits = logits if self._logprobs is None else logits.copy()
        allowed = constraint.allowed()
        np.copyto(logits, -np.inf, where=~allowed)
        stops = [token for token in self._stop_ids if allowed[token]]
        if np.count_nonzero(allowed) == len(stops):
            # Ends that are held back would leave nothing to draw from, so the answer is over all the same.
            if not stops:
                raise GrammarError("no token of the vocabulary fits")
            token = max(stops, key=logits.__getitem__)
        else:
            token = int(llama_cpp.llama_sampler_sample(self._chain, batch.context, index))
        constraint.accept(token)
        scored = SampledToken(token) if self._logprobs is None else score(model_logits, token, self._logprobs)
        return scored._replace(final=constraint.is_over)

    def close(self) -> None:
        """Free the chain and all in it."""
        llama_cpp.llama_sampler_free(self._chain)

    def _add(self, part: llama_cpp.llama_sampler_p) -> None:
        # A NULL from ctypes is a falsy pointer, not None, and adding one to a chain is a crash.
        if not part:
            raise RuntimeError("llama.cpp could not make a sampler")
        llama_cpp.llama_sampler_chain_add(self._chain, part)


def _is_plain(params: SamplingParams) -> bool:
    """Whether sampling is greedy without any other parameter."""
    changed = params.logit_bias or params.frequency_penalty or params.presence_penalty
    return params.temperature == 0.0 and params.repetition_penalty == 1.0 and not changed and params.logprobs is None


def _biases(by_token: Mapping[int, float], vocab_size: int) -> llama_cpp.llama_sampler_p:
    # llama.cpp looks through the whole vocabulary for a token that it does not have.
    known = {token: bias for token, bias in by_token.items() if 0 <= token < vocab_size}
    biases = (llama_cpp.llama_logit_bias * len(known))(*known.items())
    return llama_cpp.llama_sampler_init_logit_bias(
        vocab_size, len(known), ctypes.cast(biases, llama_cpp.llama_logit_bias_p)
    )


def _penalties(
    seen_ids: tuple[int, ...],
    vocab_size: int,
    window: int,
    *,
    repetition: float = 1.0,
    of_answer: tuple[float, float] = (0.0, 0.0),
) -> llama_cpp.llama_sampler_p:
    """Penalties on ``seen_ids``. That on repetition sees the prompt and the others do not: they are two samplers."""
    part = llama_cpp.llama_sampler_init_penalties(vocab_size, window, repetition, *of_answer)
    for token in seen_ids[-window:]:
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
