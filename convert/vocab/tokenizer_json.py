"""``tokenizer.json`` of Hugging Face's tokenizers -> the vocabulary of a GGUF: byte pairs with GLM-4's words.

The file says in full how text becomes tokens. What it says is compared with what llama.cpp does under the name that
goes into the GGUF, and anything else is rejected: another way to split text would give other ids without a word.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from glmserve.convert.checkpoint.config import read_json_object
from glmserve.convert.errors import CorruptFileError, VocabularyError
from glmserve.convert.vocab.added_tokens import read_added_tokens
from glmserve.convert.vocab.tokenizer_model import PieceType


@dataclass(frozen=True, slots=True)
class ByteLevelVocabulary:
    """Tokens in the order of their ids, special ones and padding among them."""

    texts: tuple[str, ...]
    """In GPT-2's spelling; special tokens as they are."""
    types: tuple[int, ...]
    merges: tuple[str, ...]
    specials: Mapping[str, int]
    is_merged: bool
    """Whether words come from merges alone; else a word that is a token is that token, even against the merges."""


def _visible_bytes() -> tuple[str, ...]:
    """Printable Latin-1 stands for itself, the other bytes for characters from 256 on."""
    plain = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return tuple(chr(byte) if byte in plain else chr(next(others)) for byte in range(256))


VISIBLE = _visible_bytes()
"""By the byte."""


def spell(token: bytes) -> str:
    """Return the spelling of a token."""
    return "".join(VISIBLE[byte] for byte in token)


_ADVICE = "the vocabulary comes from it: copy it from the original checkpoint"
_REST = r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_WORDS = (
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)" + _REST,
    "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])" + _REST,
)
"""GLM-4's, in the authors' and in llama.cpp's spelling, which has it as ``LLAMA_VOCAB_PRE_TYPE_CHATGLM4``."""
_SPLITS = (("Isolated", False), ("Removed", True))
"""Two ways to say that the matches are the words."""
_OFF = {
    "dropout": (None, 0, 0.0),
    "unk_token": (None,),
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""),
    "byte_fallback": (None, False),
}
"""Options of the model that llama.cpp does not have, and the values that switch them off."""
_MATCHING = ("lstrip", "rstrip", "single_word")


@dataclass(frozen=True, slots=True)
class _Added:
    """One entry of ``added_tokens``."""

    id: int
    text: str
    is_special: bool
    matching: str
    """Which of lstrip, rstrip and single_word is set; empty where none is."""


def load_tokenizer_json(path: Path, size: int) -> ByteLevelVocabulary:
    """Read ``tokenizer.json`` and complete it to ``size`` tokens.

    Raises:
        MissingFileError: there is no such file.
        CorruptFileError: it makes no sense.
        VocabularyError: llama.cpp would tokenise otherwise with it, or it does not fit config.json.
    """
    raw = read_json_object(path, _ADVICE)
    model = _object(path, raw, "model")
    _check_meaning(path, raw, model)
    texts = _vocabulary(path, model)
    added = tuple(_added(path, raw))
    _check_added(path, added, {token: text for text, token in texts.items()})
    by_id = {token: text for text, token in texts.items()} | {one.id: one.text for one in added}
    if max(by_id) >= size:
        raise VocabularyError(path, f"its last token is {max(by_id)}, and vocab_size of config.json is {size}")
    for token in range(size):
        by_id.setdefault(token, f"[PAD{token}]")
    if len(set(by_id.values())) != size:
        raise VocabularyError(path, "two tokens have the same text, which llama.cpp cannot load")
    types = dict.fromkeys(texts.values(), PieceType.NORMAL)
    types |= {one.id: PieceType.CONTROL if one.is_special else PieceType.USER_DEFINED for one in added}
    return ByteLevelVocabulary(
        texts=tuple(by_id[token] for token in range(size)),
        types=tuple(int(types.get(token, PieceType.UNUSED)) for token in range(size)),
        merges=tuple(_merges(path, model, texts)),
        specials={one.text: one.id for one in added if one.is_special},
        is_merged=model.get("ignore_merges") is not True,
    )


def _object(path: Path, raw: Mapping[str, object], key: str) -> Mapping[str, object]:
    value = raw.get(key)
    if not isinstance(value, dict):
        raise CorruptFileError(path, f"its {key} is no object")
    return value


def _check_meaning(path: Path, raw: Mapping[str, object], model: Mapping[str, object]) -> None:
    """Reject steps that llama.cpp's tokenizer for GLM-4 does not do."""
    used = [key for key, off in _OFF.items() if model.get(key) not in off]
    problems = (
        (model.get("type", "BPE") != "BPE", f"its model is {model.get('type')!r}"),
        (bool(used), f"its model has {', '.join(used)}"),
        (bool(raw.get("normalizer")), "it normalises text"),
        (not _has_words_of_glm4(raw.get("pre_tokenizer")), "it splits text into other words"),
    )
    for wrong, what in problems:
        if wrong:
            raise VocabularyError(path, f"{what}; this is not the tokenizer of GLM-4, and its ids would be others")


def _has_words_of_glm4(pre_tokenizer: object) -> bool:
    if not isinstance(pre_tokenizer, dict) or pre_tokenizer.get("type") != "Sequence":
        return False
    steps = pre_tokenizer.get("pretokenizers")
    split, spelling = steps if isinstance(steps, list) and len(steps) == 2 else (None, None)
    return (
        isinstance(split, dict)
        and isinstance(spelling, dict)
        and _is_split(split)
        and spelling.get("type") == "ByteLevel"
        and spelling.get("add_prefix_space") is False
        and spelling.get("use_regex") is False
    )


def _is_split(split: Mapping[str, object]) -> bool:
    return (
        split.get("type") == "Split"
        and split.get("pattern") in [{"Regex": words} for words in _WORDS]
        and (split.get("behavior"), split.get("invert")) in _SPLITS
    )


def _vocabulary(path: Path, model: Mapping[str, object]) -> dict[str, int]:
    listed = _object(path, model, "vocab")
    found: dict[str, int] = {}
    for text, token in listed.items():
        if not isinstance(token, int) or isinstance(token, bool) or token < 0:
            raise CorruptFileError(path, f"the id of {text[:40]!r} is no whole number")
        found[text] = token
    if len(set(found.values())) != len(found):
        raise CorruptFileError(path, "two tokens have one id")
    missing = sum(character not in found for character in VISIBLE)
    if missing:
        raise VocabularyError(path, f"it lacks {missing} of the 256 single bytes; download it again")
    spelling = set(VISIBLE)
    strange = next((text for text in found if not text or not spelling.issuperset(text)), None)
    if strange is not None:
        raise VocabularyError(path, f"its token {strange[:40]!r} is not spelled in bytes; this is not GLM-4's")
    return found


def _merges(path: Path, model: Mapping[str, object], texts: Mapping[str, int]) -> Iterator[str]:
    """Return the merges as llama.cpp has them: two tokens with a space between, in the order of their ranks."""
    listed = model.get("merges")
    if not isinstance(listed, list):
        raise CorruptFileError(path, "its merges are no list")
    for merge in listed:
        # A string until tokenizers 0.20, a pair since.
        pair: Sequence[object] = (
            merge.split(" ") if isinstance(merge, str) else merge if isinstance(merge, list) else ()
        )
        parts = [part for part in pair if isinstance(part, str)]
        if len(pair) != 2 or len(parts) != 2 or not {*parts, "".join(parts)} <= texts.keys():
            raise CorruptFileError(path, f"its merge {str(merge)[:80]!r} is no pair of tokens that make a token")
        yield " ".join(parts)


def _added(path: Path, raw: Mapping[str, object]) -> Iterator[_Added]:
    listed = raw.get("added_tokens") or []
    for value in listed if isinstance(listed, list) else [listed]:
        entry: Mapping[str, object] = value if isinstance(value, dict) else {}
        token, text = entry.get("id"), entry.get("content")
        if not isinstance(token, int) or isinstance(token, bool) or token < 0 or not isinstance(text, str):
            raise CorruptFileError(path, f"its added token {str(value)[:80]} is no id with a content")
        matching = next((way for way in _MATCHING if entry.get(way) is True), "")
        yield _Added(token, text, entry.get("special") is True, matching)


def _check_added(path: Path, added: Sequence[_Added], texts: Mapping[int, str]) -> None:
    """Reject added tokens that would be lost, or found otherwise than transformers finds them."""
    ids = {one.text: one.id for one in added}
    for one in added:
        problem = ""
        if texts.get(one.id, one.text) != one.text or ids[one.text] != one.id:
            problem = "takes the place of another token"
        elif not one.text or "\0" in one.text:
            problem = "has no text that a file can hold"
        elif one.matching and not one.is_special:
            problem = f"is found with {one.matching}, which llama.cpp does not have"
        if problem:
            raise VocabularyError(path, f"the added token {one.text!r} with id {one.id} {problem}")
    for listed in read_added_tokens(path.parent):
        if ids.get(listed.text) != listed.id:
            raise VocabularyError(
                path, f"the added token {listed.text!r} with id {listed.id} of another file is not in it; "
                "it would be lost, so nothing is converted. Save the tokenizer again with transformers"
            )  # fmt: skip
