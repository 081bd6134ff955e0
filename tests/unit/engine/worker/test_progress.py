"""What an engine says of its times, by a clock that the test turns."""

from itertools import pairwise

from glmserve.engine.client.output_stream import RequestOutputQueue
from glmserve.engine.client.request_tracker import RequestTracker
from glmserve.engine.interface import ANYBODY
from glmserve.engine.messages import PromptProgress, StepOutput, Submit
from glmserve.engine.params import SamplingParams
from glmserve.engine.scheduler.step_budget import TokenBudgetPolicy
from glmserve.engine.sequence import Sequence
from glmserve.engine.worker.core import EngineCore
from glmserve.engine.worker.progress import ProgressReports
from tests.support.scripted_runner import ScriptedRunner

STEP_S = 1.0


class Clock:
    """Goes on by a second with each step."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def reports(every: float | None, *, requests: int = 1, prompt: int = 40) -> dict[int, list[PromptProgress]]:
    """What is told of ``requests`` that arrive at once, where one runs and a step computes 16 tokens."""
    clock = Clock()
    core = EngineCore(ScriptedRunner(300, 4, 1, context_length=100), TokenBudgetPolicy(1e9, 16), clock=clock)
    params = SamplingParams(max_tokens=2, progress_seconds=every)
    for request_id in range(requests):
        ids = (request_id + 1, *(1 + n % 3 for n in range(prompt - 1)))
        assert core.submit(Submit(request_id, ids, params)) is None
    told: dict[int, list[PromptProgress]] = {request_id: [] for request_id in range(requests)}
    while core.has_work:
        clock.now += STEP_S
        for output in core.step().outputs:
            if output.progress is not None:
                assert output == StepOutput(output.request_id, progress=output.progress)
                told[output.request_id].append(output.progress)
    return told


def test_outputs_say_how_long_their_sequence_waited_and_has_run() -> None:
    clock = Clock()
    core = EngineCore(ScriptedRunner(300, 4, 1, context_length=100), TokenBudgetPolicy(1e9, 16), clock=clock)
    for request_id in (1, 2):
        core.submit(Submit(request_id, (1, 2, 3), SamplingParams(max_tokens=2, prompt_logprobs=0)))
    times: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
    while core.has_work:
        clock.now += STEP_S
        for output in core.step().outputs:
            times[output.request_id].append((output.queue_seconds, output.run_seconds))
        clock.now += STEP_S / 2
    assert times == {1: [(1.0, 0.0), (1.0, 0.0), (1.0, 1.5)], 2: [(4.0, 0.0), (4.0, 0.0), (4.0, 1.5)]}


def test_a_prompt_that_takes_three_steps_is_told_twice() -> None:
    told = reports(0.2)[0]
    assert [(one.total, one.processed, one.position) for one in told] == [(40, 16, 0), (40, 32, 0)]
    assert [one.seconds for one in told] == [0.0, 1.0]


def test_who_waits_is_told_the_place_in_the_queue() -> None:
    told = reports(0.2, requests=3)
    places = [[one.position for one in told[request_id]] for request_id in range(3)]
    assert set(places[0]) == {0}
    assert places[1] == sorted(places[1], reverse=True)
    assert set(places[1]) == {0, 1}
    assert places[2] == sorted(places[2], reverse=True)
    assert set(places[2]) == {0, 1, 2}


def test_a_comment_comes_only_after_its_time() -> None:
    told = reports(5.0, requests=3, prompt=20)
    assert told[0] == []
    assert 0 < len(told[2]) < 3


def test_what_has_not_changed_is_told_each_two_seconds_only() -> None:
    clock = Clock()
    reporter, waiting = ProgressReports(clock), [Sequence(7, (1, 2), SamplingParams(max_tokens=1), 1)]
    reporter.watch(7, 0.2)
    told = []
    for tenth in range(45):
        clock.now = tenth / 10
        if reporter.is_due:
            told += [clock.now for _ in reporter.due(waiting, [])]
    assert len(told) == 3
    assert all(2.0 <= later - earlier < 2.5 for earlier, later in pairwise(told))
    reporter.due([], [])
    assert not reporter.is_due, "a sequence that has a token, or has ended, is forgotten"


def test_nobody_who_did_not_ask_is_told_anything() -> None:
    assert reports(None, requests=3) == {0: [], 1: [], 2: []}


def test_the_client_adds_the_expected_wait_and_does_not_take_a_report_for_an_answer() -> None:
    clock = Clock()
    tracker = RequestTracker(1, 8, lambda *_: None, clock)
    streams: list[RequestOutputQueue] = []
    for _ in range(7):
        with tracker.admitted(ANYBODY) as request_id:
            request = Submit(request_id, (1,), SamplingParams(max_tokens=1, progress_seconds=0.2))
            streams.append(tracker.enter(request, lambda _: None))
    for request_id in range(1, 6):
        clock.now += 2.0
        tracker.drop(request_id)
    last = streams[-1]
    report = StepOutput(last.request.request_id, progress=PromptProgress(9, position=1))
    assert tracker.put(report)
    assert tracker.put(report._replace(progress=PromptProgress(9, position=1, seconds=1.0)))
    assert not last.so_far.has_begun
    assert not last.got_further
    (outcome,) = unread(last)  # a reader who is slower than the reports gets the first of them
    assert isinstance(outcome, StepOutput)
    assert outcome.progress is not None
    assert outcome.progress.expected_wait == 1.6


def test_an_answer_that_has_begun_is_told_nothing_more_after_a_restart() -> None:
    stream = RequestOutputQueue(Submit(1, (1,), SamplingParams(max_tokens=1)))
    stream.put(StepOutput(1, (5,)))
    unread(stream)
    stream.put(StepOutput(1, progress=PromptProgress(9)))
    assert unread(stream) == []


def unread(stream: RequestOutputQueue) -> list[object]:
    """All that a reader would get now."""
    return [stream._queue.get_nowait() for _ in range(stream._queue.qsize())]
