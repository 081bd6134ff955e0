"""Index of the prompts whose states lie on the disk: the longest start of a prompt, and which are worth saving. Pure.

No tokens are kept, only keyed hashes: one after each BLOCK tokens, each of all the tokens before it, and one of the
whole. The file also has a short one, a *mark*, after each token, so that no common token is lost. They begin with the
fingerprint of the model, the build and the layout of the cache. The tokens are the keys of the prefix cache
(``prefix_keys``), so the prompts of two callers have no hash in common.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

BLOCK = 32
"""Tokens between two hashes of the index."""

MIN_TOKENS = 64
"""Shorter prompts are not saved."""

MIN_NEW = 32
"""Tokens by which a prompt must be longer than what is saved or cached already."""

_NEW_SHARE = 4
"""A state holds the whole prompt, so at least 1 / _NEW_SHARE of it must be new."""

_MIN_MORE = 8
"""Tokens that must be new where the state replaces a saved one, as that of a conversation that goes on."""

_SHARED_SHARE = 16
"""A state is read whole, so at least 1 / _SHARED_SHARE of it must be of use."""

HASH_BYTES = 16
MARK_BYTES = 8


class TokenHashes:
    """The hashes of one sequence of tokens."""

    def __init__(self, secret: bytes, fingerprint: str, tokens: Sequence[int]) -> None:
        """``fingerprint`` is of all that the states depend on; without ``secret`` the tokens cannot be guessed."""
        self._secret = secret
        self._fingerprint = fingerprint
        self._tokens = tokens

    def __len__(self) -> int:
        return len(self._tokens)

    @cached_property
    def blocks(self) -> tuple[bytes, ...]:
        """After each whole block."""
        found = []
        last = _hash(self._secret, b"", self._fingerprint.encode())
        for start in range(0, len(self._tokens) - BLOCK + 1, BLOCK):
            last = self._after(last, start, start + BLOCK)
            found.append(last)
        return tuple(found)

    def at(self, length: int) -> bytes:
        """After ``length`` tokens."""
        count, rest = divmod(length, BLOCK)
        last = self.blocks[count - 1] if count else _hash(self._secret, b"", self._fingerprint.encode())
        return self._after(last, count * BLOCK, length) if rest else last

    def marks(self) -> bytes:
        """After each token."""
        return b"".join(self.at(length)[:MARK_BYTES] for length in range(1, len(self) + 1))

    def _after(self, last: bytes, start: int, end: int) -> bytes:
        return _hash(self._secret, last, " ".join(map(str, self._tokens[start:end])).encode())


def _hash(secret: bytes, last: bytes, content: bytes) -> bytes:
    return hashlib.blake2b(last + content, digest_size=HASH_BYTES, key=secret).digest()


@dataclass(frozen=True, slots=True)
class SavedPrompt:
    """A prompt whose state lies on the disk."""

    name: str
    """Of its file."""
    length: int
    """Tokens."""
    blocks: tuple[bytes, ...]
    """The hash after each whole block."""
    end: bytes
    """The hash after all tokens."""


@dataclass(frozen=True, slots=True)
class SavedMatch:
    """A saved prompt that begins as another one."""

    saved: SavedPrompt
    shared: int
    """Tokens that both begin with, at least: whole blocks, or all of the saved ones."""

    def exactly(self, prompt: TokenHashes, marks: bytes) -> int:
        """Return the tokens that both begin with, by the ``marks`` of the saved prompt."""
        end = min(len(prompt), self.saved.length)
        for length in range(self.shared + 1, end + 1):
            if prompt.at(length)[:MARK_BYTES] != marks[(length - 1) * MARK_BYTES : length * MARK_BYTES]:
                return length - 1
        return end


class PromptIndex:
    """Saved prompts by their hashes; a look-up takes no longer where there are many."""

    def __init__(self, *, cuts: bool = True) -> None:
        """Begin without any. Without ``cuts`` a prompt can only start from the whole of a saved one."""
        self._cuts = cuts
        self._saved: dict[str, SavedPrompt] = {}
        self._by_block: dict[bytes, dict[str, None]] = {}
        self._by_last: dict[bytes, dict[str, None]] = {}

    def __len__(self) -> int:
        return len(self._saved)

    @property
    def names(self) -> frozenset[str]:
        """Of all files."""
        return frozenset(self._saved)

    def add(self, saved: SavedPrompt) -> None:
        """Enter ``saved``, which is at least a block long."""
        self.remove((saved.name,))
        self._saved[saved.name] = saved
        for block in saved.blocks:
            self._by_block.setdefault(block, {})[saved.name] = None
        self._by_last.setdefault(saved.blocks[-1], {})[saved.name] = None

    def remove(self, names: Iterable[str]) -> None:
        """Remove files from the index."""
        for name in names:
            if (saved := self._saved.pop(name, None)) is not None:
                for block in saved.blocks:
                    _discard(self._by_block, block, name)
                _discard(self._by_last, saved.blocks[-1], name)

    def match(self, prompt: TokenHashes) -> SavedMatch | None:
        """Find the saved prompt that shares the longest start with ``prompt``; of several, the shortest."""
        by_block = self._by_block if self._cuts else self._by_last
        for count in range(len(prompt.blocks), 0, -1):
            names = by_block.get(prompt.blocks[count - 1], ())
            found = [SavedMatch(one, _shared(one, prompt, count)) for one in map(self._saved.__getitem__, names)]
            usable = [match for match in found if self._cuts or match.shared == match.saved.length]
            if usable:
                return max(usable, key=lambda match: (match.shared, -match.saved.length))
        return None

    def start(self, prompt: TokenHashes, cached: int, cells: int) -> SavedMatch | None:
        """Return the file that ``prompt`` should start from, ``cached`` tokens of which are in memory, or None.

        ``cells`` is the size of the cache.
        """
        match = self.match(prompt)
        if match is None or match.shared < cached + MIN_NEW or match.saved.length > cells:
            return None
        return match if match.shared * _SHARED_SHARE >= match.saved.length else None

    def is_worth_saving(self, prompt: TokenHashes) -> bool:
        """Whether enough of ``prompt`` is not saved yet."""
        if len(prompt) < MIN_TOKENS:
            return False
        match = self.match(prompt)
        new = len(prompt) - (match.shared if match else 0)
        replaces = match is not None and match.shared == match.saved.length
        return new >= (_MIN_MORE if replaces else max(MIN_NEW, len(prompt) // _NEW_SHARE))

    def inside(self, prompt: TokenHashes) -> tuple[str, ...]:
        """Return the files that a state of ``prompt`` makes redundant, which begins with all that they hold."""
        return tuple(self._inside(prompt)) if self._cuts else ()

    def _inside(self, prompt: TokenHashes) -> Iterator[str]:
        for block in prompt.blocks:
            for name in self._by_last.get(block, ()):
                saved = self._saved[name]
                if saved.length < len(prompt) and prompt.at(saved.length) == saved.end:
                    yield name


def _shared(saved: SavedPrompt, prompt: TokenHashes, blocks: int) -> int:
    """Tokens that both begin with, known to be at least ``blocks`` blocks."""
    whole = saved.length <= len(prompt) and len(saved.blocks) == blocks and prompt.at(saved.length) == saved.end
    return saved.length if whole else blocks * BLOCK


def _discard(index: dict[bytes, dict[str, None]], block: bytes, name: str) -> None:
    index[block].pop(name, None)
    if not index[block]:
        del index[block]
