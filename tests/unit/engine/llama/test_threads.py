"""Fewer threads while other programs use the cores, and all of them again."""

import pytest

from glmserve.engine.llama.threads import CpuContention

STEP = 0.024


class Machine:
    """Cores of which other programs take some time."""

    def __init__(self, cores: int, taken: float = 0.0) -> None:
        self.cores = cores
        self.taken = taken
        self.spare = CpuContention(cores)

    def run(self, seconds: float) -> list[int]:
        """Return how many threads each step of so many seconds had."""
        steps = []
        for _ in range(round(seconds / STEP)):
            threads = self.cores - self.spare.spared
            steps.append(threads)
            self.spare.observe(threads, STEP, min(threads, self.cores - self.taken) * STEP)
        return steps


@pytest.mark.parametrize(("cores", "taken"), [(2, 0.0), (2, 0.2), (2, 0.45), (16, 0.2), (1, 0.9)])
def test_all_threads_stay_where_little_of_their_time_is_missed(cores: int, taken: float) -> None:
    assert set(Machine(cores, taken).run(60)) == {cores}


@pytest.mark.parametrize(
    ("cores", "taken", "best"), [(2, 1.0, 1), (2, 0.6, 1), (8, 1.0, 7), (16, 2.5, 13), (16, 0.3, 15), (4, 9.0, 1)]
)
def test_threads_without_a_core_are_given_up(cores: int, taken: float, best: int) -> None:
    steps = Machine(cores, taken).run(60)
    assert set(steps) == {cores, best}
    assert steps.index(best) * STEP < 0.3, "within some tenths of a second"
    assert steps.count(best) > 0.96 * len(steps)


def test_all_threads_are_tried_ever_more_rarely_while_nothing_changes() -> None:
    machine = Machine(2, 1.0)
    machine.run(60)
    tries = machine.run(100).count(2) * STEP
    assert 0.1 <= tries <= 0.5


def test_all_threads_come_back_when_the_other_program_has_ended() -> None:
    machine = Machine(2, 1.0)
    machine.run(300)
    machine.taken = 0
    machine.run(33)
    assert set(machine.run(60)) == {2}


def test_a_short_disturbance_is_nothing() -> None:
    machine = Machine(2)
    for _ in range(20):
        machine.taken = 1.0
        assert set(machine.run(0.1)) == {2}
        machine.taken = 0.0
        assert set(machine.run(0.3)) == {2}


def test_after_a_quiet_while_a_crowd_is_met_as_if_for_the_first_time() -> None:
    machine = Machine(2, 1.0)
    machine.run(300)
    machine.taken = 0.0
    machine.run(60)
    machine.taken = 1.0
    machine.run(0.3)
    machine.taken = 0.0
    assert machine.run(1.2)[-1] == 2, "not after half a minute"


def test_steps_that_have_fewer_threads_of_their_own_miss_nothing() -> None:
    """A model generated with 12 of 16 threads, for so it was fastest; the other four were taken for missing."""
    spare = CpuContention(16)
    for _ in range(1000):
        spare.observe(12, STEP, 12 * STEP)
        assert not spare.spared
