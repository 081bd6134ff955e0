"""The engine of a cluster over scripted replicas: requests that move, replicas that come and go."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from glmserve.cluster.engine import ClusterEngine
from glmserve.cluster.messages import Answer, Begun, Ended, Outputs, ReplicaCall, ReplicaLost, Report
from glmserve.engine.config import EngineConfig
from glmserve.engine.errors import EngineDied, EngineUnavailable, ModelLoadError, PromptTooLong, QueueFull
from glmserve.engine.interface import Caller, EngineState
from glmserve.engine.messages import Embed, Embedded, EngineInfo, EngineStats, FinishReason, Pin, StepOutput, Submit
from glmserve.engine.params import SamplingParams
from tests.support.scripted_runner import next_token

PROMPT = tuple(range(1, 40))
PARAMS = SamplingParams(max_tokens=12, ignore_eos=True)
CONFIG = EngineConfig(Path("model.gguf"), parallel=4, max_waiting=4, restart_wait=0.3)


def whole_answer(prompt: tuple[int, ...] = PROMPT, count: int = 12) -> list[int]:
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(next_token(tokens))
    return tokens[len(prompt) :]


@dataclass
class OneReplica:
    """Computes as the scripted runner does, a token each time it is let."""

    name: str
    asked: list[ReplicaCall] = field(default_factory=list)
    aborted: list[int] = field(default_factory=list)
    pins: list[Pin] = field(default_factory=list)
    dies_after: int | None = None
    gives_back_after: int | None = None
    refuses: bool = False
    hangs: bool = False
    parallel: int = 4

    @property
    def report(self) -> Report:
        info = EngineInfo(2048, 4096, self.parallel, 5000, "CPU", 1.0, max_waiting=4)
        return Report(self.name, EngineState.READY, "", info, EngineStats(running=1, prompt_tokens=10))

    async def answer(self, call: ReplicaCall) -> AsyncGenerator[Answer, None]:
        self.asked.append(call)
        yield Begun(self.name)
        if self.refuses:
            yield Ended("it is restarting", elsewhere=call.others, rejected=True)
            return
        request = call.request
        if isinstance(request, Embed):
            yield Outputs((Embedded(99, tuple(b"v" for _ in request.inputs)),))
            return
        tokens, ended = list(request.prompt_ids), False
        try:
            for number in range(request.params.max_tokens):
                await asyncio.sleep(0)
                if self.dies_after == number:
                    raise ReplicaLost("killed")
                if self.gives_back_after == number:
                    yield Ended("its process ended", elsewhere=True)
                    return
                if self.hangs:
                    await asyncio.Event().wait()
                tokens.append(next_token(tokens))
                last = number + 1 == request.params.max_tokens
                yield Outputs((StepOutput(77, (tokens[-1],), FinishReason.LENGTH if last else None),))
            ended = True
        finally:
            if not ended:
                self.aborted.append(request.request_id)


class ScriptedReplicas:
    """Implements ``Replicas``; the first one that has not refused is chosen."""

    def __init__(self, *replicas: OneReplica) -> None:
        self.there = list(replicas)
        self.unknown = False
        self.given_up = ""

    async def ask(self, call: ReplicaCall) -> AsyncGenerator[Answer, None]:
        while not self.there:
            await asyncio.sleep(0.01)
        chosen = sorted(self.there, key=lambda one: one.name in call.rejected_by)[0]
        answers = chosen.answer(call)
        try:
            async for answer in answers:
                yield answer
        except ReplicaLost:
            self.there.remove(chosen)
            raise
        finally:
            await answers.aclose()

    async def reports(self) -> Sequence[Report] | None:
        return None if self.unknown else [one.report for one in self.there]

    async def failure(self) -> str:
        return self.given_up

    async def pin(self, pins: Sequence[Pin]) -> None:
        for one in self.there:
            one.pins += [pin for pin in pins if pin not in one.pins]


@asynccontextmanager
async def engine_on(replicas: ScriptedReplicas, config: EngineConfig = CONFIG) -> AsyncIterator[ClusterEngine]:
    engine = ClusterEngine(replicas, config, look_seconds=0.01)
    await engine.start()
    try:
        await engine.wait_ready(10)
        yield engine
    finally:
        await engine.stop()


async def answer(engine: ClusterEngine, prompt: tuple[int, ...] = PROMPT) -> list[int]:
    return [token async for output in await engine.submit(prompt, PARAMS) for token in output.token_ids]


async def until(holds: Callable[[], bool]) -> None:
    async def look() -> None:
        while not holds():
            await asyncio.sleep(0.01)

    await asyncio.wait_for(look(), 10)


async def test_the_outputs_of_a_replica_are_the_answer() -> None:
    async with engine_on(ScriptedReplicas(OneReplica("a"))) as engine:
        assert await answer(engine) == whole_answer()


@pytest.mark.parametrize("after", [0, 1, 7, 11])
async def test_an_answer_goes_on_in_another_replica_where_the_first_one_is_lost(after: int) -> None:
    first, second = OneReplica("a", dies_after=after), OneReplica("b")
    async with engine_on(ScriptedReplicas(first, second)) as engine:
        assert await answer(engine) == whole_answer()
        assert (engine.restarts_total, engine.resumed_total) == (1, 1 if after else 0)
    request = second.asked[0].request
    assert isinstance(request, Submit)
    assert (request.answered, request.params.max_tokens) == (after, 12 - after)
    assert request.prompt_ids == (*PROMPT, *whole_answer()[:after])


async def test_an_answer_is_given_back_by_a_replica_whose_process_ended() -> None:
    first, second = OneReplica("a", gives_back_after=5), OneReplica("b")
    async with engine_on(ScriptedReplicas(first, second)) as engine:
        assert await answer(engine) == whole_answer()
    assert first.asked[0].others
    assert second.asked[0].rejected_by == {"a"}
    assert not second.asked[0].others, "b is the last one that may have it, so it is to wait there"


async def test_a_refused_request_is_asked_of_each_other_replica_and_then_ends() -> None:
    replicas = ScriptedReplicas(*(OneReplica(name, refuses=True) for name in "abcd"))
    async with engine_on(replicas) as engine:
        with pytest.raises(EngineUnavailable, match="it is restarting"):
            await answer(engine)
    assert [len(one.asked) for one in replicas.there] == [1, 1, 1, 1]


async def test_a_request_that_kills_each_replica_is_given_up() -> None:
    replicas = ScriptedReplicas(*(OneReplica(name, dies_after=0) for name in "abcdef"))
    async with engine_on(replicas) as engine:
        with pytest.raises(EngineDied):
            await answer(engine)
    assert len(replicas.there) == 4, "it killed two, and the others were spared"


async def test_an_answer_that_has_begun_is_not_resumed_where_that_is_off() -> None:
    replicas = ScriptedReplicas(OneReplica("a", dies_after=3), OneReplica("b"))
    config = EngineConfig(Path("model.gguf"), parallel=4, max_waiting=4, resume=False)
    async with engine_on(replicas, config) as engine:
        with pytest.raises(EngineDied):
            await answer(engine)


async def test_closing_a_stream_aborts_it_in_its_replica() -> None:
    replica = OneReplica("a", hangs=True)
    async with engine_on(ScriptedReplicas(replica)) as engine:
        stream = await engine.submit(PROMPT, PARAMS)
        await until(lambda: bool(replica.asked))
        await stream.aclose()
        await until(lambda: len(replica.aborted) == 1)


async def test_limits_hold_before_anything_is_sent() -> None:
    replica = OneReplica("a", hangs=True, parallel=2)
    async with engine_on(ScriptedReplicas(replica)) as engine:
        with pytest.raises(PromptTooLong):
            await engine.submit(tuple(range(3000)), PARAMS)
        streams = [await engine.submit(PROMPT, PARAMS, caller=Caller("one")) for _ in range(6)]
        with pytest.raises(QueueFull):
            await engine.submit(PROMPT, PARAMS, caller=Caller("one"))
        with pytest.raises(QueueFull):
            engine.check_room(Caller("one"))
        for stream in streams:
            await stream.aclose()
        await engine.submit(PROMPT, PARAMS, caller=Caller("one"))
    assert len(replica.asked) <= 7


async def test_a_new_replica_makes_room_and_is_told_the_pins() -> None:
    first, second = OneReplica("a"), OneReplica("b")
    replicas = ScriptedReplicas(first)
    async with engine_on(replicas) as engine:
        engine.pin(Pin((1, 2, 3)))
        await until(lambda: first.pins == [Pin((1, 2, 3))])
        replicas.there.append(second)
        await until(lambda: engine.info.parallel == 8)
        assert (engine.info.max_waiting, engine.info.cache_cells, engine.stats.prompt_tokens) == (8, 8192, 20)
        await until(lambda: second.pins == [Pin((1, 2, 3))])


async def test_without_a_replica_requests_wait_for_a_while_and_then_end() -> None:
    first = OneReplica("a", hangs=True)
    replicas = ScriptedReplicas(first)
    async with engine_on(replicas) as engine:
        waiting = asyncio.create_task(answer(engine))
        await until(lambda: bool(first.asked))
        replicas.there.clear()
        await until(lambda: engine.status.state is EngineState.RESTARTING)
        with pytest.raises(EngineUnavailable):
            await answer(engine)
        with pytest.raises(EngineDied):
            await waiting
        late = asyncio.create_task(answer(engine))
        replicas.there.append(OneReplica("b"))
        assert await late == whole_answer()


async def test_an_answer_that_has_begun_waits_for_longer_and_goes_on() -> None:
    replicas = ScriptedReplicas(OneReplica("a", dies_after=5))
    async with engine_on(replicas) as engine:
        begun = asyncio.create_task(answer(engine))
        await until(lambda: engine.status.state is EngineState.RESTARTING)
        with pytest.raises(EngineUnavailable):
            await answer(engine)  # after restart_wait
        assert not begun.done()
        replicas.there.append(OneReplica("b"))
        assert await begun == whole_answer()


async def test_replicas_that_were_not_heard_in_time_are_not_gone() -> None:
    replicas = ScriptedReplicas(OneReplica("a"))
    async with engine_on(replicas) as engine:
        replicas.unknown = True
        await asyncio.sleep(0.05)
        assert engine.status.state is EngineState.READY
        assert await answer(engine) == whole_answer()


async def test_a_deployment_that_has_failed_is_a_model_that_cannot_be_loaded() -> None:
    replicas = ScriptedReplicas()
    replicas.given_up = "no replica could be started: model.gguf is damaged"
    engine = ClusterEngine(replicas, CONFIG, look_seconds=0.01)
    await engine.start()
    with pytest.raises(ModelLoadError, match="damaged"):
        await engine.wait_ready(10)
    await engine.stop()


async def test_vectors_come_from_a_replica() -> None:
    async with engine_on(ScriptedReplicas(OneReplica("a"))) as engine:
        assert await engine.embed(((1, 2), (3,))) == (b"v", b"v")


async def test_stopping_ends_every_stream() -> None:
    replica = OneReplica("a", hangs=True)
    async with engine_on(ScriptedReplicas(replica)) as engine:
        waiting = asyncio.create_task(answer(engine))
        await until(lambda: bool(replica.asked))
        await engine.stop()
        with pytest.raises(EngineUnavailable):
            await waiting
