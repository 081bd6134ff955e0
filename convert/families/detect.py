"""Which family a checkpoint is of: the one place where the families meet."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

from glmserve.convert.checkpoint.config import ConfigFile, load_config
from glmserve.convert.errors import UnsupportedModelError
from glmserve.convert.families import baichuan, bert, chatglm, glm
from glmserve.convert.families.base import Family
from glmserve.convert.gguf_format import FamilyName

Reader: TypeAlias = Callable[[ConfigFile, FamilyName | None], Family]
"""Makes a family of a config.json; the second argument is the user's choice."""

_READERS: Mapping[str, Reader] = MappingProxyType(
    {
        "chatglm": chatglm.read_family,
        "baichuan": baichuan.read_family,
        **dict.fromkeys(glm.MODEL_TYPES, glm.read_family),
        **dict.fromkeys(bert.MODEL_TYPES, bert.read_family),
    }
)
"""By ``model_type``."""
_TEXT_MODEL = "ForCausalLM"
"""How transformers names the classes of models that generate text."""


def detect(folder: Path, family: FamilyName | None = None) -> Family:
    """Read the configuration of a checkpoint folder.

    Args:
        folder: of a whole model, in Hugging Face's layout.
        family: what the user says it is; decided from the folder where it is None.

    Raises:
        MissingFileError: there is no config.json.
        CorruptFileError: it is not JSON, or a value has the wrong type.
        UnsupportedModelError: no family, or none that ``family`` can be, describes such a model.
    """
    config = load_config(folder)
    # Older copies of ChatGLM2 have no model_type.
    kind = config.model_type or "chatglm" * any(name.startswith("ChatGLM") for name in config.architectures)
    if kind not in _READERS:
        raise UnsupportedModelError(config.path, _rejection(config))
    return _READERS[kind](config, family)


def _rejection(config: ConfigFile) -> str:
    said = f"model_type {config.model_type!r} with architectures {list(config.architectures)} is not converted"
    if any(name.endswith(_TEXT_MODEL) for name in config.architectures):
        # Qwen, Llama, Mistral and the rest: there are files of them, which llama.cpp's own converter makes.
        return f"{said}; it is a text model of another family: get its GGUF and serve that, glmserve serve FILE.gguf"
    return f"{said} (known: {', '.join(_READERS)})"
