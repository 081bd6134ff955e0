"""GLM-4's tokenizer.model -> the vocabulary of a GGUF: byte pairs, merged in the order of their ranks.

tiktoken joins two neighbours whose joint bytes are a token, that of the lowest rank first. llama.cpp joins those that
its list of merges names, so the list is derived: each token, put together from the tokens before it, ends as the two
that are merged into it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from glmserve.convert.checkpoint.config import read_json_object
from glmserve.convert.errors import CorruptFileError, VocabularyError
from glmserve.convert.family_name import FamilyName
from glmserve.convert.gguf_keys import PROMPT_FORMAT, PROMPT_PREFIX_IDS, Metadata
from glmserve.convert.vocab.added_tokens import read_added_tokens
from glmserve.convert.vocab.chat_templates import GLM4_TEMPLATE
from glmserve.convert.vocab.tokenizer_model import PieceType, read_ranks

GLM4_SPECIALS = (
    "<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>",
    "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>",
    "<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>",
)  # fmt: skip
"""They follow the tokens in this order where tokenizer_config.json does not list them."""

_NEEDED = ("<|endoftext|>", "[gMASK]", "<sop>", "<|user|>", "<|observation|>")

_MERGED_PRE, _WHOLE_PRE = "chatglm-bpe", "glm4"
"""Names in llama.cpp for the same splitting into words; the second one looks for whole words among the tokens."""


@dataclass(frozen=True, slots=True)
class ByteLevelVocabulary:
    """Tokens in the order of their ids, special ones and padding among them."""

    texts: tuple[str, ...]
    """In GPT-2's spelling, a visible character for each byte; special tokens as they are."""
    types: tuple[int, ...]
    merges: tuple[str, ...]
    specials: Mapping[str, int]
    is_whole: bool
    """Whether merges lead to every token."""


def load_byte_level(path: Path, padded_size: int) -> ByteLevelVocabulary:
    """Read ``tokenizer.model`` and complete it to ``padded_size`` tokens.

    Raises:
        MissingFileError: there is no such file.
        CorruptFileError: tokenizer_config.json is damaged.
        VocabularyError: it is not such a vocabulary, or does not fit config.json.
    """
    tokens = read_ranks(path)
    specials = _read_specials(path, len(tokens))
    for added in read_added_tokens(path.parent):
        if specials.get(added.text) != added.id:
            raise VocabularyError(path, f"the added token {added.text!r} with id {added.id} would be lost")
    spelled = [_spell(token) for token in tokens]
    texts = {token: text for text, token in specials.items()} | dict(enumerate(spelled))
    if max(texts) >= padded_size:
        raise VocabularyError(
            path, f"its last token is {max(texts)}, and padded_vocab_size of config.json is {padded_size}"
        )
    for token in range(padded_size):
        texts.setdefault(token, f"[PAD{token}]")
    if len(set(texts.values())) != padded_size:
        raise VocabularyError(path, "two tokens have the same text, which llama.cpp cannot load")
    merges = tuple(_merges(tokens))
    return ByteLevelVocabulary(
        texts=tuple(texts[token] for token in range(padded_size)),
        types=tuple(_types(len(tokens), frozenset(specials.values()), padded_size)),
        merges=merges,
        specials=specials,
        is_whole=len(merges) == len(tokens) - 256,
    )


def byte_level_metadata(vocabulary: ByteLevelVocabulary) -> Metadata:
    """Return the tokenizer's GGUF keys, the chat template and how the server prompts."""
    end = vocabulary.specials["<|endoftext|>"]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": _MERGED_PRE if vocabulary.is_whole else _WHOLE_PRE,
        "tokenizer.ggml.tokens": vocabulary.texts,
        "tokenizer.ggml.token_type": vocabulary.types,
        "tokenizer.ggml.merges": vocabulary.merges,
        "tokenizer.ggml.eos_token_id": end,
        "tokenizer.ggml.eot_token_id": vocabulary.specials["<|user|>"],
        "tokenizer.ggml.eom_token_id": vocabulary.specials["<|observation|>"],
        "tokenizer.ggml.unknown_token_id": end,
        "tokenizer.ggml.padding_token_id": end,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.add_eos_token": False,
        "tokenizer.chat_template": GLM4_TEMPLATE,
        PROMPT_FORMAT: FamilyName.GLM4.value,
        PROMPT_PREFIX_IDS: (vocabulary.specials["[gMASK]"], vocabulary.specials["<sop>"]),
    }


def _read_specials(path: Path, first: int) -> Mapping[str, int]:
    config = path.with_name("tokenizer_config.json")
    listed = read_json_object(config, "").get("added_tokens_decoder") if config.exists() else None
    if not isinstance(listed, dict) or not listed:
        return {text: first + number for number, text in enumerate(GLM4_SPECIALS)}
    specials: dict[str, int] = {}
    for token, entry in listed.items():
        text = entry.get("content") if isinstance(entry, dict) else None
        if not str(token).isdecimal() or not isinstance(text, str) or int(token) < first:
            raise CorruptFileError(config, f"its added token {token} makes no sense beside {first} ordinary tokens")
        specials[text] = int(token)
    missing = [text for text in _NEEDED if text not in specials]
    if missing:
        raise VocabularyError(config, f"it lacks {', '.join(missing)}; this is not the tokenizer of GLM-4")
    return specials


def _types(ordinary: int, specials: frozenset[int], padded_size: int) -> Iterator[int]:
    for token in range(padded_size):
        if token < ordinary:
            yield int(PieceType.NORMAL)
        else:
            yield int(PieceType.CONTROL if token in specials else PieceType.UNUSED)


def _merges(tokens: tuple[bytes, ...]) -> Iterator[str]:
    ranks = {token: rank for rank, token in enumerate(tokens)}
    for rank, token in enumerate(tokens):
        if len(token) > 1:
            parts = _split(token, ranks, rank)
            if len(parts) == 2:
                yield f"{_spell(parts[0])} {_spell(parts[1])}"


def _split(token: bytes, ranks: Mapping[bytes, int], limit: int) -> list[bytes]:
    """Merge the bytes of ``token``, lowest rank first, as long as that gives tokens of a rank below ``limit``."""
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        joint = [ranks.get(parts[i] + parts[i + 1], limit) for i in range(len(parts) - 1)]
        lowest = min(joint)
        if lowest >= limit:
            break
        at = joint.index(lowest)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts


def _visible_bytes() -> tuple[str, ...]:
    """GPT-2's spelling: printable Latin-1 stands for itself, the other bytes for characters from 256 on."""
    plain = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return tuple(chr(byte) if byte in plain else chr(next(others)) for byte in range(256))


_VISIBLE = _visible_bytes()


def _spell(token: bytes) -> str:
    return "".join(_VISIBLE[byte] for byte in token)
