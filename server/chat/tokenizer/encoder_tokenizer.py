"""The tokenizer of an embedding model or a reranker, from the vocabulary of its GGUF and without llama.cpp."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from glmserve.chat.tokenizer.llama_tokenizer import LlamaTokenizer, load_tokenizer
from glmserve.chat.tokenizer.unigram import CharacterMap, Unigram
from glmserve.chat.tokenizer.wordpiece import WordPiece
from glmserve.engine.errors import ModelLoadError
from glmserve.engine.gguf.gguf_check import check_gguf
from glmserve.engine.gguf.gguf_header import GgufHeader, read_header

_PREFIX = "tokenizer.ggml."
_SCORES, _TYPES, _CHARSMAP = (f"{_PREFIX}{name}" for name in ("scores", "token_type", "precompiled_charsmap"))
_TRIM_SPACES = "glmserve.trim_spaces"
_WORD_MARK = "▁"
_ORDINARY = (1, 4)
"""Normal and user-defined tokens, of enum llama_token_type."""


class Model(Protocol):
    """The part of a tokenizer that knows no special tokens."""

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the ids of a text."""


@dataclass(frozen=True, slots=True)
class Frame:
    """The special tokens in front of a text, behind it, and between two texts."""

    first: int
    last: int
    between: tuple[int, ...]


class EncoderTokenizer:
    """A vocabulary, and the special tokens around one text or two."""

    strips_leading_space = False

    def __init__(self, names: tuple[str, ...], model: Model, frame: Frame, control: frozenset[int]) -> None:
        """Make one of the names of all tokens, the model that cuts a text, and the tokens that are no text."""
        self._names = names
        self._model = model
        self._frame = frame
        self._control = control
        self.max_piece_chars = max(map(len, names), default=1)

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the ids of plain text; text that looks like a special token stays text."""
        return self._model.encode(text)

    def encode_framed(self, text: str) -> tuple[int, ...]:
        """Return the ids of plain text between the special tokens that the model expects around one."""
        return self.framed(self._model.encode(text))

    def framed(self, *texts: tuple[int, ...]) -> tuple[int, ...]:
        """Return the ids of one text or two, with the special tokens around and between them."""
        ids = [self._frame.first]
        for number, text in enumerate(texts):
            ids += (*(self._frame.between if number else ()), *text)
        return (*ids, self._frame.last)

    @property
    def opening(self) -> tuple[int, ...]:
        """The special token in front of a text."""
        return (self._frame.first,)

    def takes_blanks(self, token_id: int) -> bool:  # noqa: ARG002 - of no special token of an encoder
        """Whether the blanks after this special token belong to it."""
        return False

    def piece(self, token_id: int) -> bytes:
        """Return the text of a token; none for a special one."""
        return b"" if token_id in self._control else self._names[token_id].replace(_WORD_MARK, " ").encode()

    def name(self, token_id: int) -> str:
        """Return the vocabulary's name of a token."""
        return self._names[token_id]

    def special_id(self, piece: str) -> int:
        """Return the id of a special token. Raises KeyError."""
        return {self._names[i]: i for i in self._control}[piece]


def load_encoder_tokenizer(path: Path) -> "EncoderTokenizer | LlamaTokenizer":
    """Load the vocabulary of the GGUF at ``path``; one that is neither WordPiece nor unigram is left to llama.cpp.

    Raises:
        ModelLoadError: the file is damaged.
    """
    check_gguf(path)
    header = read_header(path, (_SCORES, _TYPES, _CHARSMAP))
    kind = header.metadata.get(f"{_PREFIX}model")
    if kind not in ("bert", "t5"):
        return load_tokenizer(path)
    pieces = header.metadata[f"{_PREFIX}tokens"]
    assert isinstance(pieces, tuple)
    names = tuple(piece.decode("utf-8", "replace") for piece in pieces)
    types = _array(path, header, _TYPES, len(names), np.ones(len(names), np.int32))
    ordinary = {i for i in range(len(names)) if int(types[i]) in _ORDINARY}
    ids = _special_ids(path, header.metadata, len(names))
    ordinary -= set(ids.values())
    frame = Frame(ids["first"], ids["last"], (ids["last"],) if kind == "bert" else (ids["last"],) * 2)
    if kind == "bert":
        model: Model = _wordpiece(names, ordinary, ids["unknown"], header.metadata)
    else:
        model = _unigram(path, names, ordinary, ids["unknown"], header)
    return EncoderTokenizer(names, model, frame, frozenset(range(len(names))) - ordinary)


def _wordpiece(names: tuple[str, ...], ordinary: set[int], unknown: int, metadata: Mapping[str, object]) -> WordPiece:
    lowercase = metadata.get(f"{_PREFIX}normalizer.lowercase", True) is True
    return WordPiece(
        {names[i][1:]: i for i in ordinary if names[i].startswith(_WORD_MARK)},
        {names[i].removeprefix("##"): i for i in ordinary if not names[i].startswith(_WORD_MARK)},
        unknown,
        lowercase=lowercase,
        strip_accents=metadata.get(f"{_PREFIX}normalizer.strip_accents", lowercase) is True,
    )


def _unigram(path: Path, names: tuple[str, ...], ordinary: set[int], unknown: int, header: GgufHeader) -> Unigram:
    scores = [float(score) for score in _array(path, header, _SCORES, len(names), np.zeros(0, np.float32))]
    charsmap = header.arrays.get(_CHARSMAP)
    spaces = str(header.metadata.get(_TRIM_SPACES, "split")).split()
    try:
        replacements = CharacterMap(charsmap.tobytes()) if charsmap is not None and charsmap.size else None
    except ValueError as error:
        raise ModelLoadError(f"{path.name}: {_CHARSMAP} is damaged ({error}); convert the model again") from error
    pieces = {names[i]: (i, scores[i]) for i in ordinary}
    lowest = min((score for _, score in pieces.values()), default=0.0)
    return Unigram(pieces, unknown, replacements, lowest=lowest, spaces=spaces)


def _special_ids(path: Path, metadata: Mapping[str, object], size: int) -> dict[str, int]:
    """Return the ids of the special tokens, by their purpose. Raises ModelLoadError where one is missing."""
    found = {}
    for use, keys in (("first", ("bos", "cls")), ("last", ("eos", "seperator")), ("unknown", ("unknown",))):
        value = next((value for key in keys if (value := metadata.get(f"{_PREFIX}{key}_token_id")) is not None), None)
        if not isinstance(value, int) or not 0 <= value < size:
            raise ModelLoadError(
                f"{path.name}: metadata {_PREFIX}{keys[0]}_token_id is no token of it; convert the model again"
            )
        found[use] = value
    return found


def _array(path: Path, header: GgufHeader, key: str, size: int, default: NDArray[np.generic]) -> NDArray[np.generic]:
    values = header.arrays.get(key, default)
    if values.size != size or not np.isfinite(values.astype(np.float64)).all():
        raise ModelLoadError(f"{path.name}: metadata {key} has not one number for each token; convert the model again")
    return values
