"""Fewer threads while other programs use the cores, and all of them again."""

import pytest

from server.engine.spare_cores import SMALL_ROWS, SpareCores


class Machine:
    """Two or more cores, of which other programs take some; a thread without a core holds up all the others."""

    def __init__(self, cores: int) -> None:
        self.cores = cores
        self.taken = 0
        self.spare = SpareCores(cores)
        self.steps: list[int] = []
        self.seconds = 0.0

    def run(self, seconds: float, rows: int = 1) -> list[int]:
        """Return how many threads each step of so many seconds had."""
        begun, until = len(self.steps), self.seconds + seconds
        while self.seconds < until:
            threads = self.cores - self.spare.spared
            crowded = threads > self.cores - self.taken
            took = 0.048 / threads * (5 if crowded else 1)
            got = self.cores * threads / (threads + self.taken) if crowded else threads
            self.spare.observe(rows, took, got * took)
            self.steps.append(threads)
            self.seconds += took
        return self.steps[begun:]


def test_a_quiet_machine_has_all_its_threads_in_every_step() -> None:
    assert set(Machine(2).run(60)) == {2}


@pytest.mark.parametrize(("cores", "taken", "best"), [(2, 1, 1), (8, 1, 7), (16, 1, 15)])
def test_beside_a_busy_program_nearly_every_step_does_without_a_thread(cores: int, taken: int, best: int) -> None:
    machine = Machine(cores)
    machine.taken = taken
    steps = machine.run(60)
    assert steps[:5] == [cores] * 5
    assert steps.count(best) > 0.98 * len(steps)


def test_tries_that_are_no_gain_become_rare() -> None:
    machine = Machine(2)
    machine.taken = 1
    machine.run(60)
    assert machine.run(60).count(2) <= 4


def test_all_threads_come_back_when_the_other_program_has_ended() -> None:
    machine = Machine(2)
    machine.taken = 1
    machine.run(300)
    machine.taken = 0
    machine.run(33)
    assert set(machine.run(60)) == {2}


def test_fewer_threads_that_are_slower_are_given_up() -> None:
    """A program that takes half of a core costs two threads less than doing without one."""
    spare = SpareCores(2)
    seen = []
    for _ in range(2000):
        seen.append(spare.spared)
        took = 0.048 if spare.spared else 0.030
        spare.observe(1, took, (2 - spare.spared) * 0.8 * took)
    assert seen.count(1) / len(seen) < 0.03


def test_a_batch_of_another_size_is_not_compared() -> None:
    """Streams that come and go made a try of fewer threads look good or bad by their number."""
    spare = SpareCores(2)
    for step in range(400):
        spare.observe(1 + step % SMALL_ROWS, 0.03, 0.04)
        assert spare.spared == 0
