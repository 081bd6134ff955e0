"""Batches of inputs: of every request in turn, within the bounds, each vector where it belongs."""

from collections.abc import Sequence

from glmserve.engine.embedding.core import EmbeddingCore, EmbeddingRunner
from glmserve.engine.messages import Embed, Embedded, EngineInfo
from glmserve.engine.model_runner import DecodeError


class Lengths(EmbeddingRunner):
    """Makes the length of an input its vector; cannot take a 13."""

    info = EngineInfo(10, 0, 1, 100, "a script", 0.0, embedding_size=1)
    most_tokens = usual_tokens = 10
    most_inputs = 4

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def embed(self, inputs: Sequence[tuple[int, ...]]) -> tuple[bytes, ...]:
        self.batches.append([len(ids) for ids in inputs])
        if any(13 in ids for ids in inputs):
            raise DecodeError("unlucky")
        return tuple(bytes([len(ids)]) for ids in inputs)

    def self_test(self) -> None:
        pass

    def close(self) -> None:
        pass


def run(core: EmbeddingCore) -> list[Embedded]:
    outputs: list[Embedded] = []
    while core.has_work:
        outputs += [output for output in core.step().outputs if isinstance(output, Embedded)]
    return outputs


def ask(request_id: int, *lengths: int) -> Embed:
    return Embed(request_id, tuple((7,) * length for length in lengths))


def test_vectors_come_in_the_order_of_the_inputs() -> None:
    core = EmbeddingCore(Lengths())
    core.submit(ask(1, 3, 10, 1, 2, 4, 5, 6))
    assert run(core) == [Embedded(1, tuple(bytes([size]) for size in (3, 10, 1, 2, 4, 5, 6)))]


def test_no_batch_has_more_tokens_or_inputs_than_fit() -> None:
    runner = Lengths()
    core = EmbeddingCore(runner)
    core.submit(ask(1, *[1] * 9, *[6] * 3))
    run(core)
    assert all(sum(batch) <= runner.most_tokens and len(batch) <= runner.most_inputs for batch in runner.batches)
    assert runner.batches[0] == [1, 1, 1, 1]


def test_a_long_request_does_not_keep_a_short_one_waiting() -> None:
    core = EmbeddingCore(Lengths())
    core.submit(ask(1, *[10] * 50))
    core.step()
    core.submit(ask(2, 10))
    done = [output.request_id for _ in range(2) for output in core.step().outputs]
    assert done == [2]


def test_an_input_that_cannot_be_computed_fails_its_request_and_nobody_else_in_the_batch() -> None:
    """The whole batch failed, and with it every request that had an input there."""
    core = EmbeddingCore(Lengths())
    core.submit(ask(1, 2))
    core.submit(Embed(2, ((7,), (13,), (7,))))
    core.submit(ask(3, 3))
    assert sorted(run(core), key=lambda output: output.request_id) == [
        Embedded(1, (bytes([2]),)),
        Embedded(2, error="input 1: unlucky"),
        Embedded(3, (bytes([3]),)),
    ]
    assert not core.has_work


def test_a_request_that_nobody_waits_for_is_dropped() -> None:
    core = EmbeddingCore(Lengths())
    core.submit(ask(1, *[10] * 5))
    core.step()
    core.abort(1)
    core.abort(99)
    assert not core.has_work
    assert core.stats.running == 0
