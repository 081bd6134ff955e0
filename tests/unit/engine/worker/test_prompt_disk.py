"""Prompts on the disk, with a scripted runner: the next process goes on where the last one was."""

import time
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glmserve.engine.kv_cache.prefix_keys import LoadedAdapter
from glmserve.engine.kv_cache.prompt_files import SUFFIX, PromptFiles
from glmserve.engine.messages import EVERYBODY, PrefixScope, StepOutput, Submit
from glmserve.engine.params import SamplingParams
from glmserve.engine.scheduler.step_budget import TokenBudgetPolicy
from glmserve.engine.worker.core import EngineCore
from glmserve.engine.worker.prompt_disk import PromptDisk
from tests.support.scripted_runner import ScriptedRunner, lone_run
from tests.support.stepping import drain, tokens_of

PROMPT = tuple(1 + i * i % 40 for i in range(150))
ADAPTERS = {"lora": LoadedAdapter(1, has_lora=True), "prefix": LoadedAdapter(2, prefix_length=20)}


class Engine:
    """A core that shares its folder with the ones before it."""

    def __init__(self, folder: Path, *, cells: int = 800, idle_cells: int = 1024, most_bytes: int = 10**8) -> None:
        self.runner = ScriptedRunner(cells, 10, 4, context_length=400)
        self.runner.adapters = ADAPTERS
        self.core = EngineCore(
            self.runner,
            TokenBudgetPolicy(1e9, 64),
            clock=lambda: 0.0,
            prompts=PromptFiles(folder, most_bytes),
            idle_cells=idle_cells,
        )
        self._ids = iter(range(1000))

    @property
    def disk(self) -> PromptDisk:
        assert self.core._prompts is not None
        return self.core._prompts

    def ask(
        self, prompt: tuple[int, ...], max_tokens: int = 5, adapter: str = "", scope: PrefixScope = EVERYBODY
    ) -> list[StepOutput]:
        request = Submit(next(self._ids), prompt, SamplingParams(max_tokens=max_tokens), adapter, scope=scope)
        assert self.core.submit(request) is None
        wait_until(lambda: self.core.has_work)
        return drain(self.core)[request.request_id]

    def save_all(self) -> None:
        wait_until(lambda: not self.core.save_prompt())

    def stopped(self) -> None:
        self.core.close()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "nothing happens"
        time.sleep(0.001)


def cached(outputs: list[StepOutput]) -> int:
    return outputs[0].cached_tokens


@pytest.mark.parametrize("adapter", ["", "lora", "prefix"])
def test_a_conversation_goes_on_in_the_next_process_where_it_was(tmp_path: Path, adapter: str) -> None:
    first = Engine(tmp_path)
    answer = tokens_of(first.ask(PROMPT, 8, adapter))
    first.save_all()  # and killed
    follow_up = (*PROMPT, *answer, 3, 3, 3)
    kept = cached(first.ask(follow_up, 5, adapter))
    second = Engine(tmp_path)
    outputs = second.ask(follow_up, 5, adapter)
    assert cached(outputs) == kept == len(PROMPT) + len(answer) - 1
    assert second.core.stats.prompts_restored == 1
    if not adapter:
        assert tokens_of(outputs) == lone_run(follow_up, 5)


def test_without_idle_time_an_engine_that_is_stopped_still_saves(tmp_path: Path) -> None:
    first = Engine(tmp_path)
    first.ask(PROMPT)
    first.stopped()
    assert cached(Engine(tmp_path).ask((*PROMPT, 9, 9))) >= len(PROMPT)


def test_a_prompt_that_leaves_a_saved_one_starts_from_what_is_common_and_is_answered_as_alone(tmp_path: Path) -> None:
    first = Engine(tmp_path)
    first.ask(PROMPT)
    first.stopped()
    second = Engine(tmp_path)
    other = (*PROMPT[:60], *(7,) * 30)
    outputs = second.ask(other, 10)
    assert cached(outputs) == 60
    assert tokens_of(outputs) == lone_run(other, 10)
    again = second.ask(PROMPT, 10)  # what lay behind the common start is not known any more, but on the disk
    assert tokens_of(again) == lone_run(PROMPT, 10)
    assert cached(again) == 149


def test_each_caller_finds_its_own_prompts_alone(tmp_path: Path) -> None:
    ann, bob = PrefixScope("ann"), PrefixScope("bob")
    first = Engine(tmp_path)
    first.ask(PROMPT, scope=ann)
    first.stopped()
    second = Engine(tmp_path)
    longer = (*PROMPT, 9, 9)
    assert cached(second.ask(longer, scope=bob)) == 0
    assert cached(second.ask(longer)) == 0
    assert second.core.stats.prompts_restored == 0
    assert cached(second.ask(longer, scope=ann)) >= len(PROMPT)


def test_while_something_runs_only_offloaded_prompts_are_saved(tmp_path: Path) -> None:
    engine = Engine(tmp_path, cells=2000)
    engine.ask(PROMPT)
    assert not engine.disk.save(idle=False)
    offloading = Engine(tmp_path, idle_cells=0)
    offloading.ask(PROMPT)
    offloading.core.submit(Submit(500, (5,) * 70, SamplingParams(max_tokens=200)))
    while offloading.core.has_work:
        offloading.core.step()
        offloading.disk.save(idle=False)
    wait_until(lambda: offloading.core.stats.prompts_saved >= 1)
    assert len(list(tmp_path.glob(f"*{SUFFIX}"))) == 1


def test_of_a_long_conversation_one_file_stays(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    tokens = PROMPT
    for _ in range(4):
        tokens = (*tokens, *tokens_of(engine.ask(tokens, 3)), *(8,) * 40)
        engine.save_all()
    assert engine.core.stats.prompts_saved == 4
    assert len(list(tmp_path.glob(f"*{SUFFIX}"))) == 1


def test_files_of_another_process_are_seen_after_a_while_and_a_removed_one_is_computed(tmp_path: Path) -> None:
    one, other = Engine(tmp_path), Engine(tmp_path)
    wait_until(other.disk._scanned.done)
    one.ask(PROMPT)
    one.save_all()
    other.ask((9,) * 100)
    other.save_all()  # and looks round
    assert cached(other.ask((*PROMPT, 4))) >= len(PROMPT)
    third = Engine(tmp_path)
    wait_until(third.disk._scanned.done)
    for file in tmp_path.glob(f"*{SUFFIX}"):
        file.unlink()
    outputs = third.ask((*PROMPT, 4), 9)
    assert (cached(outputs), tokens_of(outputs)) == (0, lone_run((*PROMPT, 4), 9))


def test_a_damaged_file_is_computed_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = Engine(tmp_path)
    first.ask(PROMPT)
    first.stopped()
    (file,) = tmp_path.glob(f"*{SUFFIX}")
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    outputs = Engine(tmp_path).ask(PROMPT, 9)
    assert (cached(outputs), tokens_of(outputs)) == (0, lone_run(PROMPT, 9))
    assert "is damaged" in caplog.text


def test_a_folder_that_cannot_be_written_any_more_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Engine(tmp_path / "prompts")
    engine.ask(PROMPT)
    (tmp_path / "prompts" / "secret").unlink()
    (tmp_path / "prompts").rmdir()
    engine.save_all()
    assert "could not be saved" in caplog.text
    assert tokens_of(engine.ask(PROMPT, 9)) == lone_run(PROMPT, 9)


def test_a_request_that_is_aborted_while_its_state_is_read_leaves_nothing(tmp_path: Path) -> None:
    first = Engine(tmp_path)
    first.ask(PROMPT)
    first.stopped()
    second = Engine(tmp_path)
    second.core.submit(Submit(1, (*PROMPT, 4), SamplingParams(max_tokens=5)))
    second.core.abort(1)
    assert not second.core.is_preparing
    second.core.check_integrity()
    assert tokens_of(second.ask((*PROMPT, 4), 5)) == lone_run((*PROMPT, 4), 5)


_PARTS = st.lists(st.sampled_from([PROMPT[:40], PROMPT[40:110], (7,) * 35, (1, 2, 3)]), min_size=1, max_size=4)
_OWNERS = st.sampled_from([EVERYBODY, PrefixScope("ann"), PrefixScope("bob")])


@settings(max_examples=40, deadline=None)
@given(
    runs=st.lists(
        st.lists(st.tuples(_PARTS, st.integers(1, 40), _OWNERS, st.booleans()), max_size=5), min_size=2, max_size=3
    ),
    cells=st.integers(420, 900),
    idle_cells=st.sampled_from([0, 200, 1000]),
)
def test_whatever_is_saved_and_restored_every_answer_is_the_one_of_a_request_alone(
    runs: list[list[tuple[list[tuple[int, ...]], int, PrefixScope, bool]]],
    cells: int,
    idle_cells: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("prompts")
    for work in runs:
        engine = Engine(folder, cells=cells, idle_cells=idle_cells)
        for parts, max_tokens, scope, saves in work:
            prompt = tuple(chain(*parts))
            assert tokens_of(engine.ask(prompt, max_tokens, scope=scope)) == lone_run(prompt, max_tokens)
            if saves:
                engine.save_all()
                engine.core.check_integrity()
        engine.stopped()
