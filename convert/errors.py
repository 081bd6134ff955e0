"""Errors between a checkpoint and its GGUF.

ConvertError
├── CheckpointError          the source folder cannot be converted as it is
│   ├── MissingFileError     a required file is missing
│   ├── CorruptFileError     a file is truncated, or its content is of another kind
│   ├── UnsupportedFileError a valid file of weights in an unsupported layout
│   ├── ForbiddenContentError  a file of weights tries to run code
│   ├── MissingTensorError   no file holds a tensor that the model needs
│   ├── UnknownTensorError   a tensor that this model does not have
│   ├── TensorShapeError     a tensor's shape contradicts config.json
│   ├── TensorTypeError      a tensor's element type cannot be read
│   └── TensorValueError     a tensor holds NaN or infinity
├── AdapterError             an unsupported LoRA adapter, or one for another model
├── UnsupportedModelError    a valid checkpoint of an unsupported model
├── VocabularyError          tokenizer.model cannot become a GGUF vocabulary
├── ImatrixError             an importance matrix cannot be used
├── KernelError              ggml's quantisation kernels could not be loaded
├── VerifyError              a finished file failed its check
├── UnverifiedError          a finished file could not be checked on this machine
└── OutputError              the result could not be written
    └── OutputBusyError      another process is writing it

Each message is one line: what happened, where, and what to do.
"""

from pathlib import Path


class ConvertError(Exception):
    """Root of the conversion's errors."""


class CheckpointError(ConvertError):
    """The source folder cannot be converted as it is."""


class MissingFileError(CheckpointError):
    """A required file is missing."""

    def __init__(self, path: Path, advice: str) -> None:
        super().__init__(f"{path} is missing; {advice}")
        self.path = path


class CorruptFileError(CheckpointError):
    """A file is truncated, or its content does not match its name."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path} is damaged: {what}; download it again")
        self.path = path


class UnsupportedFileError(CheckpointError):
    """A file of weights has an unsupported layout."""

    def __init__(self, path: Path, what: str) -> None:
        """The text after the path: the fault, and advice."""
        super().__init__(f"{path} {what}")
        self.path = path


class ForbiddenContentError(CheckpointError):
    """A pickle names an object that weights never need, so it may be an attack. Nothing of it was run."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(
            f"{path} asks for {what}, which weights do not need; nothing of it was run. "
            "Get the checkpoint from its original source, best as safetensors"
        )
        self.path = path


class MissingTensorError(CheckpointError):
    """No file of the checkpoint holds a tensor that the model needs."""

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(f"{folder} has no tensor {name}; the checkpoint is incomplete, download it again")
        self.name = name


class UnknownTensorError(CheckpointError):
    """The checkpoint holds tensors that this model does not have, so part of it would be lost."""

    def __init__(self, names: tuple[str, ...], folder: Path) -> None:
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        super().__init__(
            f"{folder} has tensors that its model does not have ({shown}); "
            "merge adapters into the base model first, or convert the base model"
        )
        self.names = names


class TensorShapeError(CheckpointError):
    """A tensor's shape contradicts config.json."""

    def __init__(self, name: str, path: Path, found: tuple[int, ...], expected: tuple[int, ...]) -> None:
        super().__init__(
            f"{path}: tensor {name} has shape {list(found)} and config.json requires "
            f"{list(expected)}; config.json and the weights must be of the same model"
        )
        self.name = name


class TensorTypeError(CheckpointError):
    """A tensor's element type cannot be read."""

    def __init__(self, name: str, path: Path, dtype: str) -> None:
        super().__init__(
            f"{path}: tensor {name} has type {dtype}; supported are F32, F16, BF16, and packed integers if config.json "
            "has quantization_bit; use the checkpoint that is not quantised"
        )
        self.name = name


class TensorValueError(CheckpointError):
    """A tensor has NaN or infinity, or a value outside of the range of the target type."""

    def __init__(self, name: str, type_name: str) -> None:
        super().__init__(
            f"tensor {name} has values that are not finite, or too large for {type_name}; the weights are "
            "damaged (download them again) or need a wider type (bf16, f32)"
        )
        self.name = name


class AdapterError(ConvertError):
    """A LoRA adapter of an unsupported kind, or for another model."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path}: this adapter cannot be converted: {what}")
        self.path = path


class UnsupportedModelError(ConvertError):
    """A valid checkpoint of an unsupported model."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path}: {what}")
        self.path = path


class VocabularyError(ConvertError):
    """tokenizer.model cannot be converted to an equivalent GGUF vocabulary."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path}: {what}")
        self.path = path


class ImatrixError(ConvertError):
    """An importance matrix cannot be used."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path}: {what}")
        self.path = path


class KernelError(ConvertError):
    """ggml's quantisation kernels could not be loaded."""


class VerifyError(ConvertError):
    """A finished file is wrong."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path} failed its check: {what}; do not use it, convert again")
        self.path = path


class UnverifiedError(ConvertError):
    """A finished file could not be checked on this machine."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} was written, but not checked: {why}; install llama-cpp-python for this CPU")
        self.path = path


class OutputError(ConvertError):
    """The result could not be written; nothing was left under its name."""


class OutputBusyError(OutputError):
    """Another process writes the same file."""

    def __init__(self, part: Path) -> None:
        """``part`` is the unfinished file."""
        super().__init__(f"{part} is being written by another process; wait for it, or choose another name")
