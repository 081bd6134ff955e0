"""The process that checks grammars dies or hangs: a grammar is only blamed for what it has done itself."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.engine.errors import EngineUnavailable
from server.engine.grammar import Grammar, GrammarKind
from server.engine.parent import grammar_check
from server.engine.parent.grammar_check import GrammarChecker
from tests.support.processes import children

GOOD = Grammar(GrammarKind.REGEX, "[ab]+")
OTHER = Grammar(GrammarKind.REGEX, "[cd]+")


@pytest.fixture
def checker(tiny_gguf: Path) -> Iterator[GrammarChecker]:
    checker = GrammarChecker(tiny_gguf)
    assert checker.verdict(GOOD) == ""
    yield checker
    checker.close()


def _pid() -> int:
    (pid,) = children(os.getpid(), b"spawn_main")
    return pid


def test_one_that_died_while_it_had_nothing_to_do_is_replaced(checker: GrammarChecker) -> None:
    """The next grammar was refused as too much, and remembered so."""
    os.kill(_pid(), signal.SIGKILL)
    assert checker.verdict(OTHER) == ""


def test_one_that_hangs_is_no_verdict(checker: GrammarChecker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grammar_check, "_WALL_SECONDS", 0.2)
    os.kill(_pid(), signal.SIGSTOP)
    with pytest.raises(EngineUnavailable, match="try again"):
        checker.verdict(OTHER)
    monkeypatch.setattr(grammar_check, "_WALL_SECONDS", 30.0)
    assert checker.verdict(OTHER) == ""


def test_one_that_cannot_be_started_is_no_verdict(tmp_path: Path) -> None:
    """Where the model file was deleted, every grammar was said to be too much."""
    checker = GrammarChecker(tmp_path / "gone.gguf")
    with pytest.raises(EngineUnavailable, match="could not be started"):
        checker.verdict(GOOD)
    checker.close()
