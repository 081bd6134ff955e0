"""The report of ``glmserve doctor`` for people."""

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from glmserve.cli.models.doctor import DoctorModel, DoctorReport
    from glmserve.engine.llama.placement import Placement

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def show(report: "DoctorReport", console: Console) -> None:
    """Print the report, one table for each subject."""
    _print(console, "Installation", _installation(report))
    _print(console, "Machine", _machine(report))
    for model in report.models:
        _print(console, "Model", _model(model))
    _print(console, f"Model files in {report.cache_dir}", _files(report))
    for problem in filter(None, (report.problem, *(model.placed.problem for model in report.models))):
        console.print(f"[bold red]Problem:[/] {escape(problem)}")


def _print(console: Console, title: str, rows: list[tuple[str, str]]) -> None:
    table = Table(title=title, title_justify="left", title_style="bold", show_header=False, box=None)
    table.add_column(style="cyan", no_wrap=True, min_width=18)
    table.add_column(overflow="fold")
    for key, value in rows:
        table.add_row(escape(key), escape(value))
    console.print(table)
    console.print()


def _installation(report: "DoctorReport") -> list[tuple[str, str]]:
    rows = [
        ("glmserve", report.versions.glmserve),
        ("Python", report.versions.python),
        ("llama-cpp-python", report.versions.llama_cpp_python),
    ]
    build = report.build
    if build is not None:
        rows.append(("GPU support", "yes" if build.gpu_offload else "no: built for the CPU, or no GPU was found"))
        rows.append(("llama.cpp", build.system_info))
    return rows


def _machine(report: "DoctorReport") -> list[tuple[str, str]]:
    machine = report.machine
    rows = [
        ("system", machine.system),
        ("cores", f"{machine.usable_cores} of {machine.cores} usable"),
        ("memory", in_units(machine.memory_bytes)),
    ]
    for device in report.build.devices if report.build else ():
        memory = f"{in_units(device.free_bytes)} of {in_units(device.total_bytes)} free"
        rows.append((f"device {device.name}", f"{device.description} ({device.kind}), {memory}"))
    return rows


def _model(model: "DoctorModel") -> list[tuple[str, str]]:
    placement = model.placed.placement
    rows = [("name", model.name), ("state", model.state)]
    if model.gguf is not None:
        rows.append(("file", str(model.gguf)))
    if model.facts is not None:
        facts = model.facts
        rows.append(
            (
                "what it is",
                f"{facts.architecture}, {facts.layers} layers, {in_units(facts.size_bytes)}, "
                f"prompts as {facts.prompt_format or 'not said'}",
            )
        )
        if facts.prompt_format and facts.format_inference.reason:
            rows.append(("prompt format", f"inferred from {facts.format_inference.reason}"))
    if model.compute_mode is not None:
        mode = model.compute_mode
        rows.append(("compute mode", f"{mode.mode.in_words}, as {mode.reason} (remove {mode.file} to try it again)"))
    if placement is not None and model.facts is not None:
        rows += [
            ("would run on", placement.in_words),
            ("threads", _threads(placement)),
            ("layers on the GPU", f"{placement.gpu_layers} of {model.facts.layers + 1}"),
            ("context", f"{placement.context_length} tokens for each answer"),
            ("cache", f"{placement.cache_cells} tokens, {in_units(model.cache_bytes)}"),
        ]
    return rows


def _threads(placement: "Placement") -> str:
    tried = ", ".join(map(str, placement.threads_to_try))
    generate = f"the fastest of {tried}, measured when it loads," if tried else str(placement.threads)
    return f"{generate} to generate, {placement.threads_batch} to read prompts"


def _files(report: "DoctorReport") -> list[tuple[str, str]]:
    if not report.files:
        return [("none", "")]
    return [(in_units(file.size_bytes), str(file.path.relative_to(report.cache_dir))) for file in report.files]


def in_units(count: float) -> str:
    """Return a number of bytes as people read it."""
    power = min(max(int(count), 1).bit_length() - 1, 49) // 10
    return f"{count / 1024**power:.{1 if power else 0}f} {_UNITS[power]}"
