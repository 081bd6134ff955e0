"""Which replica a request goes to: pure, without Ray."""

from glmserve.cluster.messages import ReplicaCall
from glmserve.cluster.routing import ReplicaChoice
from glmserve.engine.group.prefix_router import BLOCK
from glmserve.engine.messages import Embed, PrefixScope, Submit
from glmserve.engine.params import SamplingParams

IDLE = {"a": 0, "b": 0}
PARAMS = SamplingParams(max_tokens=8)
LONG = tuple(range(20 * BLOCK))


def ask(*tokens: int, rejected_by: tuple[str, ...] = (), owner: str = "") -> ReplicaCall:
    request = Submit(1, (*LONG, *tokens), PARAMS, scope=PrefixScope(owner=owner))
    return ReplicaCall(request, frozenset(rejected_by), others=True)


def choice(**cells: int) -> ReplicaChoice:
    made = ReplicaChoice()
    made.replicas_are(cells or {"a": 10_000, "b": 10_000})
    return made


def test_a_prompt_goes_to_the_replica_that_was_sent_its_beginning() -> None:
    made = choice()
    made.sent("1", "b", ask())
    made.ended("1")
    assert made.order(ask(1, 2, 3), IDLE) == ["b", "a"]


def test_the_next_of_two_requests_at_once_knows_of_the_first() -> None:
    made = choice()
    for request_id, replica in (("1", "a"), ("2", "a"), ("3", "a")):
        made.sent(request_id, replica, None)
    assert made.order(None, IDLE) == ["b", "a"]


def test_a_request_that_went_elsewhere_than_chosen_counts_there_alone() -> None:
    made = choice()
    made.sent("1", "a", None)
    made.sent("1", "b", None)
    assert made.order(None, IDLE) == ["a", "b"]
    made.ended("1")
    made.ended("1")
    assert made.order(None, IDLE) == ["a", "b"]


def test_requests_of_another_api_process_count_as_the_replica_says() -> None:
    made = choice()
    made.sent("1", "b", ask())
    assert made.order(ask(), {"a": 0, "b": 30})[0] == "a"


def test_a_replica_that_gave_the_request_back_is_asked_last() -> None:
    made = choice()
    made.sent("1", "b", ask())
    made.ended("1")
    assert made.order(ask(rejected_by=("b",)), IDLE) == ["a", "b"]
    assert made.order(ask(rejected_by=("a", "b")), IDLE) == ["b", "a"]


def test_a_replica_that_is_gone_and_one_that_is_new_have_nothing_cached() -> None:
    made = choice()
    made.sent("1", "b", ask())
    made.ended("1")
    made.replicas_are({"a": 10_000})
    made.replicas_are({"a": 10_000, "b": 10_000, "c": 10_000})
    assert made.order(ask(), {"a": 0, "b": 0, "c": 0}) == ["a", "b", "c"]


def test_prompts_of_other_owners_are_no_match() -> None:
    made = choice()
    made.sent("1", "b", ask(owner="x"))
    made.ended("1")
    assert made.order(ask(owner="y"), IDLE) == ["a", "b"]
    assert made.order(ask(owner="x"), IDLE) == ["b", "a"]


def test_the_wanted_prefix_does_not_fill_one_replica_alone() -> None:
    made, counted = choice(**dict.fromkeys("abcd", 100_000)), dict.fromkeys("abcd", 0)
    for number in range(40):
        one = ask(number)
        best = made.order(one, counted)[0]
        made.sent(str(number), best, one)
        counted[best] += 1
    assert max(counted.values()) <= 1.25 * 10 + 3


def test_inputs_of_an_embedding_model_go_where_there_is_least_to_do() -> None:
    made = choice()
    made.sent("1", "a", None)
    assert made.order(ReplicaCall(Embed(1, ((1, 2),))), IDLE) == ["b", "a"]
