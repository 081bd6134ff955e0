"""Runs on one CUDA machine, in under eight minutes, all that needs a GPU; writes JSON and a page.

    python -m bench.gpu --work FOLDER --wheel llama_cpp_python-….whl --programs FOLDER_OF_LLAMA_SERVER
    python -m bench.gpu --work FOLDER --device cpu              a dry run of each step, on any machine
    python -m bench.gpu --work FOLDER --again streams           one step again

Nothing is downloaded. The wheel is one that was built with CUDA (``make install`` keeps it in
``~/.cache/glmserve/llama.cpp``). Without ``--wheel`` the installed llama.cpp is used; where that has no GPU support and
``--source`` names the sdist of llama-cpp-python, it is built for ``--architecture`` within ``--build-seconds``.
llama-server and llama-bench may be built without CUDA from the same source (``bench.compare`` does that): they are run
with the libraries of the wheel. Without them their steps say that they are missing.

Each step runs in a process of its own with a limit of its own. One that fails or is late stops no other. A run that
was cut short goes on where it was: what is done is in FOLDER/outcomes.json.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

from bench.gpu.page import write_page
from bench.gpu.plan import PLAN, Outcome, Row, State, Step, due, from_json, limit

_REASON_CHARACTERS = 2000


def main() -> None:
    """Run the steps that are due, and write the page after each step."""
    options = _options()
    options.work.mkdir(parents=True, exist_ok=True)
    file = options.work / "outcomes.json"
    known = json.loads(file.read_text("utf-8")) if file.exists() else []
    outcomes = {outcome.name: outcome for outcome in map(from_json, known)}
    ends = time.monotonic() + options.limit * options.stretch
    for step in due(outcomes, options.again):
        seconds = limit(step, ends - time.monotonic(), options.build_seconds, options.stretch)
        if not seconds:
            continue
        outcome = outcomes[step.name] = run_step(step, options, seconds)
        print(f"{step.title}: {outcome.state.value}, {outcome.seconds:.0f} s", flush=True)
        file.write_text(json.dumps([asdict(each) for each in outcomes.values()], indent=1, ensure_ascii=False), "utf-8")
        (options.page or options.work / "gpu.md").write_text(write_page(outcomes, options.device), "utf-8")
    left = [step.name for step in due(outcomes)]
    if left:
        raise SystemExit(f"not done: {', '.join(left)}; see {options.page or options.work / 'gpu.md'}")


def run_step(step: Step, options: argparse.Namespace, seconds: float) -> Outcome:
    """Run a step in a process of its own, and end all that it started where it takes too long."""
    log, rows = options.work / f"{step.name}.log", options.work / f"{step.name}.rows"
    rows.unlink(missing_ok=True)
    command = [sys.executable, "-m", "bench.gpu.run_step", step.name, str(rows), *_passed_on(options)]
    site = options.work / "site"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(site), os.environ.get("PYTHONPATH", "")))}
    # The libraries of the wheel also for llama-server and llama-bench, which may be built without CUDA.
    environment["LD_LIBRARY_PATH"] = os.pathsep.join(
        (str(site / "llama_cpp" / "lib"), os.environ.get("LD_LIBRARY_PATH", ""))
    )
    began = time.monotonic()
    state = State.DONE
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command, stdout=sink, stderr=sink, env=environment if site.exists() else None, start_new_session=True
        )
        try:
            if process.wait(seconds):
                state = State.FAILED
        except subprocess.TimeoutExpired:
            state = State.LATE
        finally:
            _end_group(process)
    reason = "" if state is State.DONE else log.read_text("utf-8", "replace")[-_REASON_CHARACTERS:]
    return Outcome(step.name, state, time.monotonic() - began, _rows(rows), reason)


def _end_group(process: "subprocess.Popen[bytes]") -> None:
    """End the processes of the step that are left, which are in a session of their own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _rows(file: Path) -> tuple[Row, ...]:
    lines = file.read_text("utf-8").splitlines() if file.exists() else []
    return tuple(Row(**json.loads(line)) for line in lines)


def _passed_on(options: argparse.Namespace) -> list[str]:
    names = ("work", "device", "shape", "wheel", "programs", "source", "architecture")
    return [f"--{name}={getattr(options, name)}" for name in names if getattr(options, name)]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument(
        "--limit", type=float, default=470.0, help="seconds of the whole run; a stretched one takes as many times more"
    )
    parser.add_argument("--build-seconds", type=float, default=0.0, help="of the build, where there is no wheel")
    parser.add_argument("--stretch", type=float, default=1.0, help="factor of the limits, for a slow or busy machine")
    parser.add_argument("--again", nargs="*", default=[], choices=[step.name for step in PLAN])
    parser.add_argument("--page", type=Path, help="FOLDER/gpu.md unless said")
    options = parser.parse_args()
    options.shape = options.shape or ("tiny" if options.device == "cpu" else "0.9b")
    return options


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the run and of each step."""
    parser.add_argument("--work", type=Path, required=True, help="folder for models and results")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--shape", choices=("tiny", "0.9b", "6b"), help="of the model that is timed, in q4_k_m")
    parser.add_argument("--wheel", type=Path, help="llama-cpp-python with CUDA")
    parser.add_argument("--programs", type=Path, help="folder of llama-server and llama-bench")
    parser.add_argument("--source", type=Path, help="sdist of llama-cpp-python, to build it")
    parser.add_argument("--architecture", default="90-real", help="as CMAKE_CUDA_ARCHITECTURES has it")


if __name__ == "__main__":
    main()
