"""What a key may have in a minute and at once, by a clock that the test turns."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmserve.http.errors import RateLimited
from glmserve.http.middleware.rate_limit import RateLimiter, TokenBucket
from glmserve.http.request_context import RequestProgress
from glmserve.http.request_record import Limits, RequestRecord


def ask(budget: RateLimiter, now: float, tokens: int = 0) -> None:
    record = RequestRecord()
    budget.enter(record, now)
    record.generations.append(RequestProgress("m", 0, completion_tokens=tokens))
    budget.leave(record, now)


def refused(budget: RateLimiter, now: float) -> int:
    with pytest.raises(RateLimited) as caught:
        budget.enter(RequestRecord(), now)
    return caught.value.retry_after


def test_requests_of_a_minute_can_come_at_once_and_then_as_they_refill() -> None:
    budget = RateLimiter(Limits(requests_per_minute=3), 0.0)
    for _ in range(3):
        ask(budget, 0.0)
    assert refused(budget, 0.0) == 20
    assert refused(budget, 19.5) == 1
    ask(budget, 20.0)
    assert refused(budget, 20.0) == 20


def test_a_refused_request_takes_nothing() -> None:
    budget = RateLimiter(Limits(requests_per_minute=1), 0.0)
    ask(budget, 0.0)
    for second in range(59):
        refused(budget, second)
    ask(budget, 60.0)


def test_what_a_request_had_is_taken_off_even_past_the_budget() -> None:
    budget = RateLimiter(Limits(tokens_per_minute=600), 0.0)
    ask(budget, 0.0, tokens=900)
    assert refused(budget, 0.0) == 31
    assert refused(budget, 30.0) == 1
    ask(budget, 30.2)


def test_what_a_running_request_has_had_so_far_counts() -> None:
    budget = RateLimiter(Limits(tokens_per_minute=600), 0.0)
    running = RequestRecord()
    budget.enter(running, 0.0)
    ask(budget, 0.0)
    running.generations.append(RequestProgress("m", 600))
    assert refused(budget, 0.0) == 1
    assert budget.headers(0.0)["x-ratelimit-remaining-tokens"] == "0"


def test_so_many_at_once() -> None:
    budget = RateLimiter(Limits(concurrent=2), 0.0)
    first, second = RequestRecord(), RequestRecord()
    budget.enter(first, 0.0)
    budget.enter(second, 0.0)
    assert refused(budget, 0.0) == 1
    budget.leave(first, 1.0)
    ask(budget, 1.0)


def test_the_headers_are_as_openai_writes_them() -> None:
    budget = RateLimiter(Limits(requests_per_minute=60, tokens_per_minute=6000), 0.0)
    ask(budget, 0.0, tokens=9000)
    assert budget.headers(0.0) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-limit-tokens": "6000",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "1m30s",
    }
    assert budget.headers(0.88)["x-ratelimit-reset-requests"] == "120ms"
    assert RateLimiter(Limits(concurrent=1), 0.0).headers(0.0) == {}


@given(st.integers(1, 1000), st.lists(st.tuples(st.floats(0, 30), st.integers(0, 50)), max_size=20))
def test_no_more_is_ever_handed_out_than_a_full_bucket_and_what_refills(
    per_minute: int, wishes: list[tuple[float, int]]
) -> None:
    bucket, now, taken = TokenBucket(per_minute, 0.0), 0.0, 0
    for pause, amount in wishes:
        now += pause
        if bucket.level(now) >= amount:
            bucket.take(amount, now)
            taken += amount
        assert bucket.level(now) <= per_minute
    assert taken <= per_minute * (1 + now / 60) + 1e-6
