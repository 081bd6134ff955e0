"""The benchmark's arithmetic and its prompts."""

import random

import pytest

from server.commands.bench_report import summarise
from server.commands.bench_stream import RequestTimes
from server.commands.bench_workloads import WORKLOADS, Size


def _times(started: float, chunks: tuple[float, ...], tokens: int, cached: int = 0) -> RequestTimes:
    return RequestTimes(started, chunks, chunks[-1], prompt_tokens=100, cached_tokens=cached, completion_tokens=tokens)


def test_figures_are_those_of_the_field() -> None:
    report = summarise("two", [_times(0.0, (1.0, 1.5, 3.0), 5), _times(2.0, (2.5, 4.0), 4, cached=80)])
    assert report.wall == 4.0
    assert report.throughput == pytest.approx(9 / 4)
    assert (report.ttft_median, report.ttft_max) == (0.75, 1.0)
    assert report.tpot_median == pytest.approx(0.5)
    assert report.longest_pause == 1.5
    assert report.cached_share == 0.4


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_seed_makes_the_same_prompts_again_and_another_one_does_not(name: str) -> None:
    first, again, other = (WORKLOADS[name](random.Random(seed), Size(4)) for seed in (1, 1, 2))
    assert first == again != other


def test_clients_of_the_shared_prompt_differ_in_its_last_line_alone() -> None:
    new, known = WORKLOADS["shared"](random.Random(1), Size(8))
    prompts = [client.questions[0] for client in new.clients + known.clients]
    assert len({prompt.rsplit("\n", 1)[0] for prompt in prompts}) == 1
    assert len(set(prompts)) == 16
    assert len(prompts[0]) > 1000
