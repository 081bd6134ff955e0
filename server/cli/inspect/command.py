"""``glmserve inspect``: the command, and how its report is printed."""

import json
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape

from glmserve.cli.doctor import print_rows
from glmserve.cli.inspect.report import InspectReport, VectorForm, examine
from glmserve.cli.machine import in_units
from glmserve.cli.options import cache_options, complete_model, output, printable, read_settings
from glmserve.cli.texts.chinese import say
from glmserve.cli.texts.chinese_errors import told
from glmserve.cli.trial import Token
from glmserve.engine.gguf.soundness import Severity


@click.command()
@click.argument("model", shell_complete=complete_model)
@click.option("--run/--no-run", default=True, help="Load the model and let it read two paragraphs.  [default: yes]")
@click.option("--prompt-format", default="", metavar="NAME", help="Format of prompts, where the file names none.")
@click.option("--chat-template", default="", metavar="FILE", help="Chat template of prompts, as for `serve`.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@cache_options
def inspect(
    *,
    model: str,
    run: bool,
    prompt_format: str,
    chat_template: str,
    as_json: bool,
    cache_dir: str | None,
    config: Path | None,
) -> None:
    """Describe MODEL, how it would be served, and whether the file is right.

    MODEL is a GGUF file, a checkpoint folder or a name, as for `serve`. The report has the prompt of a greeting with
    its token ids, the tokens that end an answer, and the perplexity of a paragraph in Chinese and one in English. Exit
    status 1: something is wrong with the file.
    """
    asked = {"cache_dir": cache_dir, "prompt_format": prompt_format or None, "chat_template": chat_template or None}
    settings = read_settings((model,), config, asked)
    console = Console(stderr=True)
    with console.status(say("reading the file…")):
        report = examine(settings.models[0], settings.cache_dir, run=run)
    if as_json:
        click.echo(json.dumps(to_json(report), indent=2, ensure_ascii=False, default=str))
    else:
        show(report, output())
    if not report.right:
        raise SystemExit(1)


def to_json(report: InspectReport) -> dict[str, object]:
    """Return the report for programs."""
    return {**asdict(report), "right": report.right}


_COLOURS = {Severity.ERROR: "bold red", Severity.WARNING: "yellow"}


def show(report: InspectReport, console: Console) -> None:
    """Print the report."""
    console.print(printable(str(report.path)), style="bold", markup=False, soft_wrap=True)
    print_rows(console, "", [row for row in _rows(report) if row[1]])
    for note in report.notes:
        console.print(f"{say('note:')} {escape(printable(told(note)))}", soft_wrap=True)
    for finding in report.findings:
        colour = _COLOURS[finding.severity]
        fault = escape(printable(told(finding.text)))
        console.print(f"[{colour}]{say(f'{finding.severity.value}:')}[/] {fault}", soft_wrap=True)
    verdict = f"[bold green]{say('right')}[/]" if report.right else f"[bold red]{say('wrong')}[/]"
    console.print(f"{say('Verdict:')} {verdict}")


def _rows(report: InspectReport) -> list[tuple[str, str]]:
    shape = (
        report.architecture,
        say("{count} layers", count=report.layers) if report.layers else "",
        _in_words(report.parameters) if report.parameters else "",
        report.weights,
        in_units(report.size_bytes) if report.size_bytes else "",
    )
    return [
        (say("what it is"), told(report.what)),
        (say("shape"), ", ".join(filter(None, shape))),
        (say("served as"), _served(report)),
        (say("vectors"), _vectors(report.vectors)),
        (say("prompt"), report.prompt.text),
        (say("ids"), " ".join(str(token.id) for token in report.prompt.prompt)),
        (say("stops at"), ", ".join(map(_named, report.prompt.stops))),
        (say("perplexity"), ", ".join(f"{say(score.language)} {score.perplexity:,.1f}" for score in report.perplexity)),
    ]


def _served(report: InspectReport) -> str:
    if report.kind == "rerank":
        return say("{name}, a reranker, {context} tokens", name=report.name, context=report.context)
    if report.kind == "embedding":
        return say("{name}, an embedding model, {context} tokens", name=report.name, context=report.context)
    if not report.prompt_format:
        return ""
    form = "{name}, prompts as {format}, {context} tokens"
    return say(form, name=report.name, format=report.prompt_format, context=report.context)


def _vectors(form: VectorForm) -> str:
    if not form.dimensions:
        return ""
    scaled = say("scaled to length 1") if form.normalized else say("not scaled")
    return say(
        "{numbers} numbers, {pooling} pooling, {scaled}", numbers=form.dimensions, pooling=form.pooling, scaled=scaled
    )


def _in_words(parameters: int) -> str:
    if parameters >= 1e9:
        return say("{count} billion parameters", count=f"{parameters / 1e9:.1f}")
    return say("{count} million parameters", count=f"{parameters / 1e6:.1f}")


def _named(token: Token) -> str:
    return f"{token.text} ({token.id})"
