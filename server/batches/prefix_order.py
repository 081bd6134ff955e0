"""The order in which the lines of a batch are computed: lines with one beginning follow one another. Pure.

The engine computes a shared beginning once, as long as it is in the prefix cache. In the order of the file a few
instructions that alternate would evict one another.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

_DIGEST_BYTES = 8
_BLOCK = 128
"""Characters of a text that are compared at once."""
_BLOCKS = 4
"""Of the last text of a prompt, whose beginning may be shared as well."""
_MOST_TEXTS = 8
_FIELDS = ("model", "instructions", "prompt", "input", "messages")
"""Fields that a prompt is made of. A task of /v1/responses is an object in prompt."""

Key = tuple[bytes, ...]
"""Digests of ever longer beginnings of a prompt: two prompts share a beginning as far as these are equal."""


def prefix_key(body: Mapping[str, object]) -> Key:
    """Return a key for the beginning of the prompt of a request."""
    texts = [text for name in _FIELDS for text in islice(_texts(body.get(name)), _MOST_TEXTS)]
    *whole, last = texts[:_MOST_TEXTS] or [""]
    blocks = [last[start : start + _BLOCK] for start in range(0, min(len(last), _BLOCK * _BLOCKS), _BLOCK)]
    key, digest = [], b""
    for text in (*whole, *blocks):
        content = digest + text.encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest()
        key.append(digest)
    return tuple(key)


def _texts(value: object) -> Iterable[str]:
    if value is None:
        return ()
    return map(_flat, value) if isinstance(value, list) else (_flat(value),)


def _flat(value: object) -> str:
    """Return a text, or a message as a text that begins with its role and content."""
    if isinstance(value, str):
        return value
    try:
        named = value if isinstance(value, dict) else {}
        return "\n".join(str(named[name]) for name in ("id", "role", "content") if name in named) or repr(value)
    except RecursionError:
        return ""


def in_prefix_order(keys: Sequence[Key]) -> list[int]:
    """Return the indices of ``keys`` so that prompts with a common beginning stand together.

    Groups, and the members of each, stay in the order in which they first appear.
    """
    first: dict[bytes, int] = {}
    for index, key in enumerate(keys):
        for digest in key:
            first.setdefault(digest, index)
    return sorted(range(len(keys)), key=lambda index: (*(first[digest] for digest in keys[index]), index))
