"""One pass from a checkpoint folder to a GGUF: check the target, read, map, quantise, write."""

import hashlib
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, TypeAlias

from glmserve.convert.adapters.lora import Adapter, MergedTensors, is_adapter, plan_adapter, read_adapter
from glmserve.convert.adapters.ptuning_prefix import is_prefix, plan_prefix
from glmserve.convert.atomic_file import check_regular, complete_file, is_stream, stream
from glmserve.convert.checkpoint.config import find_checkpoint, load_config
from glmserve.convert.checkpoint.reader import TensorSource, open_checkpoint, weights_findings
from glmserve.convert.errors import ConvertError, OutputError, UnsupportedModelError
from glmserve.convert.families.base import Family
from glmserve.convert.families.bert import MODEL_TYPES
from glmserve.convert.families.chatglm import ChatGLM
from glmserve.convert.families.detect import detect
from glmserve.convert.gguf_format import ORIGIN, FamilyName, encode_header, padding
from glmserve.convert.plan import ConversionPlan, Fallback, plan_model
from glmserve.convert.quantize.imatrix import read_imatrix
from glmserve.convert.quantize.recipes import QuantType
from glmserve.convert.quantize.run import default_threads, load_kernels, quantize_all

_HEAD_BYTES = 1 << 16
"""The key stands before the vocabulary, within the first kilobytes."""
_DIGEST = 64
"""Characters."""


def origin_of(plan: ConversionPlan) -> str:
    """Return a digest of a plan's input: the names and shapes of its tensors, and three rows of each.

    It is the same for each type of weights, and for .bin and safetensors files of the same values.

    Raises:
        CheckpointError: a row cannot be read.
    """
    digest = hashlib.sha256()
    for job, tensor in zip(plan.jobs, plan.tensors, strict=True):
        digest.update(f"{tensor.name} {tensor.shape}\n".encode())
        for row in sorted({0, job.rows // 2, job.rows - 1} if job.rows else ()):
            digest.update(plan.source.read_rows(job.source, row, 1).tobytes())
    return digest.hexdigest()


def check_target(path: Path, inputs: Iterable[Path], origin: str, *, force: bool) -> None:
    """Check that a conversion may write ``path``.

    Args:
        path: the file.
        inputs: files and folders that the conversion reads.
        origin: of what is converted; see ``origin_of``.
        force: whether a file with another origin may be replaced.

    Raises:
        OutputError: it may not; the message says why.
    """
    try:
        check_regular(path)
        if not path.exists():
            return
        if any(path.samefile(file) for file in _files(inputs)):
            raise OutputError(f"{path} is one of the files that are converted; choose another name")
        if not force and stored_origin(path) != origin:
            raise OutputError(
                f"{path} exists and was not made from this source; choose another name, or replace it with --force"
            )
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error


def _files(inputs: Iterable[Path]) -> Iterator[Path]:
    for path in inputs:
        if path.is_dir():
            # A converted file may lie beside its source; it is none.
            yield from (file for file in path.rglob("*") if file.is_file() and file.suffix not in (".gguf", ".part"))
        elif path.exists():
            yield path


def stored_origin(path: Path) -> str:
    """Return the origin that a file tells; empty where it tells none. Raises OSError."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    key = ORIGIN.encode()
    before = struct.pack("<Q", len(key)) + key + struct.pack("<IQ", 8, _DIGEST)
    at = head.find(before)
    return head[at + len(before) :][:_DIGEST].decode("ascii", "replace") if at >= 0 else ""


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
class ConversionReport:
    """Result of a conversion."""

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
    """Decisions made from the checkpoint, with their reasons: one line each."""


def convert_checkpoint(
    source: Path,
    out: Path,
    quant: QuantType,
    progress: ProgressSink | None = None,
    *,
    threads: int | None = None,
    family: FamilyName | None = None,
    merge_lora: Path | None = None,
    imatrix: Path | None = None,
    force: bool = False,
) -> ConversionReport:
    """Convert a checkpoint folder to a GGUF file.

    A folder with a LoRA adapter or a P-Tuning prefix becomes a small file of its own, which is not quantised.

    ``out`` appears, or is replaced, only when it is complete and on disk. Memory stays at some tens of
    megabytes per thread, for a model of any size.

    Args:
        source: folder with config.json, the tokenizer and the weights, or one above it.
        out: the file to write; ``-`` is the standard output.
        quant: types of the tensors.
        progress: called in this thread after each block of rows.
        threads: for the quantisation; all cores of this process by default.
        family: what the checkpoint is; decided from the folder by default.
        merge_lora: folder of a LoRA adapter to add to the weights.
        imatrix: an importance matrix, as llama-imatrix writes it.
        force: replace a file that was converted from something else, or from something unknown.

    Raises:
        ConvertError: the one root of everything that can go wrong; see glmserve.convert.errors.
    """
    started = time.monotonic()
    source = find_checkpoint(source)
    plan = plan_conversion(source, quant, family, merge_lora=merge_lora, imatrix=imatrix)
    origin = origin_of(plan)
    if not is_stream(out):
        check_target(out, filter(None, (source, merge_lora, imatrix)), origin, force=force)
    total = write_plan(replace(plan, metadata={ORIGIN: origin, **plan.metadata}), out, progress, threads)
    return ConversionReport(
        output=out,
        quant=plan.quant,
        tensors=len(plan.tensors),
        bytes_in=plan.bytes_in,
        bytes_out=total,
        seconds=time.monotonic() - started,
        fallbacks=plan.fallbacks,
        findings=plan.findings,
    )


def write_plan(
    plan: ConversionPlan, out: Path, progress: ProgressSink | None = None, threads: int | None = None
) -> int:
    """Carry out a plan and return the bytes of the file; see ``convert_checkpoint``. Raises ConvertError."""
    header = encode_header(plan.metadata, plan.tensors)
    total = len(header) + plan.data_bytes
    opened: AbstractContextManager[BinaryIO] = stream(out) if is_stream(out) else complete_file(out, total)
    with opened as file:
        file.write(header)
        _write_tensors(file, plan, progress, threads or default_threads())
    return total


def plan_conversion(
    source: Path,
    quant: QuantType,
    family: FamilyName | None = None,
    *,
    merge_lora: Path | None = None,
    imatrix: Path | None = None,
) -> ConversionPlan:
    """Detect the family of a folder, check it and plan each tensor; reads no weights of a model.

    Raises:
        ConvertError: see ``convert_checkpoint``.
    """
    source, merge_lora = find_checkpoint(source), merge_lora and find_checkpoint(merge_lora)
    if is_adapter(source):
        _check_alone(source, merge_lora, imatrix)
        return plan_adapter(read_adapter(source))
    importance = read_imatrix(imatrix) if imatrix else None
    model = detect(source, family)
    weights, findings = open_checkpoint(source), weights_findings(source)
    if isinstance(model, ChatGLM) and is_prefix(weights):
        _check_alone(source, merge_lora, imatrix)
        return plan_prefix(model.file, model.config, weights)
    if merge_lora is None:
        prepared = model.prepare(weights)
    else:
        adapter = read_adapter(merge_lora)
        prepared = _merge(model, weights, adapter)
        findings += (f"adapter: {adapter.name} merged into {len(adapter.pairs)} matrices",)
    return plan_model(source, model, prepared, quant, findings=findings, importance=importance)


def may_be_made_from(out: Path, source: Path, quant: QuantType) -> bool:
    """Tell whether a file was converted from ``source``, or records no source. Raises ConvertError, OSError."""
    return stored_origin(out) in ("", origin_of(plan_conversion(source, quant)))


def usual_quant(source: Path) -> QuantType:
    """Return the type for a folder where none is asked for: encoders are small, and lose more by four bits."""
    try:
        source = find_checkpoint(source)
        is_encoder = not is_adapter(source) and load_config(source).model_type in MODEL_TYPES
    except ConvertError:
        is_encoder = False  # the conversion says why
    return QuantType.Q8_0 if is_encoder else QuantType.Q4_K_M


def kind_of_file(source: Path, quant: QuantType) -> str:
    """Return the name for a folder's file: ``lora``, ``prefix``, or the type of a model's weights."""
    try:
        source = find_checkpoint(source)
        if is_adapter(source):
            return "lora"
        return "prefix" if is_prefix(open_checkpoint(source)) else quant.value
    except ConvertError:
        return quant.value  # the conversion fails in the same way, and says why


def _check_alone(source: Path, merge_lora: Path | None, imatrix: Path | None) -> None:
    if merge_lora or imatrix:
        raise UnsupportedModelError(
            source, "is an adapter or a prefix, which takes no --merge-lora and no --imatrix; give a model as SOURCE"
        )


def _merge(model: Family, weights: TensorSource, adapter: Adapter) -> TensorSource:
    """Merge where the matrices have the names that the adapter knows: after unpacking, or before splitting."""
    prepared = model.prepare(weights)
    if set(adapter.pairs) <= set(prepared.names()):
        return MergedTensors(prepared, adapter)
    return model.prepare(MergedTensors(weights, adapter))


def _write_tensors(file: BinaryIO, plan: ConversionPlan, progress: ProgressSink | None, threads: int) -> None:
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
