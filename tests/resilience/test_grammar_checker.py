"""The process that checks grammars dies, hangs or has no room: a grammar is only blamed for what it has done itself."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from glmserve.engine.client import grammar_process
from glmserve.engine.client.grammar_process import GrammarProcess, Verdict, _of_death
from glmserve.engine.errors import EngineUnavailable
from glmserve.engine.params import Grammar, GrammarKind
from tests.support.hostile_grammars import HOSTILE
from tests.support.processes import children

GOOD = Grammar(GrammarKind.REGEX, "[ab]+")
OTHER = Grammar(GrammarKind.REGEX, "[cd]+")


@pytest.fixture
def process(tiny_gguf: Path) -> Iterator[GrammarProcess]:
    process = GrammarProcess(tiny_gguf)
    assert process.check(GOOD) == Verdict()
    yield process
    process.close()


def _pid() -> int:
    (pid,) = children(os.getpid(), b"spawn_main")
    return pid


def test_one_that_died_while_it_had_nothing_to_do_is_replaced(process: GrammarProcess) -> None:
    """The next grammar was refused as too much, and remembered so."""
    os.kill(_pid(), signal.SIGKILL)
    assert process.check(OTHER) == Verdict()


def test_one_that_hangs_is_no_verdict(process: GrammarProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grammar_process, "_ANSWER_SECONDS", 0.2)
    os.kill(_pid(), signal.SIGSTOP)
    with pytest.raises(EngineUnavailable, match="try again"):
        process.check(OTHER)
    monkeypatch.setattr(grammar_process, "_ANSWER_SECONDS", 30.0)
    assert process.check(OTHER) == Verdict()


def test_one_that_cannot_be_started_is_no_verdict(tmp_path: Path) -> None:
    """Where the model file was deleted, every grammar was said to be too much."""
    process = GrammarProcess(tmp_path / "gone.gguf")
    with pytest.raises(EngineUnavailable, match="could not be started"):
        process.check(GOOD)
    process.close()


def test_nothing_is_checked_after_the_end(process: GrammarProcess) -> None:
    process.end()
    with pytest.raises(EngineUnavailable):
        process.check(OTHER)
    process.close()
    assert not children(os.getpid(), b"spawn_main")


def test_grammars_that_kill_whoever_checks_them_do_not_end_the_process(process: GrammarProcess) -> None:
    """A fresh process had to be started after each of them, while others waited."""
    pid = _pid()
    for name in ("intersected terminals", "many properties", "huge enum", "repeated repeats"):
        verdict = process.check(HOSTILE[name])
        assert verdict.rejection, name
    assert process.check(OTHER) == Verdict()
    assert _pid() == pid


@pytest.mark.parametrize(
    ("exit_code", "room", "blamed"),
    [
        (-signal.SIGPROF, 2 << 30, True),
        (-signal.SIGABRT, 2 << 30, True),
        (-signal.SIGSEGV, 2 << 30, True),
        (-signal.SIGKILL, 2 << 30, False),
        (-signal.SIGABRT, 100 << 20, False),
    ],
)
def test_what_a_death_says_of_the_grammar(exit_code: int, room: int, *, blamed: bool) -> None:
    verdict = _of_death(exit_code, room, timed_out=False)
    assert bool(verdict.rejection) is blamed is verdict.too_much
    assert bool(verdict.failure) is not blamed


def test_a_limit_of_address_space_is_no_fault_of_a_grammar(tiny_gguf: Path) -> None:
    """Under ``ulimit -v 6000000`` every grammar was a 400: the checker died when it set its own limit."""
    for gigabytes in (5, 2):
        code = (
            "from pathlib import Path\n"
            "from glmserve.engine.client.grammar_process import GrammarProcess\n"
            "from tests.resilience.test_grammar_checker import GOOD\n"
            "if __name__ == '__main__':\n"
            f"    process = GrammarProcess(Path({str(tiny_gguf)!r}))\n"
            "    print(process.check(GOOD))\n"
            "    process.close()\n"
        )
        script = tiny_gguf.parent / "limited.py"
        script.write_text(code)
        limit = gigabytes << 30
        ended = subprocess.run(
            [sys.executable, str(script)],
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),  # noqa: B023
        )
        assert ended.stdout.strip() == str(Verdict()), ended.stderr[-2000:]
