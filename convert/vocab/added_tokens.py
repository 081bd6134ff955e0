"""Tokens that were added to a tokenizer by fine-tuning: kept where llama.cpp finds them in a text as transformers does.

transformers cuts added tokens out of a text before it tokenises what lies between them. llama.cpp does the same with
user-defined tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from glmserve.convert.checkpoint.config import read_json_object
from glmserve.convert.errors import CorruptFileError, VocabularyError
from glmserve.convert.vocab.tokenizer_model import Piece, PieceType

_FILE = "added_tokens.json"
_CONFIG = "tokenizer_config.json"
_ADVICE = "copy it from the original checkpoint"
_ALSO_CALLED = {"sop": "<sop>", "eop": "<eop>"}
"""The authors' names, mapped to the names in the file; see ``glmserve.convert.vocab.chatglm``."""
_MATCHING = ("lstrip", "rstrip", "single_word")
"""Ways to find a token that llama.cpp does not have."""


@dataclass(frozen=True, slots=True)
class AddedToken:
    """One entry of ``added_tokens_decoder`` or of ``added_tokens.json``."""

    id: int
    text: str
    matching: str = ""
    """Which of lstrip, rstrip and single_word is set; empty where none is."""


def read_added_tokens(folder: Path) -> tuple[AddedToken, ...]:
    """Return the tokens that a folder lists beside its ``tokenizer.model``, known ones included.

    Raises:
        CorruptFileError: a list makes no sense, or the two lists differ.
    """
    found: dict[int, AddedToken] = {}
    for token in (*_from_config(folder / _CONFIG), *_from_file(folder / _FILE)):
        if found.setdefault(token.id, token).text != token.text:
            raise CorruptFileError(folder / _FILE, f"token {token.id} has another text than in {_CONFIG}")
    return tuple(found[token] for token in sorted(found))


def with_added(path: Path, pieces: Sequence[Piece], added: Sequence[AddedToken]) -> tuple[Piece, ...]:
    """Return ``pieces`` with the added tokens in place of padding.

    Raises:
        VocabularyError: one of them would be lost or found otherwise than transformers finds it.
    """
    result, ids = list(pieces), {piece.text: number for number, piece in enumerate(pieces)}
    for token in added:
        text = _ALSO_CALLED.get(token.text, token.text)
        if ids.get(text) == token.id:
            continue
        if problem := _problem(token, text, result, ids):
            raise VocabularyError(
                path.with_name(_CONFIG),
                f"the added token {token.text!r} with id {token.id} {problem}; it would be lost, so nothing is "
                "converted. Remove it from the tokenizer's files if the model was not trained with it",
            )
        result[token.id] = Piece(text, 0.0, PieceType.USER_DEFINED)
        ids[text] = token.id
    return tuple(result)


def _problem(token: AddedToken, text: str, pieces: Sequence[Piece], ids: Mapping[str, int]) -> str:
    if token.id >= len(pieces):
        return f"is outside of the {len(pieces)} rows of the embedding"
    if text in ids:
        return f"is a token already, with id {ids[text]}"
    if pieces[token.id].type is not PieceType.UNUSED:
        return f"takes the place of {pieces[token.id].text!r}"
    if not text or "\0" in text:
        return "has no text that a file can hold"
    return f"is found with {token.matching}, which llama.cpp does not have" if token.matching else ""


def _from_config(path: Path) -> list[AddedToken]:
    listed = read_json_object(path, _ADVICE).get("added_tokens_decoder") if path.exists() else None
    if listed is None:
        return []
    if not isinstance(listed, dict):
        raise CorruptFileError(path, "its added_tokens_decoder is no object")
    tokens = []
    for number, entry in listed.items():
        text = entry.get("content") if isinstance(entry, dict) else None
        if not str(number).isdecimal() or not isinstance(text, str):
            raise CorruptFileError(path, f"its added token {str(number)[:40]!r} is no id with a content")
        matching = next((way for way in _MATCHING if entry.get(way) is True), "")
        tokens.append(AddedToken(int(number), text, matching))
    return tokens


def _from_file(path: Path) -> list[AddedToken]:
    listed = read_json_object(path, _ADVICE) if path.exists() else {}
    tokens = []
    for text, number in listed.items():
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            raise CorruptFileError(path, f"the id of {text[:40]!r} is no whole number")
        tokens.append(AddedToken(number, text))
    return tokens
