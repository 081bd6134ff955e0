"""XLM-RoBERTa's vocabulary -> that of a GGUF: ``tokenizer.json``, or SentencePiece's ``sentencepiece.bpe.model``.

The second one has its own ids; transformers puts four special tokens in front and the mask token behind.
"""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from glmserve.convert.checkpoint.config import read_json_object
from glmserve.convert.errors import VocabularyError
from glmserve.convert.gguf_format import TRIM_SPACES, Metadata
from glmserve.convert.vocab.tokenizer_model import Piece, PieceType, read_model

_JSON, _MODEL = "tokenizer.json", "sentencepiece.bpe.model"
_SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")
_MASK = "<mask>"
_NO_SCORE = -10000.0
_OWN_PIECES = 3
"""<unk>, <s> and </s> of SentencePiece."""

SPLIT, MERGE, RIGHT = "split", "merge", "right"
"""Words of ``TRIM_SPACES``: text is split at white space; runs of spaces are one; none stays at the end."""


@dataclass(frozen=True, slots=True)
class _Unigram:
    pieces: tuple[Piece, ...]
    charsmap: bytes
    spaces: tuple[str, ...]


def unigram_metadata(folder: Path, size: int) -> Metadata:
    """Return the tokenizer's GGUF keys for a vocabulary of ``size`` rows.

    Raises:
        MissingFileError: the folder has no vocabulary.
        CorruptFileError: a file makes no sense.
        VocabularyError: it is not such a vocabulary, or does not fit config.json.
    """
    path = folder / _JSON if (folder / _JSON).exists() else folder / _MODEL
    vocabulary = _from_json(path) if path.name == _JSON else _from_model(path)
    pieces = vocabulary.pieces
    ids = {piece.text: number for number, piece in enumerate(pieces)}
    if missing := [name for name in _SPECIALS if name not in ids]:
        raise VocabularyError(path, f"it lacks {', '.join(missing)}; this is not the vocabulary of an XLM-RoBERTa")
    if len(ids) != len(pieces) or len(pieces) > size:
        raise VocabularyError(path, f"its {len(pieces)} pieces are not all different, or more than {size}")
    pieces = (*pieces, *(Piece(f"[PAD{n}]", _NO_SCORE, PieceType.CONTROL) for n in range(len(pieces), size)))
    return {
        "tokenizer.ggml.model": "t5",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": tuple(piece.text for piece in pieces),
        "tokenizer.ggml.scores": tuple(piece.score for piece in pieces),
        "tokenizer.ggml.token_type": tuple(int(piece.type) for piece in pieces),
        "tokenizer.ggml.bos_token_id": ids["<s>"],
        "tokenizer.ggml.eos_token_id": ids["</s>"],
        "tokenizer.ggml.seperator_token_id": ids["</s>"],
        "tokenizer.ggml.unknown_token_id": ids["<unk>"],
        "tokenizer.ggml.padding_token_id": ids["<pad>"],
        **({"tokenizer.ggml.mask_token_id": ids[_MASK]} if _MASK in ids else {}),
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": True,
        "tokenizer.ggml.add_sep_token": True,
        "tokenizer.ggml.add_space_prefix": True,
        "tokenizer.ggml.remove_extra_whitespaces": True,
        **({"tokenizer.ggml.precompiled_charsmap": vocabulary.charsmap} if vocabulary.charsmap else {}),
        TRIM_SPACES: " ".join(vocabulary.spaces),
    }


def _from_model(path: Path) -> _Unigram:
    model = read_model(path)
    if model.is_bpe or model.byte_fallback or model.suffix_whitespace or not model.add_dummy_prefix:
        raise VocabularyError(path, "it is no unigram model as XLM-RoBERTa has one")
    special = [Piece(text, 0.0, _kind(text)) for text in _SPECIALS]
    pieces = (*special, *model.pieces[_OWN_PIECES:], Piece(_MASK, 0.0, PieceType.CONTROL))
    spaces = (SPLIT,) if model.remove_extra_whitespaces else ()
    return _Unigram(pieces, model.charsmap, spaces)


def _from_json(path: Path) -> _Unigram:
    raw = read_json_object(path, "")
    model = _object(raw.get("model"))
    listed = model.get("vocab")
    if not isinstance(listed, list) or model.get("byte_fallback", False):
        raise VocabularyError(path, "its model is not a unigram one, which is the tokenizer of an XLM-RoBERTa")
    special = {str(_object(token).get("content")) for token in _list(raw.get("added_tokens"))}
    pieces = [_piece(path, entry, special) for entry in listed]
    texts = [piece.text for piece in pieces]
    for token in sorted(
        (_object(token) for token in _list(raw.get("added_tokens"))), key=lambda one: str(one.get("id"))
    ):
        number, text = token.get("id"), str(token.get("content"))
        if number == len(pieces):
            pieces.append(Piece(text, 0.0, _kind(text)))
        elif not isinstance(number, int) or texts[number : number + 1] != [text]:
            raise VocabularyError(path, f"the added token {text[:40]!r} would be lost")
    charsmap, spaces = _pipeline(path, raw)
    return _Unigram(tuple(pieces), charsmap, spaces)


def _piece(path: Path, entry: object, special: set[str]) -> Piece:
    if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[0], str):
        raise VocabularyError(path, "an entry of its vocabulary is no piece with a score")
    text, score = entry
    if not isinstance(score, int | float):
        raise VocabularyError(path, f"the piece {text[:40]!r} has no score")
    return Piece(text, float(score), _kind(text) if text in special or text in _SPECIALS else PieceType.NORMAL)


def _kind(special: str) -> PieceType:
    return PieceType.UNKNOWN if special == "<unk>" else PieceType.CONTROL


def _pipeline(path: Path, raw: Mapping[str, object]) -> tuple[bytes, tuple[str, ...]]:
    """Return the normalisation table, and the rules for white space. Raises VocabularyError for other steps."""
    charsmap, spaces = b"", set()
    for step in (*_steps(raw.get("normalizer"), "normalizers"), *_steps(raw.get("pre_tokenizer"), "pretokenizers")):
        match step:
            case {"type": "Precompiled", "precompiled_charsmap": str(packed)}:
                charsmap = _unpacked(path, packed)
            case {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " " | "▁"}:
                spaces.add(MERGE)
            case {"type": "Strip", "strip_left": False, "strip_right": True}:
                spaces.add(RIGHT)
            case {"type": "WhitespaceSplit"}:
                spaces.add(SPLIT)
            case {"type": "Metaspace", "replacement": "▁"} if _prepends(step):
                pass
            case _:
                raise VocabularyError(path, f"it has a step {str(dict(step))[:80]}, which is not converted")
    return charsmap, tuple(sorted(spaces))


def _prepends(step: Mapping[str, object]) -> bool:
    return step.get("prepend_scheme", "always") == "always" and step.get("add_prefix_space", True) is True


def _steps(value: object, listed: str) -> Iterator[Mapping[str, object]]:
    step = _object(value)
    if step.get("type") == "Sequence":
        for one in _list(step.get(listed)):
            yield from _steps(one, listed)
    elif step:
        yield step


def _unpacked(path: Path, packed: str) -> bytes:
    try:
        return base64.b64decode(packed, validate=True)
    except ValueError as error:
        raise VocabularyError(path, "its precompiled_charsmap is no base64") from error


def _object(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else ()
