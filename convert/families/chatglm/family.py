"""The ChatGLM family: one architecture, several tokenizers and prompts."""

import re
from dataclasses import dataclass

from glmserve.convert.checkpoint.config import ConfigFile
from glmserve.convert.checkpoint.int_unpack import UnpackedTensors
from glmserve.convert.checkpoint.reader import TensorSource
from glmserve.convert.errors import UnsupportedModelError
from glmserve.convert.families.base import TensorMapping
from glmserve.convert.families.chatglm.tensors import (
    IGNORED_TENSORS,
    ChatGLMConfig,
    Rope,
    hyperparameters,
    read_shape,
    tensor_table,
)
from glmserve.convert.families.chatglm.variant import Variant, decide_variant
from glmserve.convert.family_name import FamilyName
from glmserve.convert.gguf_keys import Metadata
from glmserve.convert.vocab.chatglm import load_vocabulary, vocabulary_metadata
from glmserve.convert.vocab.glm4 import byte_level_metadata, load_byte_level

_FIRST_GENERATION = ("position_encoding_2d", "inner_hidden_size", "gmask_token_id")
"""Keys of config.json that no later ChatGLM has."""

MODEL_CODE = "modeling_chatglm.py"
"""The authors' code in the folder, read as text and never run."""

_DIVIDES = re.compile(r"/\s*(?:self\.)?rope_ratio\b")
_MULTIPLIES = re.compile(r"\*\s*(?:self\.)?rope_ratio\b|\b(?:self\.)?rope_ratio\s*\*")


@dataclass(frozen=True, slots=True)
class ChatGLM:
    """A checkpoint of the family; see ``glmserve.convert.families.base.Family``."""

    file: ConfigFile
    config: ChatGLMConfig
    name: FamilyName
    packed_bits: int
    """4 or 8 where the published weights are packed integers, else 0."""
    findings: tuple[str, ...]

    @property
    def layers(self) -> int:
        """Transformer layers."""
        return self.config.num_layers

    @property
    def heads_per_group(self) -> int:
        """Query heads that share a key/value group."""
        return self.config.heads_per_group

    @property
    def ignored(self) -> frozenset[str]:
        """The rotary frequencies."""
        return IGNORED_TENSORS

    def hyperparameters(self) -> Metadata:
        """Return the GGUF keys of name, architecture and shape."""
        return hyperparameters(self.config)

    def vocabulary(self) -> Metadata:
        """Return the GGUF keys of the tokenizer and the prompt; raises MissingFileError, VocabularyError."""
        path, size = self.file.folder / "tokenizer.model", self.config.padded_vocab_size
        if self.name is FamilyName.GLM4:
            return byte_level_metadata(load_byte_level(path, size))
        return vocabulary_metadata(load_vocabulary(path, size, self.name))

    def tensors(self) -> tuple[TensorMapping, ...]:
        """Return all tensors of the file, in order."""
        return tensor_table(self.config)

    def prepare(self, source: TensorSource) -> TensorSource:
        """Return the checkpoint's tensors, unpacked where they are int4 or int8."""
        return UnpackedTensors(source, self.packed_bits) if self.packed_bits else source


def read_family(file: ConfigFile, family: FamilyName | None) -> ChatGLM:
    """Decide which model of the family a checkpoint is; see ``glmserve.convert.families.detect.detect``."""
    _check_supported(file)
    kind = decide_variant(file, family)
    rope, rope_findings = decide_rope(file, kind)
    bits, bits_findings = _packed_bits(file)
    findings = (kind.finding, *rope_findings, *bits_findings)
    return ChatGLM(file, read_shape(file, rope), kind.family, bits, findings)


def _packed_bits(file: ConfigFile) -> tuple[int, tuple[str, ...]]:
    bits = file.raw.get("quantization_bit") or 0
    if bits not in (0, 4, 8):
        raise UnsupportedModelError(file.path, f"quantization_bit is {bits!r}; only int4 and int8 are unpacked")
    finding = f"weights: packed int{bits}, unpacked; the checkpoint they were made from gives a better file"
    return (4, (finding,)) if bits == 4 else (8, (finding,)) if bits == 8 else (0, ())


def _check_supported(file: ConfigFile) -> None:
    if any(key in file.raw for key in _FIRST_GENERATION) or (file.folder / "ice_text.model").exists():
        raise UnsupportedModelError(
            file.path,
            "this is ChatGLM-6B of the first generation, a model that llama.cpp does not have; "
            "ChatGLM2-6B and ChatGLM3-6B are its successors",
        )
    if not any(name.startswith("ChatGLM") for name in file.architectures):
        raise UnsupportedModelError(file.path, f"architectures {list(file.architectures)} is not converted; no ChatGLM")


def decide_rope(file: ConfigFile, kind: Variant) -> tuple[Rope, tuple[str, ...]]:
    """Return the rotation, and the reason where the checkpoint left a choice.

    ChatGLM2-32k divides positions by ``rope_ratio``; all its successors multiply the base by it.

    Raises:
        CorruptFileError: the ratio is no positive number.
        UnsupportedModelError: nothing in the folder says what the ratio means.
    """
    if file.raw.get("rope_ratio") in (None, 1, 1.0):
        return Rope(), ()
    ratio = file.positive_number("rope_ratio")
    divides, reason = _by_code(file) or _by_family(file, kind)
    if divides:
        return Rope(factor=ratio), (f"rope: positions are divided by {ratio:g}, because {reason}",)
    base = Rope().base * ratio
    return Rope(base=base), (f"rope: the base is {base:g}, multiplied by {ratio:g}, because {reason}",)


def _by_code(file: ConfigFile) -> tuple[bool, str] | None:
    try:
        code = (file.folder / MODEL_CODE).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    divides, multiplies = bool(_DIVIDES.search(code)), bool(_MULTIPLIES.search(code))
    return None if divides == multiplies else (divides, f"{MODEL_CODE} does so")


def _by_family(file: ConfigFile, kind: Variant) -> tuple[bool, str]:
    if not kind.is_certain:
        raise UnsupportedModelError(
            file.path,
            f"rope_ratio is {file.raw['rope_ratio']}, which ChatGLM2 and ChatGLM3 use in different ways; say which "
            f"it is with --family, or copy {MODEL_CODE} of the original into the folder",
        )
    return kind.family is FamilyName.CHATGLM2, f"{kind.family.value} does so ({kind.reason})"
