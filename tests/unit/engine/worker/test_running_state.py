"""The engine core on a memory that knows whole states only, as that of a recurrent model or a sliding window."""

import pytest

from glmserve.engine.kv_cache.manager import AFTER_CHECKPOINT, checkpoints
from glmserve.engine.kv_cache.ops import CacheTraits
from glmserve.engine.messages import Pin, PrefixScope, Submit
from glmserve.engine.params import SamplingParams
from glmserve.engine.scheduler.step_budget import TokenBudgetPolicy
from glmserve.engine.worker.core import EngineCore
from tests.support.scripted_runner import ScriptedRunner, lone_run
from tests.support.stepping import drain, tokens_of

STATE = CacheTraits(cuts=False, undoes=False)
PROMPT = tuple(1 + i % 40 for i in range(200))


def _core(traits: CacheTraits = STATE, slots: int = 16, idle_cells: int = 1000) -> tuple[EngineCore, ScriptedRunner]:
    runner = ScriptedRunner(cells=4000, slots=slots, parallel=4, context_length=1000, traits=traits)
    return EngineCore(runner, TokenBudgetPolicy(1e9, 64), clock=lambda: 0.0, idle_cells=idle_cells), runner


def _ask(core: EngineCore, *prompts: tuple[int, ...], common: int = 0, max_tokens: int = 5) -> list[int]:
    """Ask all at once, check the answers, and return how much of each prompt was cached."""
    scope = PrefixScope(common=common)
    for number, prompt in enumerate(prompts):
        core.submit(Submit(number, prompt, SamplingParams(max_tokens=max_tokens), scope=scope))
    outputs = drain(core)
    for number, prompt in enumerate(prompts):
        assert tokens_of(outputs[number]) == lone_run(prompt, max_tokens)
    return [outputs[number][0].cached_tokens for number in range(len(prompts))]


def test_a_chat_that_goes_on_starts_from_the_end_of_its_last_answer() -> None:
    core, _ = _core()
    assert _ask(core, PROMPT) == [0]
    answered = (*PROMPT, *lone_run(PROMPT, 5))
    assert _ask(core, (*answered, 7, 8, 9)) == [len(answered) - 1]  # the last token of an answer is never computed


def test_an_equal_prompt_starts_from_the_checkpoint_before_its_end() -> None:
    core, _ = _core()
    _ask(core, PROMPT)
    assert _ask(core, PROMPT) == [len(PROMPT) - AFTER_CHECKPOINT]


def test_a_chat_whose_answer_is_not_sent_back_as_it_was_starts_from_the_checkpoint() -> None:
    core, _ = _core()
    _ask(core, PROMPT)
    assert _ask(core, (*PROMPT[:-2], 44, 45, 46, 47)) == [len(PROMPT) - AFTER_CHECKPOINT]


def test_equal_prompts_at_once_are_computed_once_up_to_the_checkpoint() -> None:
    core, runner = _core()
    assert _ask(core, *[PROMPT] * 4) == [0, *[len(PROMPT) - AFTER_CHECKPOINT] * 3]
    assert runner.computed <= len(PROMPT) + 4 * (AFTER_CHECKPOINT + 5)


def test_prompts_of_one_system_message_share_it() -> None:
    core, _ = _core()
    asked = [(*PROMPT, *(41 + n for _ in range(20))) for n in range(3)]
    assert _ask(core, asked[0], common=200) == [0]
    assert _ask(core, *asked[1:], common=200) == [200, 200]


def test_the_middle_of_a_cached_prompt_is_no_beginning() -> None:
    core, _ = _core()
    _ask(core, PROMPT)
    assert _ask(core, (*PROMPT[:100], *PROMPT[:50])) == [0]


def test_a_pinned_prefix_is_a_beginning() -> None:
    core, _ = _core()
    assert core.pin(Pin(PROMPT))
    drain(core)
    assert _ask(core, (*PROMPT, 4, 5), (*PROMPT, 6, 7)) == [200, 200]


def test_a_state_comes_back_from_host_memory() -> None:
    core, runner = _core(idle_cells=0)
    others = [tuple(1 + (i * k) % 40 for i in range(150)) for k in (3, 7, 11)]
    _ask(core, PROMPT)
    _ask(core, *others)
    assert core.stats.tokens_parked
    assert _ask(core, PROMPT) == [len(PROMPT) - AFTER_CHECKPOINT]
    assert _ask(core, others[0]) == [150 - AFTER_CHECKPOINT]
    assert len(runner.copies) <= STATE.copies


def test_no_more_copies_are_kept_than_the_traits_allow() -> None:
    core, runner = _core(CacheTraits(cuts=False, undoes=False, copies=2), slots=6, idle_cells=0)
    for k in (3, 7, 11, 13):
        _ask(core, tuple(1 + (i * k) % 40 for i in range(150)))
        assert len(runner.copies) <= 2


def test_without_a_slot_for_a_checkpoint_there_is_none() -> None:
    core, _ = _core(slots=4)
    prompts = [tuple(1 + (i * k) % 40 for i in range(150)) for k in (3, 7, 11, 13)]
    assert _ask(core, *prompts) == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("prompt", "common", "computed", "places"),
    [
        (200, 0, 0, (192,)), (200, 100, 0, (100, 192)), (200, 100, 100, (192,)), (200, 180, 0, (180,)),
        (70, 0, 0, ()), (72, 0, 0, (64,)), (200, 0, 190, ()), (200, 200, 0, (192,)), (200, 20, 0, (192,)),
    ],
)  # fmt: skip
def test_checkpoints_stand_where_they_save_enough(
    prompt: int, common: int, computed: int, places: tuple[int, ...]
) -> None:
    assert checkpoints(prompt, common, computed) == places
