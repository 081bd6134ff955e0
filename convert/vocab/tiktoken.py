"""Reads the other kind of ``tokenizer.model``: tiktoken's, a line per token with its bytes in base64 and its rank."""

import base64
import binascii
from pathlib import Path

from glmserve.convert.checkpoint.config import read_file
from glmserve.convert.errors import MissingFileError, VocabularyError

_MOST_BYTES = 64 << 20
"""That of GLM-4 has three megabytes."""


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
