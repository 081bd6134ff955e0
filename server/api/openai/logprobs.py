"""Log-probabilities in OpenAI's shape."""

import math

from glmserve.api.openai.response_types import Logprobs, TokenLogprobObject
from glmserve.generation.logprobs import PieceLogprob, TokenLogprob

_IMPOSSIBLE = -9999.0
"""OpenAI's word for a token that has no probability."""


def logprobs_object(tokens: tuple[TokenLogprob, ...]) -> Logprobs | None:
    """Return the log-probabilities of an answer or of a piece of it; null where none are asked for."""
    if not tokens:
        return None
    return {
        "content": [{**_object(token), "top_logprobs": [_object(rival) for rival in token.top]} for token in tokens],
        "refusal": None,
    }


def shown_piece(token: PieceLogprob) -> str:
    """Return a token as text; half a character is shown as the replacement character."""
    return token.piece.decode("utf-8", "replace")


def finite_logprob(token: PieceLogprob) -> float:
    """Return the log-probability as JSON can hold it."""
    value = token.logprob
    return value if value is not None and math.isfinite(value) else _IMPOSSIBLE


def _object(token: PieceLogprob) -> TokenLogprobObject:
    return {"token": shown_piece(token), "logprob": finite_logprob(token), "bytes": list(token.piece)}
