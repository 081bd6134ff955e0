"""Log-probabilities out of a row of logits. Pure."""

import numpy as np
from numpy.typing import NDArray

from glmserve.engine.messages import SampledToken, TokenLogprob


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
    listed = (TokenLogprob(int(i), float(logits[i]) - total) for i in _most_probable(logits, top))
    return SampledToken(token_id, float(logits[token_id]) - total, tuple(listed))


def _most_probable(logits: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    if not count:
        return np.empty(0, np.intp)
    found = np.argpartition(logits, -count)[-count:] if count < logits.size else np.arange(logits.size)
    return found[np.lexsort((found, -logits[found]))]
