"""The engine process dies in the middle of answers: they go on in the next one, and callers see a pause."""

import asyncio
import os
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from glmserve.chat.tokenizer.llama_tokenizer import LlamaTokenizer
from glmserve.engine.client.client import EngineClient
from glmserve.engine.errors import EngineDied
from glmserve.engine.interface import EngineState
from glmserve.engine.messages import FinishReason, StepOutput
from glmserve.engine.params import Grammar, GrammarKind, SamplingParams
from tests.support.faults import VARIABLE
from tests.support.faulty_engine import Start, faulty_engine

GREEDY = SamplingParams(max_tokens=200, ignore_eos=True, temperature=0.0)
ROUNDS = Grammar(GrammarKind.REGEX, "(ab|cd|efg){60}")


@pytest.fixture
def start(exact_gguf: Path) -> Start:
    return partial(faulty_engine, exact_gguf)


@pytest.fixture
def prompt(exact_gguf: Path) -> tuple[int, ...]:
    return LlamaTokenizer(exact_gguf).encode("晚上睡不着应该怎么办")


async def _read(engine: EngineClient, prompt: tuple[int, ...], params: SamplingParams) -> list[StepOutput]:
    return [output async for output in await engine.submit(prompt, params)]


def _ids(outputs: list[StepOutput]) -> list[int]:
    return [token for output in outputs for token in output.token_ids]


async def _read_while_it_dies(
    engine: EngineClient, prompt: tuple[int, ...], params: SamplingParams, deaths: int = 1
) -> list[StepOutput]:
    outputs: list[StepOutput] = []
    killed: list[int | None] = []
    async for output in await engine.submit(prompt, params):
        outputs.append(output)
        if len(killed) < deaths and len(_ids(outputs)) > 20 * len(killed) + 20 and engine.pid not in (None, *killed):
            killed.append(engine.pid)
            kill(engine)
    return outputs


def kill(engine: EngineClient) -> None:
    assert engine.pid is not None
    os.kill(engine.pid, signal.SIGKILL)


_PARAMS = {
    "plain": GREEDY,
    "until its end": replace(GREEDY, ignore_eos=False, max_tokens=1000, min_tokens=100),
    "penalties": replace(GREEDY, repetition_penalty=1.3, presence_penalty=0.8, frequency_penalty=0.6),
    "of the answer": replace(GREEDY, presence_penalty=1.5, frequency_penalty=1.2),
    "biases": replace(GREEDY, logit_bias=((100, 8.0), (101, -50.0))),
    "grammar": replace(GREEDY, grammar=ROUNDS, ignore_eos=False),
    "scores": replace(GREEDY, logprobs=2, prompt_logprobs=0),
}


@pytest.mark.parametrize("params", _PARAMS.values(), ids=_PARAMS)
async def test_an_answer_goes_on_as_if_nothing_had_happened(
    start: Start, prompt: tuple[int, ...], params: SamplingParams
) -> None:
    for _ in range(3):  # on a busy machine an answer may end before its process is killed for the second time
        async with start() as engine:
            undisturbed = await _read(engine, prompt, params)
            disturbed = await _read_while_it_dies(engine, prompt, params, deaths=2)
            deaths = (engine.restarts_total, engine.resumed_total)
        assert _ids(disturbed) == _ids(undisturbed)
        if deaths == (2, 2):
            break
    assert deaths == (2, 2)
    assert disturbed[-1].finish_reason is undisturbed[-1].finish_reason
    scores = [[score.token_id for o in outputs for score in o.prompt_logprobs] for outputs in (undisturbed, disturbed)]
    assert scores[0] == scores[1]
    assert len({output.cached_tokens for output in disturbed}) == 1
    times = [output.run_seconds for output in disturbed]
    assert times == sorted(times)


async def test_all_answers_beside_each_other_go_on(start: Start, prompt: tuple[int, ...]) -> None:
    prompts = [prompt[: len(prompt) - cut] for cut in range(4)] * 2
    async with start(parallel=4) as engine:
        undisturbed = [_ids(await _read(engine, prompt, GREEDY)) for prompt in prompts]
        first = _read_while_it_dies(engine, prompts[0], GREEDY)
        others = (_read(engine, prompt, GREEDY) for prompt in prompts[1:])
        assert [_ids(outputs) for outputs in await asyncio.gather(first, *others)] == undisturbed


async def test_a_prompt_that_is_scored_is_scored_once(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process dies between two pieces of it."""
    params = replace(GREEDY, max_tokens=2, prompt_logprobs=0)
    prompt = tuple(10 + i % 200 for i in range(1500))
    async with start() as engine:
        undisturbed = await _read(engine, prompt, params)
        outputs: list[StepOutput] = []
        async for output in await engine.submit(prompt, params):
            outputs.append(output)
            if len(outputs) == 1:
                assert not output.token_ids
                kill(engine)
        assert engine.resumed_total == 1
    scores = [[score.token_id for o in found for score in o.prompt_logprobs] for found in (undisturbed, outputs)]
    assert scores[1] == scores[0] == list(prompt)
    assert _ids(outputs) == _ids(undisturbed)


async def test_a_drawn_answer_goes_on_with_other_draws(start: Start, prompt: tuple[int, ...]) -> None:
    """With its seed as it was, the next tokens would be drawn with the numbers of the first ones."""
    params = replace(GREEDY, temperature=1.0, seed=7)
    async with start() as engine:
        undisturbed = _ids(await _read(engine, prompt, params))
        outputs = [_ids(await _read_while_it_dies(engine, prompt, params)) for _ in range(2)]
    for ids in outputs:
        assert len(ids) == len(undisturbed)
        assert ids[:20] == undisturbed[:20]
        assert ids != undisturbed


async def test_a_third_death_ends_an_answer(
    start: Start, prompt: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "decode:30=kill")
    async with start() as engine:
        with pytest.raises(EngineDied, match="SIGKILL"):
            await _read(engine, prompt, GREEDY)
        assert engine.resumed_total == 2


async def test_an_answer_that_kills_two_processes_at_one_place_gets_no_third(
    start: Start, prompt: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start() as engine:
        ids = _ids(await _read(engine, prompt, GREEDY))
        poison = next(token for at, token in enumerate(ids) if at > 10 and token not in (*ids[:at], *prompt))
        monkeypatch.setenv(VARIABLE, f"decode@{poison}=abort")
        kill(engine)
        while engine.status.state is EngineState.READY:
            await asyncio.sleep(0.01)
        outputs: list[StepOutput] = []
        with pytest.raises(EngineDied, match="SIGABRT"):
            outputs += [output async for output in await engine.submit(prompt, GREEDY)]
        assert engine.restarts_total == 3
        assert engine.resumed_total == 1


async def test_an_answer_waits_for_longer_than_a_request_of_which_nothing_was_answered(
    start: Start, prompt: tuple[int, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A large model takes longer to load than a request that has not begun is kept."""
    async with start(restart_wait=0.2, parallel=1) as engine:
        reading = await engine.submit(prompt, GREEDY)
        outputs = [await anext(reading)]
        waiting = asyncio.ensure_future(_read(engine, prompt, GREEDY))
        await asyncio.sleep(0)
        (tmp_path / "plan").write_text("load=slow")
        monkeypatch.setenv(VARIABLE, f"once {tmp_path / 'plan'}")
        kill(engine)
        with pytest.raises(EngineDied):
            await waiting
        outputs += [output async for output in reading]
        assert outputs[-1].finish_reason is FinishReason.LENGTH
        assert len(_ids(outputs)) == GREEDY.max_tokens


async def test_an_engine_that_is_given_up_ends_its_answers(start: Start, prompt: tuple[int, ...]) -> None:
    async with start(max_restarts=0) as engine:
        with pytest.raises(EngineDied, match="was not answered"):
            await _read_while_it_dies(engine, prompt, GREEDY)


async def test_without_resume_an_answer_ends_with_its_process(start: Start, prompt: tuple[int, ...]) -> None:
    async with start(resume=False) as engine:
        with pytest.raises(EngineDied, match="SIGKILL"):
            await _read_while_it_dies(engine, prompt, GREEDY)
        assert engine.resumed_total == 0
