"""GLM-4's vocabulary, ends and chat template -> GGUF keys: byte pairs, merged in the order of their ranks.

tiktoken joins two neighbours whose joint bytes are a token, that of the lowest rank first. llama.cpp joins those that
its list of merges names, so the list is derived: each token, put together from the tokens before it, ends as the two
that are merged into it.
"""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from glmserve.convert.checkpoint.config import ConfigFile, read_file, read_json_object
from glmserve.convert.errors import CorruptFileError, VocabularyError
from glmserve.convert.gguf_format import PROMPT_FORMAT, PROMPT_PREFIX_IDS, FamilyName, Metadata
from glmserve.convert.vocab.added_tokens import read_added_tokens
from glmserve.convert.vocab.chat_templates import GLM4_TEMPLATE
from glmserve.convert.vocab.tokenizer_json import ByteLevelVocabulary, load_tokenizer_json, spell
from glmserve.convert.vocab.tokenizer_model import PieceType, read_ranks

GLM4_SPECIALS = (
    "<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>",
    "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>",
    "<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>",
)  # fmt: skip
"""They follow the tokens in this order where tokenizer_config.json does not list them."""

_ENDS = ("<|endoftext|>", "<|user|>", "<|observation|>")
_NEEDED = (*_ENDS, "[gMASK]", "<sop>")
_END_KEYS = ("eos", "eot", "eom", "fim_pad", "fim_rep", "fim_sep")
"""llama.cpp ends an answer at each of these; their other meanings concern no chat."""

_MERGED_PRE, _WHOLE_PRE = "chatglm-bpe", "glm4"
"""Names in llama.cpp for the same splitting into words; the second one looks for whole words among the tokens."""


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
    spelled = [spell(token) for token in tokens]
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
        is_merged=len(merges) == len(tokens) - 256,
    )


def byte_level_metadata(
    path: Path, vocabulary: ByteLevelVocabulary, ends: Collection[int] = (), family: FamilyName = FamilyName.GLM4
) -> Metadata:
    """Return the tokenizer's GGUF keys, the chat template and how the server prompts.

    Args:
        path: the file of the vocabulary, for messages.
        vocabulary: its tokens.
        ends: ids that end an answer, beside those of the prompt format.
        family: the prompt format.

    Raises:
        VocabularyError: special tokens of GLM-4 are missing, or a file has too few keys for its ends.
    """
    specials = vocabulary.specials
    missing = [text for text in _NEEDED if text not in specials]
    if missing:
        raise VocabularyError(path, f"it lacks {', '.join(missing)}; this is not the tokenizer of GLM-4")
    end = specials["<|endoftext|>"]
    all_ends = tuple(dict.fromkeys((*(specials[text] for text in _ENDS), *ends)))
    if len(all_ends) > len(_END_KEYS):
        raise VocabularyError(path, f"{len(all_ends)} tokens end an answer, and llama.cpp has {len(_END_KEYS)} at most")
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": _MERGED_PRE if vocabulary.is_merged else _WHOLE_PRE,
        "tokenizer.ggml.tokens": vocabulary.texts,
        "tokenizer.ggml.token_type": vocabulary.types,
        "tokenizer.ggml.merges": vocabulary.merges,
        **{f"tokenizer.ggml.{key}_token_id": token for key, token in zip(_END_KEYS, all_ends, strict=False)},
        "tokenizer.ggml.unknown_token_id": end,
        "tokenizer.ggml.padding_token_id": end,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.add_eos_token": False,
        "tokenizer.chat_template": GLM4_TEMPLATE,
        PROMPT_FORMAT: family.value,
        PROMPT_PREFIX_IDS: (specials["[gMASK]"], specials["<sop>"]),
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
                yield f"{spell(parts[0])} {spell(parts[1])}"


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


_GENERATION, _TOKENIZER, _TEMPLATE = "generation_config.json", "tokenizer_config.json", "chat_template.jinja"
_ADVICE = "copy it from the original checkpoint"
_MOST_TEMPLATE_BYTES = 1 << 20
_PREFIX = "[gMASK]"
"""The beginning of every template of the family."""
_THINKS = "<think>"
_TEMPLATE_FORMAT = "template"
"""The server's name for the prompt format that is the file's own template."""


def glm4_vocabulary(file: ConfigFile, size: int, family: FamilyName) -> Metadata:
    """Return the GGUF keys of the tokenizer, the ends, the chat template and the prompt.

    Args:
        file: config.json of the folder.
        size: rows of the embedding.
        family: its prompt format, where its chat template is none of another family.

    Raises:
        MissingFileError: there is neither tokenizer.json nor tokenizer.model.
        CorruptFileError: a file makes no sense.
        VocabularyError: llama.cpp would tokenise otherwise.
    """
    path = file.folder / "tokenizer.json"
    plain = file.folder / "tokenizer.model"
    if plain.exists() and not path.exists():
        path, vocabulary = plain, load_byte_level(plain, size)
    else:
        vocabulary = load_tokenizer_json(path, size)
    keys = byte_level_metadata(path, vocabulary, _ends(file, size), family)
    template = _chat_template(file.folder)
    if template is None:
        return keys
    if _PREFIX not in template or _THINKS in template:
        # GLM-Z1, or a model that was tuned for other prompts: the server renders the template.
        keys[PROMPT_FORMAT] = _TEMPLATE_FORMAT
        del keys[PROMPT_PREFIX_IDS]
    return {**keys, "tokenizer.chat_template": template}


def _ends(file: ConfigFile, size: int) -> tuple[int, ...]:
    """Return the ids that end an answer, of the generation's configuration or else of the model's."""
    path = file.folder / _GENERATION
    raw: Mapping[str, object] = read_json_object(path, _ADVICE) if path.exists() else {}
    if raw.get("eos_token_id") is None:
        path, raw = file.path, file.raw
    value = raw.get("eos_token_id")
    ends = value if isinstance(value, list) else [] if value is None else [value]
    for token in ends:
        if not isinstance(token, int) or isinstance(token, bool) or not 0 <= token < size:
            raise CorruptFileError(path, f"its eos_token_id {str(token)[:40]} is no token of the {size} that there are")
    return tuple(ends)


def _chat_template(folder: Path) -> str | None:
    """Return the folder's chat template: a file of its own, or a text or a list of texts by name; None without one."""
    path = folder / _TEMPLATE
    if path.exists():
        try:
            return read_file(path, _MOST_TEMPLATE_BYTES).decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CorruptFileError(path, f"it is no text ({error})") from error
    path = folder / _TOKENIZER
    value = read_json_object(path, _ADVICE).get("chat_template") if path.exists() else None
    if isinstance(value, list):
        named = {one.get("name"): one.get("template") for one in value if isinstance(one, dict)}
        value = named.get("default")
    if value is not None and not isinstance(value, str):
        raise CorruptFileError(path, "its chat_template is no text")
    return value
