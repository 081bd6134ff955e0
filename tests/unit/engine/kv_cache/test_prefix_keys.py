"""What one caller asked cannot be found out by another through the prefix cache; what is public stays shared."""

from collections import defaultdict
from collections.abc import Callable
from functools import partial
from itertools import count

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from glmserve.engine.kv_cache.ops import IDLE_CELLS
from glmserve.engine.kv_cache.prefix_cache import common_prefix
from glmserve.engine.kv_cache.prefix_keys import LoadedAdapter, PrefixKeys
from glmserve.engine.messages import EVERYBODY, Pin, PrefixScope, StepOutput, Submit
from glmserve.engine.params import SamplingParams
from glmserve.engine.scheduler.step_budget import TokenBudgetPolicy
from glmserve.engine.worker.core import EngineCore
from tests.support.scripted_runner import ScriptedRunner, lone_run
from tests.support.stepping import drain, tokens_of

ANN, BOB = PrefixScope("ann"), PrefixScope("bob")
TEXT = tuple(1 + i % 40 for i in range(40))
SECRET = (3, 1, 4, 1, 5, 9, 2, 6)
ADAPTERS = {"lora": LoadedAdapter(1, has_lora=True), "prefix": LoadedAdapter(2, prefix_length=20)}


class Probe:
    """Asks one thing after the other, and says how much of each was cached."""

    def __init__(self, idle_cells: int = IDLE_CELLS, adapter: str = "") -> None:
        runner = ScriptedRunner(2000, 40, 4, 200)
        runner.adapters = ADAPTERS
        self.core = EngineCore(runner, TokenBudgetPolicy(1e9, 64), clock=lambda: 0.0, idle_cells=idle_cells)
        self._adapter = adapter
        self._ids = count()

    def pin(self, tokens: tuple[int, ...]) -> None:
        self.core.pin(Pin(tokens, self._adapter))
        drain(self.core)

    def ask(self, prompt: tuple[int, ...], scope: PrefixScope) -> int:
        request_id, params = next(self._ids), SamplingParams(max_tokens=2)
        assert self.core.submit(Submit(request_id, prompt, params, self._adapter, scope.owner, scope)) is None
        outputs = drain(self.core)[request_id]
        self.core.check_integrity()
        return outputs[0].cached_tokens


def probes(ask: Callable[[tuple[int, ...]], int]) -> tuple[tuple[int, ...], list[int]]:
    """Read the secret that follows TEXT from ``cached_tokens``: ten probes for each digit. Return all figures, too."""
    known: tuple[int, ...] = ()
    figures = []
    for _ in SECRET:
        found = [ask((*TEXT, *known, digit, 50, 50)) for digit in range(10)]
        known += (max(range(10), key=found.__getitem__),)
        figures += found
    return known, figures


def test_where_all_is_shared_a_secret_is_read_by_80_probes() -> None:
    probe = Probe()
    probe.ask((*TEXT, *SECRET, 60, 61), EVERYBODY)
    known, figures = probes(lambda prompt: probe.ask(prompt, EVERYBODY))
    assert (known, len(figures)) == (SECRET, 80)


@pytest.mark.parametrize("idle_cells", [0, IDLE_CELLS], ids=["offloaded", "in the cells"])
@pytest.mark.parametrize("adapter", ["", "lora", "prefix"])
def test_where_owners_are_apart_nobody_can_tell_whether_another_asked_anything(idle_cells: int, adapter: str) -> None:
    figures = []
    for asked in (True, False):
        probe = Probe(idle_cells, adapter)
        if asked:
            probe.ask((*TEXT, *SECRET, 60, 61), ANN)
        known, found = probes(partial(probe.ask, scope=BOB))
        assert known != SECRET
        figures.append([*found, probe.ask((*TEXT, *SECRET, 60, 61), BOB)])
    assert figures[0] == figures[1]


@pytest.mark.parametrize("idle_cells", [0, IDLE_CELLS], ids=["offloaded", "in the cells"])
def test_an_owner_finds_his_own(idle_cells: int) -> None:
    probe = Probe(idle_cells)
    probe.ask((*TEXT, *SECRET, 60, 61), ANN)
    assert probe.ask((*TEXT, *SECRET, 60, 61), ANN) == len(TEXT) + len(SECRET) + 1


def test_what_a_system_message_holds_cannot_be_guessed_bit_by_bit() -> None:
    """It is shared as a whole: whoever does not know all of it finds none of it."""
    probe = Probe()
    system = (*TEXT, *SECRET, 60)

    def after_ann(prompt: tuple[int, ...], scope: PrefixScope) -> int:
        probe.ask((*system, 70, 71), PrefixScope("ann", common=len(system)))  # or it is evicted before the end
        return probe.ask(prompt, scope)

    for digits in range(8):
        for guess in range(10):
            prompt = (*TEXT, *SECRET[:digits], guess, 50)
            assert after_ann(prompt, PrefixScope(f"eve-{digits}-{guess}", common=len(prompt) - 1)) == 0
    for length in range(1, len(system)):
        assert after_ann((*system, 72), PrefixScope(f"cut-{length}", common=length)) == 0
    assert after_ann((*system, 80, 81), PrefixScope("bob", common=len(system))) == len(system)


def test_a_pinned_prefix_is_everybodys_to_the_token() -> None:
    probe = Probe()
    probe.pin(TEXT)
    for scope in (ANN, BOB, EVERYBODY, PrefixScope("ann", salt="x"), PrefixScope("ann", "b"), PrefixScope(salt="y")):
        assert probe.ask((*TEXT, *SECRET, 60), scope) == len(TEXT), scope
    assert probe.ask((*TEXT[:20], 99, 98), BOB) == 20
    assert probe.ask((*TEXT, *SECRET, 60), ANN) == len(TEXT) + len(SECRET)


def test_a_pinned_prefix_within_a_system_message_is_found_by_who_has_another_one() -> None:
    probe = Probe()
    probe.pin(TEXT)
    probe.ask((*TEXT, *SECRET, 60), PrefixScope("ann", common=len(TEXT) + len(SECRET)))
    assert probe.ask((*TEXT, *SECRET[:7], 0, 60), PrefixScope("bob", common=len(TEXT) + 8)) == len(TEXT)
    assert probe.ask((*TEXT, *SECRET, 61), PrefixScope("eve", common=len(TEXT) + 8)) == len(TEXT) + 8


def test_salts_and_buckets_part_what_one_owner_has() -> None:
    probe, whole = Probe(), len(TEXT) + 1
    prompt = (*TEXT, 60, 61)
    probe.ask(prompt, PrefixScope("ann", "chat-1", 10, "s"))
    assert probe.ask(prompt, PrefixScope("ann", "chat-1", 10, "s")) == whole
    assert probe.ask(prompt, PrefixScope("ann", "chat-2", 10, "s")) == 10, "the system message is shared"
    assert probe.ask(prompt, PrefixScope("ann", "chat-1", 10, "t")) == 0
    assert probe.ask(prompt, PrefixScope("annc", "hat-1", 0, "s")) == 0
    assert probe.ask(prompt, PrefixScope(salt="s")) == 0
    assert probe.ask(prompt, PrefixScope(salt="s")) == whole


def test_without_owners_all_is_shared_as_it_was() -> None:
    probe = Probe()
    probe.ask((*TEXT, 60), EVERYBODY)
    assert probe.ask((*TEXT, 61), EVERYBODY) == len(TEXT)


_SCOPES = st.sampled_from(
    [EVERYBODY, ANN, BOB, PrefixScope("ann", common=3), PrefixScope("bob", common=3), PrefixScope("ann", "x", 2, "y")]
)
_PROMPTS = st.lists(st.integers(1, 3), min_size=1, max_size=40).map(tuple)


@settings(max_examples=150, deadline=None)
@given(
    requests=st.lists(st.tuples(_PROMPTS, _SCOPES, st.integers(1, 20)), min_size=2, max_size=12),
    pin=_PROMPTS,
    cells=st.integers(150, 300),
    idle_cells=st.sampled_from([0, 20, 1000]),
)
@example(  # one owner, with and without a common part that the pin covers
    requests=[((1, 3, 1, 1), ANN, 1), ((1, 3, 1, 1, 1), PrefixScope("ann", common=3), 1)],
    pin=(1, 3, 1),
    cells=150,
    idle_cells=0,
)
def test_answers_are_those_of_a_run_alone_and_only_what_may_be_shared_is(
    requests: list[tuple[tuple[int, ...], PrefixScope, int]], pin: tuple[int, ...], cells: int, idle_cells: int
) -> None:
    runner = ScriptedRunner(cells, 8, 3, context_length=70)
    core = EngineCore(runner, TokenBudgetPolicy(1e9, 16), clock=lambda: 0.0, idle_cells=idle_cells)
    core.pin(Pin(pin))
    outputs: dict[int, list[StepOutput]] = defaultdict(list)
    for request_id, (prompt, scope, max_tokens) in enumerate(requests):
        params = SamplingParams(max_tokens=max_tokens)
        assert core.submit(Submit(request_id, prompt, params, "", scope.owner, scope)) is None
        for output in core.step().outputs:
            outputs[output.request_id].append(output)
        core.check_integrity()
    for request_id, rest in drain(core).items():
        outputs[request_id] += rest
    core.check_integrity()
    answers = {number: tokens_of(outputs[number]) for number in range(len(requests))}
    for number, (prompt, scope, max_tokens) in enumerate(requests):
        assert answers[number] == lone_run(prompt, max_tokens)
        allowed = _shareable(number, requests, answers, pin)
        assert outputs[number][0].cached_tokens <= allowed, (prompt, scope)


def _shareable(
    number: int,
    requests: list[tuple[tuple[int, ...], PrefixScope, int]],
    answers: dict[int, list[int]],
    pin: tuple[int, ...],
) -> int:
    """The most that a request may find: of the pin, of its owner's, and of whole system messages."""
    prompt, scope, _ = requests[number]
    most = common_prefix(prompt, pin)
    for other, (earlier, other_scope, _) in enumerate(requests):
        if other == number:
            continue
        if (scope.owner, scope.bucket, scope.salt) == (other_scope.owner, other_scope.bucket, other_scope.salt):
            most = max(most, common_prefix(prompt, (*earlier, *answers[other])))
        elif (scope.common, scope.salt, prompt[: scope.common]) == (
            other_scope.common, other_scope.salt, earlier[: scope.common]
        ):  # fmt: skip
            most = max(most, scope.common)
    return most


@pytest.mark.parametrize("scope", [PrefixScope(owner="o"), PrefixScope(bucket="b"), PrefixScope(salt="s")])
def test_each_part_of_a_scope_keeps_a_prompt_apart(scope: PrefixScope) -> None:
    keys, _ = PrefixKeys(bytes(32)).of((1, 2, 3), scope)
    assert not set(keys) & {1, 2, 3}


@pytest.mark.parametrize("scope", [EVERYBODY, ANN, PrefixScope("ann", common=10)])
def test_an_answer_has_the_keys_that_it_has_in_the_prompt_which_goes_on_from_it(scope: PrefixScope) -> None:
    keys = PrefixKeys(b"secret")
    of_prompt, salt = keys.of(TEXT[:30], scope)
    of_conversation, _ = keys.of(TEXT, scope)
    assert of_conversation == (*of_prompt, *(token + salt for token in TEXT[30:]))


def test_of_several_public_prefixes_the_longest_is_shared() -> None:
    keys = PrefixKeys(b"secret")
    for public in ((9, 9), TEXT[:5], TEXT[:3]):
        keys.declare_public(public)
    of_ann = keys.of(TEXT, ANN)[0]
    assert of_ann[:5] == TEXT[:5]
    assert of_ann[5] != TEXT[5]


PROMPT = tuple(range(100, 150))


def shared(one: tuple[int, ...], other: tuple[int, ...], keys: PrefixKeys, scope: PrefixScope = ANN) -> int:
    """Return how much two prompts share in chunks of 8."""
    first, second = (keys.of(tokens, scope, chunk=8)[0] for tokens in (one, other))
    return common_prefix(first, second)


def test_chunks_are_shared_whole_or_not_at_all_and_the_last_one_never() -> None:
    """A prompt that repeats is computed in the same chunks each time: it cannot go on from the middle of one."""
    keys = PrefixKeys(b"secret")
    assert shared(PROMPT, PROMPT, keys) == 48, "the 2 tokens after the last chunk are computed again"
    assert shared(PROMPT[:48], PROMPT[:48], keys) == 40, "so is the chunk of the last token, which is sampled after"
    assert shared(PROMPT, (*PROMPT[:30], 7, *PROMPT[31:]), keys) == 24
    assert shared(PROMPT[:5], PROMPT[:5], keys) == 0


def test_what_follows_an_answer_is_nobody_elses_in_another_process_either() -> None:
    answers = [PrefixKeys(b"secret", nonce).of(PROMPT, ANN, chunk=8)[1] for nonce in ("a", "b")]
    keys = PrefixKeys(b"secret", "a")
    answers.append(keys.of(PROMPT, ANN, chunk=8)[1])
    answers.append(keys.of(PROMPT, ANN, chunk=8)[1])
    assert answers[0] == answers[2]
    assert len(set(answers)) == 3


def test_chunks_keep_what_is_public_and_what_is_common() -> None:
    keys = PrefixKeys(b"secret")
    keys.declare_public(PROMPT[:10])
    assert keys.of(PROMPT, ANN, chunk=8)[0][:10] == PROMPT[:10]
    first, second = (keys.of(PROMPT, PrefixScope(who, common=32), chunk=8)[0] for who in ("ann", "bob"))
    assert common_prefix(first, second) == 32
    assert shared(PROMPT, PROMPT, keys, BOB) == 48
