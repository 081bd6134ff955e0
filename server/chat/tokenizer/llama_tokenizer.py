"""Text to ids and back, on a vocab-only load of the GGUF that the engine runs.

Load it only after the engine has loaded the same file: llama.cpp ends the process on a bad vocabulary.
"""

import base64
import ctypes
import re
import weakref
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path

import llama_cpp

from glmserve.chat.tokenizer.normalizer import NormalizationTable, Normalizer
from glmserve.engine.errors import ModelLoadError
from glmserve.engine.gguf.chat_template import is_marker
from glmserve.engine.gguf.prompt_format import BAICHUAN_ROLE_IDS, has_baichuan_roles
from glmserve.engine.llama.model_loading import load_vocabulary, route_log, stop_ids

_PIECE_BYTES = 512
"""Longest piece that is read at once; SentencePiece's are at most 16 characters."""

_TABLE_BYTES = 16 << 20
"""Most that a normalisation table may have; that of nmt_nfkc has a quarter of a megabyte."""

_ATTR_UNUSED = 1 << 1
"""LLAMA_TOKEN_ATTR_UNUSED of llama.h."""

_ATTR_USER_DEFINED = 1 << 4
"""LLAMA_TOKEN_ATTR_USER_DEFINED."""

_ATTR_RSTRIP = 1 << 8
"""LLAMA_TOKEN_ATTR_RSTRIP."""

_ROLE_KEYS = {"user": "glmserve.user_token_id", "assistant": "glmserve.assistant_token_id"}


class LlamaTokenizer:
    """The vocabulary of one model. ``encode`` and ``piece`` may be called from any thread."""

    def __init__(self, path: Path) -> None:
        """Load the vocabulary of ``path``. Raises ModelLoadError."""
        self._model, self._vocab = load_vocabulary(path)
        # By the last reference and not before: a thread may still be tokenising for a caller who has gone.
        self._free = weakref.finalize(self, llama_cpp.llama_model_free, self._model)
        self._free.atexit = False
        ids = range(llama_cpp.llama_vocab_n_tokens(self._vocab))
        self._pieces = tuple(self._read_piece(i) for i in ids)
        self._specials = {self.name(i): i for i in ids if llama_cpp.llama_vocab_is_control(self._vocab, i)}
        for role, key in _ROLE_KEYS.items():
            if token_id := _metadata(self._model, key):
                self._specials[role] = _token_id(token_id, len(ids), f"{path.name}: metadata {key}")
        if "user" not in self._specials and _metadata(self._model, "general.architecture") == "baichuan":
            self._specials |= self._usual_roles(len(ids))
        attributes = ((i, llama_cpp.llama_vocab_get_attr(self._vocab, i)) for i in ids)
        self._user_defined = {self.name(i): i for i, attribute in attributes if attribute & _ATTR_USER_DEFINED}
        self._markers = {name: i for name, i in self._user_defined.items() if is_marker(name)}
        self._typed_marker = re.compile("|".join(map(re.escape, self._markers)) or r"(?!)")
        self._as_text = self._find_mergeable()
        self._normalizer = self._read_normalizer(path)
        self.max_piece_chars = max(len(piece.decode("utf-8", "replace")) for piece in self._pieces)

    @property
    def strips_leading_space(self) -> bool:
        """Whether decoding drops the space that encoding put in front of the text (SentencePiece's dummy prefix)."""
        if llama_cpp.llama_vocab_type(self._vocab) != llama_cpp.LLAMA_VOCAB_TYPE_SPM:
            return False
        # The first is what llama.cpp goes by, and true where a file does not say; the second is our normaliser's.
        own = _metadata(self._model, "tokenizer.ggml.add_space_prefix") or "true"
        return "true" in (own, _metadata(self._model, "glmserve.space_prefix"))

    def encode(self, text: str) -> tuple[int, ...]:
        """Tokenise plain text; text that looks like a special token stays text. Raises UnicodeEncodeError."""
        if self._normalizer is None:
            return tuple(i for part in self._without_markers(text) for i in self._tokenize(part))
        ids: list[int] = []
        for segment in self._normalizer.segments(text):
            ids += (self._user_defined[segment.text],) if segment.is_piece else self._tokenize(segment.text)
        return tuple(ids)

    def _without_markers(self, text: str) -> Iterator[str]:
        """Yield ``text`` in parts that llama.cpp finds no user-defined mark of a turn in: it would even as text."""
        position = 0
        for found in self._typed_marker.finditer(text):
            yield text[position : found.start() + 1]
            position = found.start() + 1
        yield text[position:]

    def encode_framed(self, text: str) -> tuple[int, ...]:
        """Tokenise plain text between the special tokens that the file puts around one, such as BERT's."""
        return self._tokenize(text, framed=True)

    def framed(self, *texts: tuple[int, ...]) -> tuple[int, ...]:
        """Return the ids of one text or two, framed as RoBERTa does: two end tokens between them."""
        frame = self._tokenize("", framed=True)
        first, last = frame[:1], frame[-1:]
        middle = [part for text in texts for part in (last * 2, text)][1:]
        return (*first, *(token for part in middle for token in part), *last)

    def _tokenize(self, text: str, *, framed: bool = False) -> tuple[int, ...]:
        data = text.encode("utf-8")
        size = len(data) + 4  # a token is at least a byte long, but for the dummy prefix and the frame
        buffer = (llama_cpp.llama_token * size)()
        count = llama_cpp.llama_tokenize(self._vocab, data, len(data), buffer, size, framed, False)
        if count < 0:
            raise RuntimeError(f"{len(data)} bytes of text came to {-count} tokens, more than bytes")
        ids = tuple(buffer[:count])
        if not self._as_text or self._as_text.keys().isdisjoint(ids):
            return ids
        return tuple(part for i in ids for part in self._as_text.get(i, (i,)))

    def piece(self, token_id: int) -> bytes:
        """The bytes a token stands for; nothing for control tokens and unused ids."""
        return self._pieces[token_id]

    def name(self, token_id: int) -> str:
        """The vocabulary's name of a token, such as ``▁Hello``, ``<0xE4>`` or ``[gMASK]``."""
        return str(llama_cpp.llama_vocab_get_text(self._vocab, token_id).decode())

    def special_id(self, piece: str) -> int:
        """The id of a control token such as ``[gMASK]`` or ``sop``, or of a role (``user``). Raises KeyError.

        ``glmserve convert`` writes ``sop`` as ``<sop>``, so that other servers do not find it inside words.
        """
        if piece in self._markers:
            return self._markers[piece]
        return self._specials[piece if piece in self._specials else f"<{piece}>"]

    @property
    def opening(self) -> tuple[int, ...]:
        """The BOS, where the file says that every text begins with it."""
        bos = int(llama_cpp.llama_vocab_bos(self._vocab))
        return (bos,) if bos >= 0 and llama_cpp.llama_vocab_get_add_bos(self._vocab) else ()

    def takes_blanks(self, token_id: int) -> bool:
        """Whether llama.cpp drops the blanks after this special token, as the tokenizer of Phi-3 does."""
        return bool(llama_cpp.llama_vocab_get_attr(self._vocab, token_id) & _ATTR_RSTRIP)

    def stop_ids(self, names: Collection[str]) -> frozenset[int]:
        """The tokens that end an answer: the file's own, and the control tokens called ``names``."""
        return stop_ids(self._vocab, names)

    def close(self) -> None:
        """Free the vocabulary, unless that is left to the last reference."""
        self._free()

    def _find_mergeable(self) -> dict[int, tuple[int, int]]:
        """Return the special tokens that llama.cpp merges of two pieces of text, and these pieces.

        Its SentencePiece tokenizer joins neighbours whose text is any token, such as the ``sop`` of files that other
        converters wrote. Of several pairs it is the one that SentencePiece would come to: the best score first.
        """
        if llama_cpp.llama_vocab_type(self._vocab) != llama_cpp.LLAMA_VOCAB_TYPE_SPM:
            return {}
        special = frozenset(self._specials.values())
        names = {i: self.name(i) for i in special}
        pairs = {i: [(name[:cut], name[cut:]) for cut in range(1, len(name))] for i, name in names.items()}
        wanted = {part for cuts in pairs.values() for pair in cuts for part in pair}
        ordinary = (i for i in range(len(self._pieces)) if i not in special)
        known = {name: i for i in ordinary if (name := self.name(i)) in wanted}
        found: dict[int, tuple[int, int]] = {}
        for token, cuts in pairs.items():
            fitting = [(known[a], known[b]) for a, b in cuts if a in known and b in known]
            if fitting:
                found[token] = max(fitting, key=self._best_score)
        return found

    def _best_score(self, pair: tuple[int, int]) -> float:
        """Return the score of the piece in ``pair`` that was merged of characters, and thus came first."""
        merged = [i for i in pair if len(self.name(i)) > 1]
        return max((float(llama_cpp.llama_vocab_get_score(self._vocab, i)) for i in merged), default=0.0)

    def _usual_roles(self, size: int) -> dict[str, int]:
        """Return the role tokens of a Baichuan that was converted elsewhere, where its vocabulary has them.

        Pieces that llama.cpp cuts out of a text are none: a text could become one of them.
        """
        names = {i: self.name(i).encode() for i in BAICHUAN_ROLE_IDS if i < size}
        attributes = [llama_cpp.llama_vocab_get_attr(self._vocab, i) for i in names]
        if not has_baichuan_roles(names) or any(attribute & _ATTR_USER_DEFINED for attribute in attributes):
            return {}
        return dict(zip(_ROLE_KEYS, BAICHUAN_ROLE_IDS, strict=True))

    def _read_normalizer(self, path: Path) -> Normalizer | None:
        """Create the normaliser that ``glmserve convert`` recorded for this vocabulary."""
        if not _metadata(self._model, "glmserve.normalizer"):
            return None
        try:
            packed = _metadata(self._model, "glmserve.normalizer_table")
            table = NormalizationTable(_unpacked(packed)) if packed else None
        except (ValueError, zlib.error) as error:
            raise ModelLoadError(f"{path}: glmserve.normalizer_table is damaged; convert the model again") from error
        space = _metadata(self._model, "glmserve.space_prefix") == "true"
        return Normalizer(table, self._user_defined, space_prefix=space)

    def _read_piece(self, token_id: int) -> bytes:
        if llama_cpp.llama_vocab_get_attr(self._vocab, token_id) & _ATTR_UNUSED:
            return b""
        buffer = ctypes.create_string_buffer(_PIECE_BYTES)
        length = llama_cpp.llama_token_to_piece(self._vocab, token_id, buffer, _PIECE_BYTES, 0, False)
        return buffer.raw[:length] if length > 0 else b""


def _unpacked(packed: str) -> bytes:
    """Return data decoded from base64 and zlib. Raises ValueError where it is none, or too much."""
    unpacker = zlib.decompressobj()
    data = unpacker.decompress(base64.b64decode(packed), _TABLE_BYTES)
    if not unpacker.eof:
        raise ValueError("cut off, or larger than any table")
    return data


def _metadata(model: llama_cpp.llama_model_p, key: str) -> str:
    """Return a value of the file's metadata as text; empty if it is absent."""
    size = llama_cpp.llama_model_meta_val_str(model, key.encode(), None, 0)
    if size < 0:
        return ""
    buffer = ctypes.create_string_buffer(size + 1)
    llama_cpp.llama_model_meta_val_str(model, key.encode(), buffer, size + 1)
    return buffer.value.decode("utf-8")


def _token_id(value: str, vocab_size: int, what: str) -> int:
    if not value.isdecimal() or len(value) > 9 or int(value) >= vocab_size:
        raise ModelLoadError(f"{what} is {value[:40]!r}, which is not a token; convert the model again")
    return int(value)


def load_tokenizer(path: Path) -> LlamaTokenizer:
    """Load the vocabulary of the GGUF at ``path``. Raises ModelLoadError."""
    route_log()
    return LlamaTokenizer(path)
