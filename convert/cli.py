"""``glmserve convert``: the command around the pipeline."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from glmserve.convert.atomic_file import is_stdout, is_stream
from glmserve.convert.checkpoint.config import find_checkpoint, model_name
from glmserve.convert.errors import ConvertError
from glmserve.convert.gguf_format import FamilyName
from glmserve.convert.pipeline import (
    ConversionReport,
    ProgressSink,
    convert_checkpoint,
    kind_of_file,
    plan_conversion,
    usual_quant,
)
from glmserve.convert.pipeline import Progress as Step
from glmserve.convert.quantize.recipes import QuantType
from glmserve.convert.type_names import usual_name
from glmserve.convert.verify import verify_file

# The best quality that a 6B model has in about 4 GB: attention and the down projection get more bits in half of
# the layers, and the output matrix everywhere.
DEFAULT_QUANT = QuantType.Q4_K_M

# Sizes by arithmetic from the tensor table of the real model; see docs/conversion.md.
_EPILOG = """\
\b
Types, with GB of ChatGLM2-6B:
  not quantised:
    f32 25.0, f16 12.5, bf16 12.5
  close to f16:
    q8_0 6.6, q6_k 5.5
  q5_k_m 4.7, q5_k_s 4.4
  q5_1 4.7, q5_0 4.3
  q4_k_m 4.1, q4_k_s 3.8, q4_1 4.0
  q4_0 3.6, converts fastest
  smallest, and worse:
    q3_k_m 3.3, q2_k 2.7

Families: """ + ", ".join(FamilyName)


class QuantChoice(click.Choice):  # type: ignore[type-arg] # generic since click 8.2 only
    """The types of weights, in any of the ways in which people write them."""

    def __init__(self) -> None:
        """All types."""
        super().__init__([kind.value for kind in QuantType])

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the usual name. Raises BadParameter."""
        return str(super().convert(usual_name(str(value)), param, ctx))


@click.command(epilog=_EPILOG)
@click.argument("source", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "-o", "--output", default=None, type=click.Path(),
    help="File to write, folder for it, or - for standard output.  "
    "[default: NAME-OF-SOURCE.TYPE.gguf in the current folder]",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Replace a file that was converted from another source.")
@click.option(
    "-q", "--quant", type=QuantChoice(), default=None, metavar="TYPE",
    help="Type of the weights.  [default: q4_k_m; q8_0 for embedding models and rerankers]",
)  # fmt: skip
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=None,
    help="Threads for quantisation.  [default: all cores]",
)
@click.option(
    "--family", type=click.Choice([f.value for f in FamilyName], case_sensitive=False), default=None, metavar="FAMILY",
    help="Model family of the checkpoint.  [default: detected from the folder]",
)  # fmt: skip
@click.option(
    "--imatrix", type=click.Path(exists=True, dir_okay=False, path_type=Path), default=None,
    help="Importance matrix of llama-imatrix (.gguf or .dat), which quantises important columns more exactly.",
)  # fmt: skip
@click.option(
    "--merge-lora", type=click.Path(exists=True, file_okay=False, path_type=Path), default=None,
    help="Folder of a LoRA adapter (PEFT) to merge into the weights.",
)  # fmt: skip
@click.option(
    "--verify", is_flag=True,
    help="Check the written file: its tensors, its tokenizer, and that llama.cpp can run it.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def convert(
    *,
    source: Path,
    output: str | None,
    force: bool,
    quant: str | None,
    threads: int | None,
    family: str | None,
    imatrix: Path | None,
    merge_lora: Path | None,
    verify: bool,
    as_json: bool,
) -> None:
    """Convert a checkpoint folder SOURCE to a GGUF file.

    SOURCE contains config.json, the tokenizer and the weights, as safetensors or .bin shards. A model's folder in the
    hub's cache, or a folder with a single checkpoint in it, is accepted, too. A LoRA adapter or a P-Tuning prefix is
    converted to a small file, to be served with its model. The output gets its final name only when it is complete.
    """
    member = FamilyName(family.lower()) if family else None
    try:
        source = find_checkpoint(source)
    except ConvertError as error:
        raise click.ClickException(str(error)) from error
    kind = QuantType(quant) if quant else usual_quant(source)
    out = output_path(output, f"{model_name(source)}.{kind_of_file(source, kind)}.gguf")
    if verify and is_stream(out):
        raise click.UsageError("--verify reads the file again, so -o must name a file")
    console = Console(stderr=True)
    try:
        with progress_bar(console) as sink:
            report = convert_checkpoint(
                source, out, kind, sink, threads=threads, family=member, merge_lora=merge_lora, imatrix=imatrix,
                force=force,
            )  # fmt: skip
        to_stderr = is_stdout(out)
        if not as_json:
            _print_report(report, err=to_stderr)
        verdict = ""
        if verify:
            with console.status("checking the file…"):
                plan = plan_conversion(source, kind, member, merge_lora=merge_lora, imatrix=imatrix)
                verdict = str(verify_file(out, plan))
        _print_verdict(report, verdict, as_json=as_json, err=to_stderr)
    except ConvertError as error:
        raise click.ClickException(str(error)) from error


def _print_verdict(report: ConversionReport, verdict: str, *, as_json: bool, err: bool) -> None:
    if as_json:
        click.echo(json.dumps(_as_json(report, verdict), ensure_ascii=False, indent=2, default=str), err=err)
    elif verdict:
        click.echo(f"  {verdict}")


def output_path(given: str | None, name: str) -> Path:
    """Return the path that -o gives a file ``name``; a folder keeps that name. Raises UsageError."""
    path = Path(given or name)
    if path.is_dir():
        return path / name
    if given is not None and given.endswith(("/", os.sep)):
        raise click.UsageError(f"-o {given}: the folder does not exist; create it first")
    return path


@contextmanager
def progress_bar(console: Console) -> Iterator[ProgressSink]:
    """Show a conversion's progress on ``console`` while the block runs; yields the callback for its steps."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
               TimeRemainingColumn())  # fmt: skip
    # Where nobody watches, not even the empty line that a bar leaves.
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("converting", total=None)

        def show(step: Step) -> None:
            bar.update(task, description=step.tensor, completed=step.done_bytes, total=step.total_bytes)

        yield show


def _print_report(report: ConversionReport, *, err: bool) -> None:
    click.echo(
        f"{report.output}: {report.quant.value}, {report.tensors} tensors, {decimal(report.bytes_in)} -> "
        f"{decimal(report.bytes_out)} in {report.seconds:.1f} s",
        err=err,
    )
    for finding in report.findings:
        click.echo(f"  {finding}", err=err)
    groups: dict[str, int] = {}
    for fallback in report.fallbacks:
        line = f"{fallback.wanted.name} -> {fallback.used.name}: {fallback.reason}"
        groups[line] = groups.get(line, 0) + 1
    for line, count in groups.items():
        click.echo(f"  {count} tensor{'s' if count > 1 else ''} {line}", err=err)


def _as_json(report: ConversionReport, verdict: str) -> dict[str, object]:
    """Return the report for programs; ``verdict`` is the result of --verify."""
    fallbacks = [{"tensor": one.tensor, "wanted": one.wanted.name, "used": one.used.name} for one in report.fallbacks]
    return {**asdict(report), "quant": report.quant.value, "fallbacks": fallbacks, "verified": verdict}
