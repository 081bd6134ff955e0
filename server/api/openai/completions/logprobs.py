"""Log-probabilities in the shape of text completions: lists side by side, an entry for each token."""

from collections.abc import Iterable

from glmserve.api.openai.completions.response_types import LegacyLogprobs
from glmserve.api.openai.logprobs import finite_logprob
from glmserve.generation.logprobs import PieceLogprob, TokenLogprob
from glmserve.model_pool.host import Tokenizer


def legacy_logprobs(tokens: Iterable[TokenLogprob], tokenizer: Tokenizer, *, top: int, offset: int) -> LegacyLogprobs:
    """Return the entries of ``tokens``.

    Args:
        tokens: in their order.
        tokenizer: that they are of; it has the names of those without text.
        top: how many of the likeliest tokens were asked for; with 0 there is no ``top_logprobs``.
        offset: characters of the text before the first of ``tokens``.
    """
    listed = tuple(tokens)
    return {
        "tokens": [_text(token, tokenizer) for token in listed],
        "token_logprobs": [None if token.logprob is None else finite_logprob(token) for token in listed],
        "top_logprobs": [_rivals(token, tokenizer) for token in listed] if top else None,
        "text_offset": [offset + token.offset for token in listed],
    }


def joined(first: LegacyLogprobs, second: LegacyLogprobs) -> LegacyLogprobs:
    """Return the entries of both, one after the other."""
    tops = (first["top_logprobs"], second["top_logprobs"])
    return {
        "tokens": first["tokens"] + second["tokens"],
        "token_logprobs": first["token_logprobs"] + second["token_logprobs"],
        "top_logprobs": None if None in tops else [entry for part in tops if part for entry in part],
        "text_offset": first["text_offset"] + second["text_offset"],
    }


def _rivals(token: TokenLogprob, tokenizer: Tokenizer) -> dict[str, float] | None:
    """Return the likeliest tokens and the token itself; of two that are spelled alike, the likelier one."""
    if token.logprob is None:
        return None
    rivals: dict[str, float] = {}
    for rival in (*token.top, token):
        rivals.setdefault(_text(rival, tokenizer), finite_logprob(rival))
    return rivals


def _text(token: PieceLogprob, tokenizer: Tokenizer) -> str:
    if not token.piece and not tokenizer.piece(token.token_id):
        return tokenizer.name(token.token_id)
    try:
        return token.piece.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token.piece)
