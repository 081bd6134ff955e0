"""Which compute mode comes after one that does not work."""

import signal

import pytest

from glmserve.engine.client.compute_modes.fallback import ComputeFallback, is_crash
from glmserve.engine.compute_mode import ComputeMode

STANDARD, SAFER, SAFEST = ComputeMode


def test_each_crash_leads_to_the_next_safer_mode_and_the_last_one_to_none() -> None:
    modes = ComputeFallback()
    assert modes.mode is STANDARD
    assert modes.crashed("was ended by SIGSEGV")
    assert modes.mode is SAFER
    assert modes.failed("computed wrong")
    assert modes.mode is SAFEST
    assert not modes.crashed("was ended by SIGSEGV")
    assert modes.mode is STANDARD  # another start tries them again


def test_what_failed_before_a_mode_that_works_is_told_once() -> None:
    modes = ComputeFallback()
    modes.crashed("was ended by SIGSEGV")
    modes.started()
    modes.self_testing()
    modes.crashed("was ended by SIGILL")
    assert [str(failure) for failure in modes.ready()] == [
        "llama.cpp was ended by SIGSEGV while it loaded the model (as built)",
        "llama.cpp was ended by SIGILL while it tested itself (without repacked weights and AMX)",
    ]
    assert modes.ready() == ()


def test_a_restart_begins_with_the_mode_that_worked() -> None:
    modes = ComputeFallback()
    modes.crashed("was ended by SIGSEGV")
    modes.ready()
    assert modes.mode is SAFER
    assert modes.crashed("was ended by SIGSEGV")
    assert not modes.crashed("was ended by SIGSEGV")
    assert modes.mode is SAFER


@pytest.mark.parametrize(
    ("ends", "says"),
    [
        (["SIGILL", "SIGILL", "SIGILL"], "was made for another CPU"),
        (["SIGSEGV", "SIGILL", "SIGILL"], "the model file is damaged, or this build"),
    ],
    ids=["always SIGILL", "mixed"],
)
def test_giving_up_names_all_that_was_tried_and_a_remedy(ends: list[str], says: str) -> None:
    modes = ComputeFallback()
    for end in ends:
        modes.crashed(f"was ended by {end}")
    reason = modes.give_up()
    assert says in reason
    assert all(mode.in_words in reason for mode in ComputeMode)
    assert modes.failures == ()


@pytest.mark.parametrize(
    ("exitcode", "crash"),
    [
        (-signal.SIGSEGV, True), (-signal.SIGILL, True), (-signal.SIGABRT, True), (-signal.SIGFPE, True),
        (-signal.SIGKILL, False), (-signal.SIGTERM, False), (0, False), (1, False), (11, False), (None, False),
    ],
)  # fmt: skip
def test_which_ends_are_crashes(exitcode: int | None, crash: bool) -> None:
    assert is_crash(exitcode) is crash
