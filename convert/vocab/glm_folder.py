"""The vocabulary, the ends and the chat template of a GLM-4 folder in Hugging Face's own layout."""

from collections.abc import Mapping
from pathlib import Path

from glmserve.convert.checkpoint.config import ConfigFile, read_file, read_json_object
from glmserve.convert.errors import CorruptFileError
from glmserve.convert.gguf_format import PROMPT_FORMAT, PROMPT_PREFIX_IDS, FamilyName, Metadata
from glmserve.convert.vocab.glm4 import byte_level_metadata, load_byte_level
from glmserve.convert.vocab.tokenizer_json import load_tokenizer_json

_GENERATION, _TOKENIZER, _TEMPLATE = "generation_config.json", "tokenizer_config.json", "chat_template.jinja"
_ADVICE = "copy it from the original checkpoint"
_MOST_TEMPLATE_BYTES = 1 << 20
_PREFIX = "[gMASK]"
"""What every template of the family begins with."""
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
