"""The part of an answer that was already delivered, so that a new engine process can continue it. Pure."""

import hashlib
from dataclasses import replace

from glmserve.engine.messages import SampledToken, StepOutput, Submit
from glmserve.engine.params import SamplingParams

_SEEDS = 2**32 - 1
"""Seeds lie below this."""


class AnswerSoFar:
    """The outputs of one sequence over all processes that computed it, joined into one answer."""

    def __init__(self) -> None:
        """Nothing has been given so far."""
        self.token_ids: list[int] = []
        self.resumed = 0
        """How many further processes went on with it."""
        self._scores = 0
        """Tokens of the prompt whose log-probabilities were given."""
        self._scores_to_skip = 0
        self._last: StepOutput | None = None
        self._before: StepOutput | None = None
        """The last output of the processes before this one."""
        self._pause_seconds = 0.0

    @property
    def has_begun(self) -> bool:
        """Whether anything has been given."""
        return self._last is not None

    def add(self, output: StepOutput) -> StepOutput:
        """Return ``output`` as the reader is to get it. As cheap as can be: there is one for each token."""
        if self._before is not None:
            output = self._joined(output, self._before)
        self.token_ids += output.token_ids
        self._scores += len(output.prompt_logprobs)
        self._last = output
        return output

    def resume(self, request: Submit, pause_seconds: float) -> Submit:
        """Return the request for a new process, so that its outputs continue the answer of ``request``.

        Args:
            request: what the first process was asked.
            pause_seconds: how long nobody computed it.
        """
        if self._last is None:
            return request
        self.resumed += 1
        self._before, self._pause_seconds = self._last, pause_seconds
        self._scores_to_skip = 0 if self.token_ids else self._scores
        prompt = (*request.prompt_ids, *self.token_ids)
        params = _params_after(request.params, len(self.token_ids))
        return replace(request, prompt_ids=prompt, params=params, answered=len(self.token_ids))

    def _joined(self, output: StepOutput, before: StepOutput) -> StepOutput:
        return replace(
            output,
            cached_tokens=before.cached_tokens,
            prompt_logprobs=self._new_scores(output.prompt_logprobs),
            queue_seconds=before.queue_seconds,
            run_seconds=before.run_seconds + self._pause_seconds + output.queue_seconds + output.run_seconds,
        )

    def _new_scores(self, scores: tuple[SampledToken, ...]) -> tuple[SampledToken, ...]:
        """Return the prompt's ``scores`` without the ones that an earlier process gave."""
        skipped = min(self._scores_to_skip, len(scores))
        self._scores_to_skip -= skipped
        return scores[skipped:]


def _params_after(params: SamplingParams, answered: int) -> SamplingParams:
    """Return how the rest of an answer is sampled, of which there are ``answered`` tokens."""
    if not answered:
        return params
    return replace(
        params,
        max_tokens=max(1, params.max_tokens - answered),
        min_tokens=max(0, params.min_tokens - answered),
        seed=None if params.seed is None else _seed_after(params.seed, answered),
        prompt_logprobs=None,
    )


def _seed_after(seed: int, answered: int) -> int:
    """Return a seed for the rest of an answer: with the same one the same numbers would be drawn again."""
    digest = hashlib.blake2b(f"{seed} {answered}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % _SEEDS
