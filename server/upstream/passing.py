"""Requests that are passed to an upstream as they are, and its replies: the changes that are made in them. Pure."""

import hashlib
from collections.abc import Mapping

from glmserve.upstream.replies import Json

_YES = frozenset({"true", "1", "1.0", "t", "yes", "y", "on"})
_LIMITS = ("max_tokens", "max_completion_tokens")


def passed_body(
    body: Json, model: str, *, generates: bool, most_tokens: int = 0, prefix_owner: str = ""
) -> dict[str, object]:
    """Return the body for the upstream.

    Args:
        body: the caller's.
        model: the upstream's name of the model.
        generates: it asks for an answer, whose tokens are to be counted where it streams.
        most_tokens: upper limit of an answer's tokens; 0 is none.
        prefix_owner: key that alone may find the prompt in the upstream's prefix cache; empty shares it.
    """
    passed = {**body, "model": model}
    if not generates:
        return passed
    if streams(body):
        passed["stream"] = True
        options = body.get("stream_options")
        passed["stream_options"] = {**(options if isinstance(options, Mapping) else {}), "include_usage": True}
    if prefix_owner:
        passed["cache_salt"] = salt(prefix_owner, body.get("cache_salt"))
    return _limited(passed, most_tokens) if most_tokens else passed


def streams(body: Json) -> bool:
    """Return whether an answer is to be streamed, in each spelling that vLLM and SGLang read so."""
    value = body.get("stream")
    return str(value).lower() in _YES if isinstance(value, bool | int | float | str) else False


def salt(owner: str, own: object) -> str:
    """Return the salt of a prompt that only ``owner`` may find, among the owner's prompts of the same salt."""
    return hashlib.sha256(f"{owner}\0{own if isinstance(own, str) else ''}".encode()).hexdigest()[:32]


def _limited(body: dict[str, object], most: int) -> dict[str, object]:
    given = {name: body[name] for name in _LIMITS if body.get(name) is not None}
    if not given:
        return {**body, "max_tokens": most}
    return {**body, **{name: _at_most(value, most) for name, value in given.items()}}


def _at_most(value: object, most: int) -> object:
    """Return a limit; some servers take one below 1 for none. The upstream checks its type."""
    if not isinstance(value, int):
        return value
    return min(value, most) if value > 0 else most


def wants_usage(body: Json) -> bool:
    """Return whether the caller of a stream asks for the token counts."""
    options = body.get("stream_options")
    return isinstance(options, Mapping) and bool(options.get("include_usage"))


def shown_chunk(chunk: Json, model: str, *, usage: bool) -> dict[str, object] | None:
    """Return a chunk for the caller, to whom the model is ``model``; None for one with nothing but unasked counts."""
    shown = {**chunk, "model": model}
    if usage:
        return shown
    had = shown.pop("usage", None)
    return None if had is not None and not chunk.get("choices") else shown
