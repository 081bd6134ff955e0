"""What an engine says of its times, by a clock that the test turns."""

from glmserve.engine.messages import FinishReason, StepOutput
from glmserve.engine.worker.times import SequenceTimes


def test_outputs_say_how_long_their_sequence_waited_and_has_run() -> None:
    now = [10.0]
    times = SequenceTimes(lambda: now[0])
    times.submitted(1)
    times.submitted(2)
    now[0] = 12.0
    times.admitted([1])
    now[0] = 15.0
    first, second = times.stamp([StepOutput(1, (7,)), StepOutput(2, (7,))])
    assert (first.queue_seconds, first.run_seconds) == (2.0, 3.0)
    assert (second.queue_seconds, second.run_seconds) == (0.0, 0.0)
    now[0] = 16.0
    (last,) = times.stamp([StepOutput(1, (8,), FinishReason.STOP)])
    assert (last.queue_seconds, last.run_seconds) == (2.0, 4.0)
    assert times.stamp([StepOutput(1, (8,))]) == (StepOutput(1, (8,)),)


def test_what_is_forgotten_or_unknown_has_no_times() -> None:
    times = SequenceTimes(lambda: 1.0)
    times.submitted(1)
    times.forget(1)
    times.forget(1)
    times.admitted([1, 5])
    assert times.stamp([StepOutput(1), StepOutput(5)]) == (StepOutput(1), StepOutput(5))
