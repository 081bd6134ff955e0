"""Errors between a checkpoint and its GGUF.

ConvertError
├── CheckpointError          the source folder is not usable as it is
│   ├── MissingFileError     a file that must be there is not
│   ├── CorruptFileError     a file is cut off or is not what its name says
│   ├── UnsupportedFileError a sound file of weights, laid out in a way that is not read
│   ├── ForbiddenContentError  a file of weights asks to run something
│   ├── MissingTensorError   no file holds a tensor that the model needs
│   ├── UnknownTensorError   a tensor that this model does not have
│   ├── TensorShapeError     a tensor's shape contradicts config.json
│   ├── TensorTypeError      a tensor's element type cannot be read
│   └── TensorValueError     a tensor holds NaN or infinity
├── AdapterError             a LoRA adapter of a kind, or for a model, that is not converted
├── UnsupportedModelError    a sound checkpoint, but of a model that is not converted
├── VocabularyError          tokenizer.model cannot become a GGUF vocabulary
├── ImatrixError             an importance matrix cannot be used
├── KernelError              ggml's quantisation kernels could not be loaded
├── VerifyError              a finished file is not what it must be
├── UnverifiedError          a finished file could not be tried on this machine
└── OutputError              the result could not be written
    └── OutputBusyError      another process writes it

Each message is one line: what happened, where, and what to do.
"""

from pathlib import Path


class ConvertError(Exception):
    """Root of everything the conversion reports."""


class CheckpointError(ConvertError):
    """The source folder is not usable as it is."""


class MissingFileError(CheckpointError):
    """A file that must be there is not."""

    def __init__(self, path: Path, advice: str) -> None:
        super().__init__(f"{path} is missing; {advice}")
        self.path = path


class CorruptFileError(CheckpointError):
    """A file is truncated, or its content does not match its name."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path} is damaged: {what}; download it again")
        self.path = path


class UnsupportedFileError(CheckpointError):
    """A file of weights is laid out in a way that is not read."""

    def __init__(self, path: Path, what: str) -> None:
        """The text after the path: the fault, and advice."""
        super().__init__(f"{path} {what}")
        self.path = path


class ForbiddenContentError(CheckpointError):
    """A file of weights asks for an object that weights never need, so it may be an attack. Nothing of it was run."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(
            f"{path} asks for {what}, which weights do not need; nothing of it was run, "
            "so get the checkpoint from its original source, best as safetensors"
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
            f"{folder} holds tensors that its model does not have ({shown}); "
            "merge adapters into the base model first, or convert the base model"
        )
        self.names = names


class TensorShapeError(CheckpointError):
    """A tensor's shape contradicts config.json."""

    def __init__(self, name: str, path: Path, found: tuple[int, ...], expected: tuple[int, ...]) -> None:
        super().__init__(
            f"{path}: tensor {name} has shape {list(found)} where config.json asks for "
            f"{list(expected)}; config.json and the weights must be of the same model"
        )
        self.name = name


class TensorTypeError(CheckpointError):
    """A tensor's element type cannot be read."""

    def __init__(self, name: str, path: Path, dtype: str) -> None:
        super().__init__(
            f"{path}: tensor {name} has type {dtype}; only F32, F16 and BF16 are read, and packed integers where "
            "config.json gives quantization_bit, so use the checkpoint that is not quantised"
        )
        self.name = name


class TensorValueError(CheckpointError):
    """A tensor holds NaN or infinity, or a value that the asked type cannot hold."""

    def __init__(self, name: str, type_name: str) -> None:
        super().__init__(
            f"tensor {name} holds values that are not finite, or not in {type_name}; the weights are "
            "damaged (download them again) or need a wider type (bf16, f32)"
        )
        self.name = name


class AdapterError(ConvertError):
    """A LoRA adapter of a kind that is not converted, or made for another model."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path}: this adapter cannot be converted: {what}")
        self.path = path


class UnsupportedModelError(ConvertError):
    """A sound checkpoint, but of a model that is not converted."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path}: {what}")
        self.path = path


class VocabularyError(ConvertError):
    """tokenizer.model cannot become a GGUF vocabulary that means the same."""

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
    """A finished file could not be tried on this machine."""

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
