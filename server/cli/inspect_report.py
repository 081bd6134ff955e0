"""The report of ``glmserve inspect`` for people."""

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from glmserve.cli.doctor import print_rows
from glmserve.cli.machine import in_units
from glmserve.engine.gguf.soundness import Severity

if TYPE_CHECKING:
    from glmserve.cli.inspect import InspectReport
    from glmserve.cli.trial import Token

_COLOURS = {Severity.ERROR: "bold red", Severity.WARNING: "yellow"}


def show(report: "InspectReport", console: Console) -> None:
    """Print the report."""
    console.print(str(report.path), style="bold", markup=False, soft_wrap=True)
    print_rows(console, "", [row for row in _rows(report) if row[1]])
    for note in report.notes:
        console.print(f"note: {escape(note)}", soft_wrap=True)
    for finding in report.findings:
        colour = _COLOURS[finding.severity]
        console.print(f"[{colour}]{finding.severity.value}:[/] {escape(finding.text)}", soft_wrap=True)
    console.print("Verdict: [bold green]right[/]" if report.right else "Verdict: [bold red]wrong[/]")


def _rows(report: "InspectReport") -> list[tuple[str, str]]:
    shape = (
        report.architecture,
        f"{report.layers} layers" if report.layers else "",
        _in_words(report.parameters) if report.parameters else "",
        report.weights,
        in_units(report.size_bytes) if report.size_bytes else "",
    )
    served = (
        f"{report.name}, prompts as {report.prompt_format}, {report.context} tokens" if report.prompt_format else ""
    )
    return [
        ("what it is", report.what),
        ("shape", ", ".join(filter(None, shape))),
        ("served as", served),
        ("prompt", report.prompt.text.replace("\n", "\\n")),
        ("ids", " ".join(str(token.id) for token in report.prompt.prompt)),
        ("stops at", ", ".join(map(_named, report.prompt.stops))),
        ("perplexity", ", ".join(f"{score.language} {score.perplexity:,.1f}" for score in report.perplexity)),
    ]


def _in_words(parameters: int) -> str:
    unit, size = ("billion", 1e9) if parameters >= 1e9 else ("million", 1e6)
    return f"{parameters / size:.1f} {unit} parameters"


def _named(token: "Token") -> str:
    return f"{token.text} ({token.id})"
