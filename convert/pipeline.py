"""One pass from a checkpoint folder to a GGUF: read, map, quantise, write."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from io import BufferedWriter
from pathlib import Path
from typing import TypeAlias

from convert.checkpoint import TensorSource, open_checkpoint, weights_findings
from convert.errors import TensorShapeError, TensorTypeError, UnknownTensorError
from convert.families import detect
from convert.family import Family, FamilyName, TensorMapping
from convert.ggml import GGMLType, load_kernels
from convert.gguf_header import TensorHeader, encode_header, padding
from convert.metadata import Metadata
from convert.mixture import QuantType, fit_type, wanted_type
from convert.output import complete_file
from convert.quantize import QuantizeJob, default_threads, quantize_all

QUANTIZATION_VERSION = 2
"""GGML_QNT_VERSION (ggml.h): the meaning of the block formats."""

_FLOATS = frozenset({"F32", "F16", "BF16"})
"""Element types of weights; integers in a checkpoint are packed weights, which a family has to unpack first."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a conversion has come."""

    tensor: str
    """GGUF name of the tensor that was written last, in part or whole."""
    done_bytes: int
    total_bytes: int
    """Both count the output."""


ProgressSink: TypeAlias = Callable[[Progress], None]


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
        return f"rows of {self.columns} are no multiple of {self.wanted.block_size}"


@dataclass(frozen=True, slots=True)
class ConversionReport:
    """What a conversion did."""

    output: Path
    quant: QuantType
    tensors: int
    bytes_in: int
    """Of the tensors that were converted."""
    bytes_out: int
    """Size of the file."""
    seconds: float
    fallbacks: tuple[Fallback, ...]
    findings: tuple[str, ...] = ()
    """What was decided from the checkpoint, and from what: one line each."""


@dataclass(frozen=True, slots=True)
class ConversionPlan:
    """Everything that is decided before the first weight is read."""

    source: TensorSource
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


def convert_checkpoint(
    source: Path,
    out: Path,
    quant: QuantType,
    progress: ProgressSink | None = None,
    *,
    threads: int | None = None,
    family: FamilyName | None = None,
) -> ConversionReport:
    """Convert a checkpoint folder to a GGUF file.

    ``out`` appears, or is replaced, only when it is complete and on disk. Memory stays at some tens of
    megabytes per thread, whatever the size of the model.

    Args:
        source: folder with config.json, tokenizer.model and the weights.
        out: the file to write.
        quant: types of the tensors.
        progress: called in this thread after each block of rows.
        threads: for the quantisation; all cores of this process by default.
        family: what the checkpoint is; decided from the folder by default.

    Raises:
        ConvertError: the one root of everything that can go wrong; see convert.errors.
    """
    started = time.monotonic()
    plan = plan_conversion(source, quant, family)
    header = encode_header(plan.metadata, plan.tensors)
    total = len(header) + plan.data_bytes
    with complete_file(out, total) as file:
        file.write(header)
        _write_tensors(file, plan, progress, threads or default_threads())
    return ConversionReport(
        output=out,
        quant=quant,
        tensors=len(plan.tensors),
        bytes_in=plan.bytes_in,
        bytes_out=total,
        seconds=time.monotonic() - started,
        fallbacks=plan.fallbacks,
        findings=plan.findings,
    )


def plan_conversion(source: Path, quant: QuantType, family: FamilyName | None = None) -> ConversionPlan:
    """Check a checkpoint folder and decide what becomes of each tensor; reads no weights.

    Raises:
        CheckpointError: files or tensors are missing, damaged or do not match config.json.
        UnsupportedModelError: it is no model that is converted.
        VocabularyError: tokenizer.model does not fit.
    """
    model = detect(source, family)
    vocabulary = model.vocabulary()
    tensors = model.prepare(open_checkpoint(source))
    table = model.tensors()
    _check_tensors(source, tensors, model)
    wanted = tuple(_wanted(model, tensor, quant) for tensor in table)
    headers = tuple(TensorHeader(t.target, t.shape, fit_type(w, t.shape)) for t, w in zip(table, wanted, strict=True))
    return ConversionPlan(
        source=tensors,
        metadata={
            **model.hyperparameters(),
            "general.file_type": quant.file_type,
            "general.quantization_version": QUANTIZATION_VERSION,
            **vocabulary,
        },
        tensors=headers,
        jobs=tuple(_job(t, h) for t, h in zip(table, headers, strict=True)),
        fallbacks=tuple(
            Fallback(h.name, w, h.type, h.shape[-1]) for h, w in zip(headers, wanted, strict=True) if h.type is not w
        ),
        findings=model.findings + weights_findings(source),
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


def _wanted(model: Family, tensor: TensorMapping, quant: QuantType) -> GGMLType:
    return wanted_type(
        tensor.target,
        tensor.shape,
        quant,
        tensor.layer,
        model.layers,
        heads_per_group=model.heads_per_group,
    )


def _job(tensor: TensorMapping, header: TensorHeader) -> QuantizeJob:
    rows = tensor.shape[0] if len(tensor.shape) > 1 else 1
    return QuantizeJob(source=tensor.source, rows=rows, columns=tensor.shape[-1], type=header.type)


def _write_tensors(file: BufferedWriter, plan: ConversionPlan, progress: ProgressSink | None, threads: int) -> None:
    done, total = 0, plan.data_bytes
    headers = iter(plan.tensors)
    header = next(headers)
    for block in quantize_all(plan.source, plan.jobs, load_kernels(), threads):
        file.write(block.data.data)
        done += block.data.nbytes
        if progress is not None:
            progress(Progress(header.name, done, total))
        if block.is_last:
            gap = padding(header.nbytes)
            file.write(bytes(gap))
            done += gap
            header = next(headers, header)
