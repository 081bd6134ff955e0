"""Which engine a prompt goes to: pure, by calling the router."""

from glmserve.engine.group.prefix_router import BLOCK, PrefixRouter, PromptKey
from glmserve.engine.messages import PrefixScope

SYSTEM = tuple(range(1000, 1000 + 20 * BLOCK))
IDLE = {0: 0, 1: 0}


def router(cells: int = 100_000, engines: int = 2) -> PrefixRouter[int]:
    made = PrefixRouter(range(engines))
    for engine in range(engines):
        made.resize(engine, cells)
    return made


def key(*tokens: int, begin: tuple[int, ...] = SYSTEM, scope: PrefixScope | None = None) -> PromptKey:
    return PromptKey((*begin, *tokens), "", scope or PrefixScope())


def test_a_prompt_goes_where_its_longest_prefix_is() -> None:
    routes = router()
    routes.note(1, key())
    routes.note(0, key(begin=SYSTEM[: 2 * BLOCK]))
    assert routes.order(key(1, 2, 3), IDLE)[0] == 1


def test_a_new_prompt_goes_to_the_engine_with_the_fewest_requests() -> None:
    assert router().order(key(), {0: 3, 1: 2}) == [1, 0]


def test_a_busy_engine_is_passed_over_where_the_prefix_is_worth_less_than_the_wait() -> None:
    routes = router()
    routes.note(0, key(begin=SYSTEM[: 2 * BLOCK]))
    assert routes.order(key(begin=SYSTEM[: 3 * BLOCK]), {0: 1, 1: 0})[0] == 1
    routes.note(0, key())
    assert routes.order(key(), {0: 3, 1: 0})[0] == 0


def test_the_most_wanted_prefix_does_not_fill_one_engine_alone() -> None:
    """However long it is: the others compute it, too, as soon as its owner has more than its bounded share."""
    routes, loads = router(engines=4), dict.fromkeys(range(4), 0)
    long = tuple(range(10_000))
    for number in range(40):
        prompt = key(number, begin=long)
        chosen = routes.order(prompt, loads)[0]
        routes.note(chosen, prompt)
        loads[chosen] += 1
    assert sum(loads.values()) == 40
    assert max(loads.values()) <= 1.25 * 10 + 3


def test_what_an_engine_has_no_room_for_is_forgotten_the_oldest_first_and_ends_before_beginnings() -> None:
    routes = router(cells=30 * BLOCK)
    first, second = key(begin=tuple(range(20 * BLOCK))), key(begin=tuple(range(5000, 5000 + 20 * BLOCK)))
    routes.note(0, first)
    routes.note(0, second)
    assert routes.order(second, {0: 0, 1: 0})[0] == 0
    # Ten blocks of the first one are left: its beginning.
    assert routes.order(first, {0: 2, 1: 0})[0] == 0
    assert routes.order(first, {0: 3, 1: 0})[0] == 1


def test_an_engine_that_has_ended_has_nothing() -> None:
    routes = router()
    routes.note(0, key())
    routes.forget(0)
    assert routes.order(key(), {0: 1, 1: 0})[0] == 1


def test_owners_share_the_common_tokens_alone() -> None:
    """As in the prefix cache: another owner's question counts for nothing."""
    routes = router()
    mine, yours = (PrefixScope(owner, common=len(SYSTEM)) for owner in ("mine", "yours"))
    question = tuple(range(40 * BLOCK))
    routes.note(0, key(*question, scope=mine))
    routes.note(1, key(*question[:BLOCK], scope=yours))
    assert routes.order(key(*question, scope=yours), {0: 0, 1: 0})[0] == 1
    assert routes.order(key(*question, scope=mine), {0: 5, 1: 0})[0] == 0
    assert routes.order(key(scope=PrefixScope("third", common=len(SYSTEM))), {0: 3, 1: 4})[0] == 0


def test_an_adapter_and_a_salt_share_nothing() -> None:
    routes = router()
    routes.note(0, key())
    tuned = PromptKey(SYSTEM, "tuned")
    salted = PromptKey(SYSTEM, "", PrefixScope(salt="s"))
    assert [routes.order(prompt, {0: 1, 1: 0})[0] for prompt in (key(), tuned, salted)] == [0, 1, 1]
