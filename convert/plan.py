"""The plan of a conversion, decided and checked before anything is written."""

from dataclasses import dataclass
from pathlib import Path

from gguf import GGMLQuantizationType as GGMLType

from glmserve.convert.checkpoint.reader import TensorSource
from glmserve.convert.errors import TensorShapeError, TensorTypeError, UnknownTensorError
from glmserve.convert.families.base import Family, TensorMapping
from glmserve.convert.gguf_format import Metadata, TensorHeader, block_size, padding
from glmserve.convert.quantize.imatrix import ImportanceMatrix
from glmserve.convert.quantize.recipes import QuantType, fit_type, wanted_type
from glmserve.convert.quantize.run import QuantizeJob

QUANTIZATION_VERSION = 2
"""GGML_QNT_VERSION (ggml.h): the meaning of the block formats."""

_FLOATS = frozenset({"F32", "F16", "BF16"})
"""Element types of weights; integers in a checkpoint are packed weights, which a family has to unpack first."""


@dataclass(frozen=True, slots=True)
class Fallback:
    """A tensor whose rows do not fit the type that the mixture asks for."""

    tensor: str
    wanted: GGMLType
    used: GGMLType
    columns: int

    @property
    def reason(self) -> str:
        """One line for people."""
        return f"rows of {self.columns} are no multiple of {block_size(self.wanted)}"


@dataclass(frozen=True, slots=True)
class ConversionPlan:
    """Everything that is decided before the first weight is read."""

    source: TensorSource
    quant: QuantType
    metadata: Metadata
    tensors: tuple[TensorHeader, ...]
    jobs: tuple[QuantizeJob, ...]
    """Parallel to ``tensors``."""
    fallbacks: tuple[Fallback, ...]
    findings: tuple[str, ...]
    bytes_in: int

    @property
    def data_bytes(self) -> int:
        """Bytes of tensor data in the file, with padding."""
        return sum(t.nbytes + padding(t.nbytes) for t in self.tensors)


def plan_tensors(
    source: TensorSource,
    table: tuple[TensorMapping, ...],
    kind: QuantType,
    metadata: Metadata,
    findings: tuple[str, ...],
) -> ConversionPlan:
    """Plan a small file whose tensors, all of them matrices, keep one unquantised type."""
    headers = tuple(TensorHeader(t.target, t.shape, kind.base) for t in table)
    return ConversionPlan(
        source=source,
        quant=kind,
        metadata=metadata,
        tensors=headers,
        jobs=tuple(_job(t, h) for t, h in zip(table, headers, strict=True)),
        fallbacks=(),
        findings=findings,
        bytes_in=sum(source.info(t.source).nbytes for t in table),
    )


def plan_model(
    folder: Path,
    model: Family,
    tensors: TensorSource,
    quant: QuantType,
    *,
    findings: tuple[str, ...] = (),
    importance: ImportanceMatrix | None = None,
) -> ConversionPlan:
    """Plan the conversion of a whole model, whose ``tensors`` the family has prepared.

    Raises:
        CheckpointError: tensors are missing or do not match config.json.
        VocabularyError: tokenizer.model does not fit.
        ImatrixError: the importance matrix is of another model.
    """
    vocabulary = model.vocabulary()
    table = model.tensors()
    _check_tensors(folder, tensors, model)
    is_tied = all(tensor.target != "output.weight" for tensor in table)
    wanted = tuple(_wanted(model, t, quant, has_imatrix=importance is not None, is_tied=is_tied) for t in table)
    headers = tuple(TensorHeader(t.target, t.shape, fit_type(w, t.shape)) for t, w in zip(table, wanted, strict=True))
    return ConversionPlan(
        source=tensors,
        quant=quant,
        metadata={
            **model.hyperparameters(),
            "general.file_type": quant.file_type,
            "general.quantization_version": QUANTIZATION_VERSION,
            **vocabulary,
            **(importance.metadata() if importance else {}),
        },
        tensors=headers,
        jobs=tuple(_job(t, h, importance) for t, h in zip(table, headers, strict=True)),
        fallbacks=tuple(
            Fallback(h.name, w, h.type, h.shape[-1]) for h, w in zip(headers, wanted, strict=True) if h.type is not w
        ),
        findings=(*model.findings, *findings, *_imatrix_findings(importance, table)),
        bytes_in=sum(tensors.info(t.source).nbytes for t in table),
    )


def _check_tensors(folder: Path, source: TensorSource, model: Family) -> None:
    table = model.tensors()
    for tensor in table:
        info = source.info(tensor.source)
        if info.shape != tensor.shape:
            raise TensorShapeError(tensor.source, info.path, info.shape, tensor.shape)
        if info.dtype not in _FLOATS:
            raise TensorTypeError(tensor.source, info.path, info.dtype)
    known = {tensor.source for tensor in table} | model.ignored
    unknown = tuple(name for name in source.names() if name not in known)
    if unknown:
        raise UnknownTensorError(unknown, folder)


def _wanted(model: Family, tensor: TensorMapping, quant: QuantType, *, has_imatrix: bool, is_tied: bool) -> GGMLType:
    return wanted_type(
        tensor.target,
        tensor.shape,
        quant,
        tensor.layer,
        model.layers,
        heads_per_group=model.heads_per_group,
        has_imatrix=has_imatrix,
        is_tied=is_tied,
    )


def _job(tensor: TensorMapping, header: TensorHeader, importance: ImportanceMatrix | None = None) -> QuantizeJob:
    columns = tensor.shape[-1]
    return QuantizeJob(
        source=tensor.source,
        rows=tensor.shape[0] if len(tensor.shape) > 1 else 1,
        columns=columns,
        type=header.type,
        importance=importance.weights_for(header.name, columns) if importance else None,
    )


def _imatrix_findings(importance: ImportanceMatrix | None, table: tuple[TensorMapping, ...]) -> tuple[str, ...]:
    if importance is None:
        return ()
    matrices = [tensor for tensor in table if len(tensor.shape) > 1]
    lacking = [t.target for t in matrices if importance.weights_for(t.target, t.shape[-1]) is None]
    said = f"{importance.path.name} weighs the columns of {len(matrices) - len(lacking)} of {len(matrices)} matrices"
    return (f"{said}; it has nothing for {', '.join(lacking)}" if lacking else said,)
