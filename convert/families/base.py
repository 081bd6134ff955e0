"""The interface between the conversion pipeline and a model family."""

from dataclasses import dataclass
from typing import Protocol

from glmserve.convert.checkpoint.reader import TensorSource
from glmserve.convert.gguf_format import FamilyName, Metadata


@dataclass(frozen=True, slots=True)
class TensorMapping:
    """One tensor under its name in the checkpoint and in the GGUF."""

    source: str
    target: str
    shape: tuple[int, ...]
    """(rows, columns), or (values,) for a vector."""
    layer: int = 0
    """0 too for tensors outside the layers."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The hyperparameters of most models, checked."""

    name: str
    layers: int
    hidden: int
    ffn: int
    heads: int
    vocabulary: int
    context: int
    """Positions that a text may take."""
    epsilon: float

    def metadata(self, architecture: str) -> Metadata:
        """Return the GGUF keys that every architecture has."""
        return {
            "general.architecture": architecture,
            "general.type": "model",
            "general.name": self.name,
            f"{architecture}.vocab_size": self.vocabulary,
            f"{architecture}.context_length": self.context,
            f"{architecture}.embedding_length": self.hidden,
            f"{architecture}.feed_forward_length": self.ffn,
            f"{architecture}.block_count": self.layers,
            f"{architecture}.attention.head_count": self.heads,
        }


class Family(Protocol):
    """One checkpoint, its configuration read and checked, as a member of its family."""

    @property
    def name(self) -> FamilyName:
        """Which family."""

    @property
    def layers(self) -> int:
        """Transformer layers."""

    @property
    def heads_per_group(self) -> int:
        """Query heads that share a key/value group."""

    @property
    def ignored(self) -> frozenset[str]:
        """Tensors of the checkpoint that are not converted, because the file needs none of them."""

    @property
    def findings(self) -> tuple[str, ...]:
        """Decisions made from the checkpoint, with their reasons: one line each, for people."""

    def hyperparameters(self) -> Metadata:
        """Return the GGUF keys of name, architecture and shape."""

    def vocabulary(self) -> Metadata:
        """Return the GGUF keys of the tokenizer, the chat template and the prompt; raises ConvertError."""

    def tensors(self) -> tuple[TensorMapping, ...]:
        """Return all tensors of the file, in order; sources are names of the tensors that ``prepare`` returns."""

    def prepare(self, source: TensorSource) -> TensorSource:
        """Return the checkpoint's tensors as the table names them: unpacked, split or normalised where needed."""
