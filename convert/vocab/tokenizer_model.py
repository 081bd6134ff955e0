"""Reads ``tokenizer.model`` of both kinds: SentencePiece's ModelProto, and tiktoken's lines of bytes and ranks.

ModelProto is a protocol buffer. Field numbers are those of ``sentencepiece_model.proto``; reading the few that
matter takes fewer lines than a dependency on protobuf.
"""

import base64
import binascii
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import TypeAlias

from glmserve.convert.checkpoint.config import read_file
from glmserve.convert.errors import MissingFileError, VocabularyError

_MOST_BYTES = 64 << 20
"""The model of ChatGLM2 has one megabyte, that of GLM-4 three."""

Field: TypeAlias = tuple[int, int | bytes]
"""Field number, and its value: a whole number (varint), or bytes (all other wire types)."""


class PieceType(IntEnum):
    """Types of pieces; GGUF's ``tokenizer.ggml.token_type`` has the same numbers."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class Piece:
    """One entry of the vocabulary."""

    text: str
    score: float
    type: PieceType


@dataclass(frozen=True, slots=True)
class SentencePieceModel:
    """The parts of a SentencePiece model that decide how text becomes ids. Defaults equal the proto's."""

    pieces: tuple[Piece, ...]
    is_bpe: bool = False
    byte_fallback: bool = False
    suffix_whitespace: bool = False
    normalizer: str = ""
    """Name of the normalisation rules."""
    charsmap: bytes = b""
    """Compiled normalisation rules; empty means that text is taken as it is."""
    add_dummy_prefix: bool = True
    remove_extra_whitespaces: bool = True
    escape_whitespaces: bool = True


def read_model(path: Path) -> SentencePieceModel:
    """Read a SentencePiece model.

    Raises:
        MissingFileError: there is no such file.
        VocabularyError: it is not a SentencePiece model.
    """
    try:
        data = read_file(path, _MOST_BYTES)
    except FileNotFoundError as error:
        raise MissingFileError(path, "the vocabulary comes from it: copy it from the original checkpoint") from error
    try:
        model = _parse_model(data)
    except (ValueError, IndexError, struct.error) as error:
        raise VocabularyError(path, f"it is not a SentencePiece model ({error}); download it again") from error
    if not model.pieces:
        raise VocabularyError(path, "it holds no pieces, so it is not a SentencePiece model; download it again")
    return model


def _parse_model(data: bytes) -> SentencePieceModel:
    pieces: list[Piece] = []
    trainer: dict[int, int | bytes] = {}
    normalizer: dict[int, int | bytes] = {}
    for number, value in _fields(data):
        if number == 1:
            pieces.append(_parse_piece(_as_bytes(value)))
        elif number == 2:
            trainer.update(_fields(_as_bytes(value)))
        elif number == 3:
            normalizer.update(_fields(_as_bytes(value)))
    return SentencePieceModel(
        pieces=tuple(pieces),
        is_bpe=trainer.get(3, 1) == 2,
        byte_fallback=bool(trainer.get(35, False)),
        suffix_whitespace=bool(trainer.get(24, False)),
        normalizer=_as_bytes(normalizer.get(1, b"")).decode("utf-8"),
        charsmap=_as_bytes(normalizer.get(2, b"")),
        add_dummy_prefix=bool(normalizer.get(3, True)),
        remove_extra_whitespaces=bool(normalizer.get(4, True)),
        escape_whitespaces=bool(normalizer.get(5, True)),
    )


def _parse_piece(data: bytes) -> Piece:
    fields = dict(_fields(data))
    score = struct.unpack("<f", _as_bytes(fields.get(2, b"\0\0\0\0")))[0]
    return Piece(
        text=_as_bytes(fields.get(1, b"")).decode("utf-8"),
        score=score,
        type=PieceType(_as_int(fields.get(3, 1))),
    )


def _fields(data: bytes) -> Iterator[Field]:
    position, end = 0, len(data)
    while position < end:
        key, position = _varint(data, position)
        number, wire_type = key >> 3, key & 7
        if wire_type == 0:
            value, position = _varint(data, position)
            yield number, value
            continue
        if wire_type == 2:
            length, position = _varint(data, position)
        elif wire_type in (1, 5):
            length = 8 if wire_type == 1 else 4
        else:
            raise ValueError(f"wire type {wire_type} at byte {position}")
        start, position = position, position + length
        if position > end:
            raise ValueError(f"it ends inside field {number}")
        yield number, data[start:position]


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = data[position]
    position += 1
    if value < 0x80:  # nearly all
        return value, position
    value &= 0x7F
    for shift in range(7, 64, 7):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError(f"a number that does not end at byte {position}")


def _as_int(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise ValueError("bytes where a number belongs")
    return value


def _as_bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number where bytes belong")
    return value


def is_tiktoken(path: Path) -> bool:
    """Tell whether the file starts like one; SentencePiece's are binary."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            start = file.readline(1000)
    except OSError:
        return False
    try:
        _parse_line(start)
    except ValueError:
        return False
    return True


def read_ranks(path: Path) -> tuple[bytes, ...]:
    """Return all tokens in the order of their ranks, which are their ids.

    Raises:
        MissingFileError: there is no such file.
        VocabularyError: it is something else, or its ranks have gaps.
    """
    try:
        lines = read_file(path, _MOST_BYTES).splitlines()
    except FileNotFoundError as error:
        raise MissingFileError(path, "the vocabulary comes from it: copy it from the original checkpoint") from error
    try:
        pairs = [_parse_line(line) for line in lines if line]
    except ValueError as error:
        raise VocabularyError(path, "it is not a byte-level vocabulary; download it again") from error
    tokens = tuple(token for token, _ in sorted(pairs, key=lambda pair: pair[1]))
    distinct = set(tokens)
    if sorted(rank for _, rank in pairs) != list(range(len(pairs))) or len(distinct) != len(pairs):
        raise VocabularyError(path, "its ranks have gaps, or a token stands twice; download it again")
    missing = sum(bytes([byte]) not in distinct for byte in range(256))
    if missing:
        raise VocabularyError(path, f"it lacks {missing} of the 256 single bytes; download it again")
    return tokens


def _parse_line(line: bytes) -> tuple[bytes, int]:
    text, _, rank = line.strip().partition(b" ")
    try:
        token = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error
    if not token or not rank.isdigit():
        raise ValueError("not a token and its rank")
    return token, int(rank)
