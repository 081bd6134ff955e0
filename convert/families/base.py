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
