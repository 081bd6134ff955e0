"""The page of a run. Pure."""

from collections.abc import Mapping

from bench.gpu.plan import PLAN, Outcome, State, Step
from bench.tables import markdown


def write_page(outcomes: Mapping[str, Outcome], device: str) -> str:
    """Return the page: the state of each step, then the findings of each."""
    parts = [
        "# A run on a GPU" if device != "cpu" else "# A dry run on the CPU",
        f"Made by `python -m bench.gpu --device {device}`. Each step ran in a process of its own.",
        markdown(("step", "result", "s"), [_line(step, outcomes.get(step.name)) for step in PLAN]),
    ]
    for step in PLAN:
        outcome = outcomes.get(step.name)
        if outcome is not None and (outcome.rows or outcome.reason):
            parts.append(f"## {step.title}")
            parts += _findings(outcome)
    return "\n\n".join(parts) + "\n"


def _line(step: Step, outcome: Outcome | None) -> tuple[str, str, str]:
    if outcome is None:
        return step.title, "not run", "–"
    return step.title, outcome.state.value, f"{outcome.seconds:.0f}"


def _findings(outcome: Outcome) -> list[str]:
    parts = []
    if outcome.rows:
        parts.append(markdown(("", ""), [(_cell(row.what), _cell(row.value)) for row in outcome.rows]))
    if outcome.state is not State.DONE and outcome.reason:
        parts.append(f"```text\n{outcome.reason.strip()}\n```")
    return parts


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
