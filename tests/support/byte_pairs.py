"""Byte pairs with GLM-4's words, trained on a few lines, in the two files that hold such a vocabulary."""

import base64
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise

import regex

from glmserve.convert.vocab.glm4 import GLM4_SPECIALS

GLM4_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
)
GLM4_TEXT = (
    "The quick brown fox jumps over the lazy dog; it's 2023, they're here. " * 3
    + "北京是中国的首都，上海是最大的城市。今天天气很好，我们去公园散步吧！" * 3
    + "今晚妈妈做了红烧鱼和青菜，爸爸读报纸；弟弟问：为什么天是蓝的？ What a wonderful, unbelievable morning it was! "
    + "def add(a, b):\n    return a + b  # 1234567890\r\n\r\n"
)


def byte_pairs(size: int) -> dict[bytes, int]:
    """Train byte pairs on GLM4_TEXT: the pair that is there most often becomes the next token."""
    words = Counter(tuple(bytes([b]) for b in w.encode()) for w in regex.findall(GLM4_WORDS, GLM4_TEXT))
    ranks = {bytes([byte]): byte for byte in range(256)}
    while len(ranks) < size:
        pairs: Counter[tuple[bytes, bytes]] = Counter()
        for word, count in words.items():
            for pair in pairwise(word):
                pairs[pair] += count
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        ranks[best[0] + best[1]] = len(ranks)
        words = Counter({_join(word, best): count for word, count in words.items()})
    return ranks


def _join(word: tuple[bytes, ...], pair: tuple[bytes, bytes]) -> tuple[bytes, ...]:
    joined: list[bytes] = []
    for part in word:
        if joined and (joined[-1], part) == pair:
            joined[-1] += part
        else:
            joined.append(part)
    return tuple(joined)


def model_file(ranks: dict[bytes, int]) -> bytes:
    return b"".join(base64.b64encode(token) + b" %d\n" % rank for token, rank in ranks.items())


def spelled(token: bytes) -> str:
    """Return a token as tokenizer.json has it: a visible character for each byte."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return "".join(chr(byte) if byte in plain else chr(256 + others.index(byte)) for byte in token)


def tokenizer_json(
    ranks: Mapping[bytes, int], *, specials: Sequence[str] = GLM4_SPECIALS, whole: bool = True, pairs: bool = True
) -> dict[str, object]:
    """Return the document that transformers makes of such ranks: all splits of a token are merges.

    Args:
        ranks: the tokens.
        specials: they follow the tokens.
        whole: whether words that are tokens are taken whole.
        pairs: merges as pairs, or as strings as until 2024.
    """
    merges = [
        (left, right)
        for token in sorted(ranks, key=ranks.__getitem__)
        for left, right in sorted(
            ((token[:i], token[i:]) for i in range(1, len(token)) if token[:i] in ranks and token[i:] in ranks),
            key=lambda split: (ranks[split[0]], ranks[split[1]]),
        )
    ]
    words = {"type": "Split", "pattern": {"Regex": GLM4_WORDS}, "behavior": "Isolated", "invert": False}
    spelling = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": len(ranks) + i, "content": text, **flags, "special": True} for i, text in enumerate(specials)
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [words, spelling]},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": whole,
            "vocab": {spelled(token): rank for token, rank in ranks.items()},
            "merges": [[spelled(a), spelled(b)] if pairs else f"{spelled(a)} {spelled(b)}" for a, b in merges],
        },
    }


def tokenizer_text(ranks: Mapping[bytes, int]) -> str:
    """Return tokenizer.json."""
    return json.dumps(tokenizer_json(ranks), ensure_ascii=False)
