"""The ChatGLM family: one architecture, several tokenizers and prompts."""

from dataclasses import dataclass

from convert.chatglm import IGNORED_TENSORS, ChatGLMConfig, Rope, hyperparameters, read_shape, tensor_table
from convert.checkpoint import TensorSource
from convert.config import ConfigFile
from convert.errors import UnsupportedModelError
from convert.family import FamilyName, TensorMapping
from convert.metadata import Metadata
from convert.vocabulary import load_vocabulary, vocabulary_metadata

_OTHER_FAMILIES = ("chatglm3", "codegeex", "glm-4", "glm4")


@dataclass(frozen=True, slots=True)
class ChatGLM:
    """A checkpoint of the family; see ``convert.family.Family``."""

    file: ConfigFile
    config: ChatGLMConfig
    name: FamilyName
    findings: tuple[str, ...] = ()

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
        path = self.file.folder / "tokenizer.model"
        return vocabulary_metadata(load_vocabulary(path, self.config.padded_vocab_size))

    def tensors(self) -> tuple[TensorMapping, ...]:
        """Return all tensors of the file, in order."""
        return tensor_table(self.config)

    def prepare(self, source: TensorSource) -> TensorSource:
        """Return the checkpoint's tensors, which need no change."""
        return source


def read_family(file: ConfigFile, family: FamilyName | None) -> ChatGLM:
    """Decide which model of the family a checkpoint is; see ``convert.families.detect``."""
    _check_supported(file, family)
    return ChatGLM(file, read_shape(file, _rope(file)), FamilyName.CHATGLM2)


def _check_supported(file: ConfigFile, family: FamilyName | None) -> None:
    if not any(name.startswith("ChatGLM") for name in file.architectures):
        raise UnsupportedModelError(file.path, f"architectures {list(file.architectures)} is not converted; no ChatGLM")
    if family not in (None, FamilyName.CHATGLM2):
        raise UnsupportedModelError(file.path, f"this is a ChatGLM, which cannot be converted as {family.value}")
    name = file.original_name.lower()
    if any(other in name for other in _OTHER_FAMILIES):
        raise UnsupportedModelError(
            file.path,
            f"{file.original_name} has a prompt or a tokenizer of its own, which is not converted yet; "
            "only ChatGLM2 is",
        )
    if file.raw.get("quantization_bit"):
        raise UnsupportedModelError(
            file.path,
            f"the weights are packed int{file.raw['quantization_bit']}; convert the float16 checkpoint instead",
        )
    if file.raw.get("pre_seq_len"):
        raise UnsupportedModelError(file.path, "this is a P-Tuning checkpoint; convert the base model instead")


def _rope(file: ConfigFile) -> Rope:
    if file.raw.get("rope_ratio") in (None, 1, 1.0):
        return Rope()
    # ChatGLM2 divides positions by the ratio; its successors multiply the base by it under the same key. Only
    # the name tells them apart here, so without it there is no right answer.
    if "chatglm2" not in file.original_name.lower():
        raise UnsupportedModelError(
            file.path,
            f"rope_ratio is {file.raw['rope_ratio']}, which ChatGLM2 and ChatGLM3 use in "
            "different ways; put the original name into _name_or_path, such as THUDM/chatglm2-6b-32k",
        )
    return Rope(factor=file.positive_number("rope_ratio"))
