"""BERT's vocabulary -> that of a GGUF: ``vocab.txt`` or ``tokenizer.json``.

llama.cpp has the pieces the other way round: a piece that begins a word is marked with a phantom space, one that
continues a word is bare.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from glmserve.convert.checkpoint.config import read_file, read_json_object
from glmserve.convert.errors import CorruptFileError, MissingFileError, VocabularyError
from glmserve.convert.gguf_format import Metadata
from glmserve.convert.vocab.tokenizer_model import PieceType

_TEXT, _JSON, _CONFIG = "vocab.txt", "tokenizer.json", "tokenizer_config.json"
_MOST_BYTES = 32 << 20
_CONTINUES = "##"
_PHANTOM = "▁"

SPECIALS = {
    "padding_token_id": "[PAD]",
    "unknown_token_id": "[UNK]",
    "bos_token_id": "[CLS]",
    "seperator_token_id": "[SEP]",
    "mask_token_id": "[MASK]",
}
"""By key of ``tokenizer.ggml``, one of which is misspelt in the format itself."""

_NEEDED = ("[UNK]", "[CLS]", "[SEP]")
_FIXED = {"clean_text": True, "handle_chinese_chars": True}
_WORD_CHARACTERS = 100
"""Longer words are unknown to the original."""


@dataclass(frozen=True, slots=True)
class _WordPiece:
    pieces: tuple[str, ...]
    lowercase: bool
    strip_accents: bool


def wordpiece_metadata(folder: Path, size: int) -> Metadata:
    """Return the tokenizer's GGUF keys for a vocabulary of ``size`` rows.

    Raises:
        MissingFileError: the folder has no vocabulary.
        CorruptFileError: a file makes no sense.
        VocabularyError: it is not such a vocabulary, or does not fit config.json.
    """
    path = folder / _JSON if (folder / _JSON).exists() else folder / _TEXT
    vocabulary = _from_json(path) if path.name == _JSON else _from_text(path)
    ids = {piece: number for number, piece in enumerate(vocabulary.pieces)}
    if missing := [piece for piece in _NEEDED if piece not in ids]:
        raise VocabularyError(path, f"it lacks {', '.join(missing)}; this is not the vocabulary of a BERT")
    if len(ids) != len(vocabulary.pieces) or len(ids) > size:
        raise VocabularyError(path, f"its {len(vocabulary.pieces)} pieces are not all different, or more than {size}")
    return {
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": _spelled(path, vocabulary.pieces, size),
        "tokenizer.ggml.token_type": _types(vocabulary.pieces, size),
        **{f"tokenizer.ggml.{key}": ids[piece] for key, piece in SPECIALS.items() if piece in ids},
        "tokenizer.ggml.eos_token_id": ids["[SEP]"],
        "tokenizer.ggml.cls_token_id": ids["[CLS]"],
        "tokenizer.ggml.normalizer.lowercase": vocabulary.lowercase,
        "tokenizer.ggml.normalizer.strip_accents": vocabulary.strip_accents,
    }


def _spelled(path: Path, pieces: tuple[str, ...], size: int) -> tuple[str, ...]:
    """Return the pieces as llama.cpp has them, all of them different, which it needs."""
    spelled: dict[str, None] = {}
    for number in range(size):
        piece = pieces[number] if number < len(pieces) else f"[PAD{number}]"
        if piece in SPECIALS.values() or number >= len(pieces):
            text = piece
        else:
            text = piece.removeprefix(_CONTINUES) if piece.startswith(_CONTINUES) else f"{_PHANTOM}{piece}"
        if not text or piece.startswith(_CONTINUES + _PHANTOM):
            text = piece  # else "##▁a" and "a" would be the same; the server reads this, too
        spelled[text] = None
    if len(spelled) != size:
        raise VocabularyError(path, "two of its pieces have the same text to llama.cpp")
    return tuple(spelled)


def _types(pieces: tuple[str, ...], size: int) -> tuple[int, ...]:
    special = {**dict.fromkeys(SPECIALS.values(), PieceType.CONTROL), "[UNK]": PieceType.UNKNOWN}
    known = [int(special.get(piece, PieceType.NORMAL)) for piece in pieces]
    return (*known, *[int(PieceType.UNUSED)] * (size - len(pieces)))


def _from_text(path: Path) -> _WordPiece:
    try:
        text = read_file(path, _MOST_BYTES).decode("utf-8")
    except FileNotFoundError as error:
        raise MissingFileError(
            path, "the vocabulary comes from it, or from tokenizer.json: copy it from the original"
        ) from error
    except ValueError as error:
        raise CorruptFileError(path, "it is not UTF-8") from error
    # As transformers reads it: line by line, whatever Unicode takes for the end of a line.
    pieces = tuple(text.replace("\r\n", "\n").removesuffix("\n").split("\n"))
    return _with_config(path, _WordPiece(pieces, lowercase=True, strip_accents=True))


def _from_json(path: Path) -> _WordPiece:
    raw = read_json_object(path, "")
    model, normalizer = _object(raw.get("model")), _object(raw.get("normalizer"))
    listed = model.get("vocab")
    if not isinstance(listed, dict) or model.get("type", "WordPiece") != "WordPiece":
        raise VocabularyError(path, "its model is not WordPiece, which is the tokenizer of a BERT")
    if sorted(listed.values(), key=str) != sorted(range(len(listed)), key=str):
        raise VocabularyError(path, "its ids do not run from 0 without a gap")
    _check_fixed(path, model, normalizer)
    for token in _objects(raw.get("added_tokens")):
        if listed.get(str(token.get("content"))) != token.get("id") or not token.get("special", False):
            raise VocabularyError(
                path,
                f"the added token {str(token.get('content'))[:40]!r} would be lost; remove it if the model was not "
                "trained with it",
            )
    lowercase = normalizer.get("lowercase", True) is True
    accents = normalizer.get("strip_accents")
    found = _WordPiece(
        tuple(sorted(map(str, listed), key=listed.__getitem__)),
        lowercase,
        lowercase if accents is None else bool(accents),
    )
    return _with_config(path, found)


def _check_fixed(path: Path, model: Mapping[str, object], normalizer: Mapping[str, object]) -> None:
    expected: tuple[tuple[Mapping[str, object], str, object], ...] = (
        (normalizer, "type", "BertNormalizer"),
        *((normalizer, key, value) for key, value in _FIXED.items()),
        (model, "continuing_subword_prefix", _CONTINUES),
        (model, "max_input_chars_per_word", _WORD_CHARACTERS),
    )
    for where, key, value in expected:
        if where.get(key, value) != value:
            raise VocabularyError(path, f"{key} is {where[key]!r}, and is {value!r} in every BERT that is converted")


def _with_config(path: Path, found: _WordPiece) -> _WordPiece:
    """Return the rules that transformers applies: tokenizer_config.json has the last word."""
    config = path.with_name(_CONFIG)
    raw = read_json_object(config, "") if config.exists() else {}
    lowercase, accents = raw.get("do_lower_case"), raw.get("strip_accents")
    if raw.get("tokenize_chinese_chars", True) is False:
        raise VocabularyError(config, "tokenize_chinese_chars is false; Chinese characters are always split here")
    lower = lowercase if isinstance(lowercase, bool) else found.lowercase
    if not isinstance(accents, bool):
        accents = found.strip_accents if lower == found.lowercase else lower
    return _WordPiece(found.pieces, lower, accents)


def _object(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _objects(value: object) -> list[Mapping[str, object]]:
    return [_object(one) for one in value] if isinstance(value, list) else []
