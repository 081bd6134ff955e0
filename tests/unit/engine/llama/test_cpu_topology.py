"""How many threads, from what the kernel says and from times that were measured."""

import pytest

from glmserve.engine.llama.cpu_topology import Cores, best, candidates, count_cores, find_cores, measure

TWO_THREADS_A_CORE = ["0,4", "1,5", "2,6", "3,7"] * 2


@pytest.mark.parametrize(
    ("siblings", "quota", "found"),
    [
        (["0", "1"], None, Cores(2, 2)),
        (TWO_THREADS_A_CORE, None, Cores(8, 4)),
        (TWO_THREADS_A_CORE[:2], None, Cores(2, 2)),
        (TWO_THREADS_A_CORE, 6.0, Cores(6, 4)),
        (TWO_THREADS_A_CORE, 2.5, Cores(3, 3)),
        (TWO_THREADS_A_CORE, 0.1, Cores(1, 1)),
    ],
)
def test_hardware_threads_of_one_core_and_a_quota_are_counted(
    siblings: list[str], quota: float | None, found: Cores
) -> None:
    assert count_cores(siblings, quota) == found


def test_this_machine_has_a_core() -> None:
    cores = find_cores()
    assert 1 <= cores.physical <= cores.logical


def test_what_is_tried_begins_with_one_thread_for_each_core() -> None:
    assert candidates(Cores(1, 1)) == (1,)
    assert candidates(Cores(2, 2)) == (2,)
    assert candidates(Cores(4, 2)) == (2, 4)
    assert candidates(Cores(32, 16)) == (16, 12, 8, 32)


class Machine:
    """Computes a step in a time that depends on the number of threads."""

    def __init__(self, seconds: dict[int, list[float]]) -> None:
        self.seconds = seconds
        self.now = 0.0
        self.steps: list[int] = []

    def step(self, threads: int) -> None:
        self.steps.append(threads)
        self.now += self.seconds[threads].pop(0)

    def clock(self) -> float:
        return self.now


def test_the_fastest_of_three_steps_counts() -> None:
    machine = Machine({4: [0.5, 0.1, 0.2], 2: [0.3, 0.3, 0.2]})
    assert measure(machine.step, (4, 2), 9.0, machine.clock) == pytest.approx({4: 0.1, 2: 0.2})
    assert machine.steps == [4, 2] * 3


def test_a_slow_model_is_not_measured_for_long() -> None:
    machine = Machine({4: [0.7, 0.7], 2: [0.7]})
    assert set(measure(machine.step, (4, 2), 1.0, machine.clock)) == {4, 2}
    assert machine.steps == [4, 2]
    slower = Machine({4: [3.0], 2: [3.0]})
    assert set(measure(slower.step, (4, 2), 1.0, slower.clock)) == {4}


def test_the_fewest_threads_win_among_times_that_are_close() -> None:
    assert best({4: 0.100, 2: 0.101, 8: 0.099}) == 2
    assert best({4: 0.100, 2: 0.150, 8: 0.099}) == 4
