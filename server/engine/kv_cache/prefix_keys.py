"""Keys of tokens in the prefix cache, so that a caller matches only prompts it may share. Pure.

``cached_tokens``, and the time of a first token, tell how much of a prompt was computed before. Where callers shared
all of it, one could find out what another had asked, a digit at a time. So a token has another key for each owner, and
prompts of different owners have nothing in common but

- what the operator declared public (pinned prefixes), to the token: it has no secret;
- what a prompt declares common (its system message), as a whole: its keys depend on all of its tokens, so that a guess
  that is wrong anywhere finds nothing.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import count

from glmserve.engine.kv_cache.prefix_cache import common_prefix
from glmserve.engine.messages import PrefixScope

_SALT_BITS = 64
"""Above every token id with the salt of its adapter."""


class PrefixKeys:
    """Gives prompts their keys."""

    def __init__(self, secret: bytes, nonce: str = "") -> None:
        """``secret`` keeps callers from choosing names that fall together; ``nonce`` tells this process from others."""
        self._secret = secret
        self._nonce = nonce
        self._numbers = count()
        self._public: list[tuple[int, ...]] = []

    def declare_public(self, tokens: tuple[int, ...]) -> None:
        """Let all callers share the beginnings of ``tokens``, which carry the adapter's salt."""
        if tokens not in self._public:
            self._public.append(tokens)

    def of(
        self, tokens: tuple[int, ...], scope: PrefixScope, num_prefix_tokens: int = 0, *, chunk: int = 0
    ) -> tuple[tuple[int, ...], int]:
        """Return the keys of a prompt, and the number that is added to each token after it.

        Args:
            tokens: the prompt, as the adapter has it.
            scope: with whom it is shared.
            num_prefix_tokens: how many of them stand for a P-Tuning prefix, which is public.
            chunk: of a repeatable prompt, how many tokens are shared together or not at all; 0 for others. What follows
                the last whole chunk, and the answer, is not shared.
        """
        if chunk:  # it starts only from cells that were computed as its own are
            scope = replace(scope, salt=f"{scope.salt}\0chunks")
        if not (scope.owner or scope.bucket or scope.salt):
            return tokens, 0
        public = max(num_prefix_tokens, self._public_length(tokens))
        common = max(public, min(len(tokens), num_prefix_tokens + scope.common) if scope.common else 0)
        whole = self._salt("common", scope.salt, *map(str, tokens[:common])) if common > public else 0
        own = self._salt("own", scope.salt, scope.owner, scope.bucket)
        keys = (
            *tokens[:public],
            *(token + whole for token in tokens[public:common]),
            *(token + own for token in tokens[common:]),
        )
        return self._in_chunks(tokens, keys, public, own, chunk) if chunk else (keys, own)

    def _in_chunks(
        self, tokens: tuple[int, ...], keys: tuple[int, ...], public: int, own: int, size: int
    ) -> tuple[tuple[int, ...], int]:
        """Have each key depend on all tokens of its chunk. The last token is computed again, and so is its chunk."""
        whole = max(public, (len(tokens) - 1) // size * size)
        chunks = [self._salt("chunk", repr(tokens[start : start + size])) for start in range(0, whole, size)]
        lone = self._salt("lone", self._nonce, str(next(self._numbers)))
        of_chunks = (keys[at] + chunks[at // size] for at in range(public, whole))
        return (*keys[:public], *of_chunks, *(key + lone for key in keys[whole:])), own + lone

    def _public_length(self, tokens: tuple[int, ...]) -> int:
        return max((common_prefix(tokens, public) for public in self._public), default=0)

    def _salt(self, *parts: str) -> int:
        digest = hashlib.blake2b(_unambiguous(parts), digest_size=8, key=self._secret).digest()
        return (int.from_bytes(digest, "little") + 1) << _SALT_BITS


def _unambiguous(parts: Iterable[str]) -> bytes:
    encoded = [part.encode("utf-8", "surrogatepass") for part in parts]
    return b"".join(len(part).to_bytes(8, "little") + part for part in encoded)


_SALT_STEP = 2**32
"""Above every token id."""


_PREFIX_STEP = 2**20
"""Above every prefix length."""


@dataclass(frozen=True, slots=True)
class LoadedAdapter:
    """An adapter that the runner has loaded. ``number`` counts from 1; 0 is the model as it is."""

    number: int
    has_lora: bool = False
    prefix_length: int = 0

    @property
    def salt(self) -> int:
        """Added to each token id: keys and values that an adapter computed are of no use without it."""
        return self.number * _SALT_STEP if self.has_lora else 0

    @property
    def prefix_tokens(self) -> tuple[int, ...]:
        """Ids that stand for the P-Tuning prefix in the prefix cache: negative, so no prompt has them."""
        first = -self.number * _PREFIX_STEP
        return tuple(range(first, first + self.prefix_length))

    def key(self, prompt_ids: tuple[int, ...]) -> tuple[int, ...]:
        """The prompt as the prefix cache knows it."""
        salted = tuple(token + self.salt for token in prompt_ids) if self.salt else prompt_ids
        return self.prefix_tokens + salted


PLAIN = LoadedAdapter(0)


def adapter_number(salt: int) -> int:
    """The number of the adapter whose LoRA a sequence of this salt runs with, or 0."""
    return salt // _SALT_STEP
