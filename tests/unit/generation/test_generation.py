"""A time limit that is up ends the next wait, and nothing else."""

import asyncio

import pytest

from glmserve.generation.generation import Deadline
from glmserve.http.errors import RequestTimedOut
from glmserve.http.request_context import RequestContext
from glmserve.http.request_record import RequestRecord

pytestmark = pytest.mark.anyio


async def at_once() -> str:
    return "done"


async def never() -> None:
    await asyncio.Event().wait()


async def test_a_wait_ends_when_the_time_is_up() -> None:
    deadline = Deadline(RequestRecord(time_limit=0.01).context)
    with pytest.raises(RequestTimedOut):
        await deadline.wait(never)


async def test_a_wait_that_begins_late_cancels_nothing_that_comes_after_it() -> None:
    """With an answer that lay ready, the cancellation hit whatever was awaited next: the sending of a last event."""
    deadline = Deadline(RequestRecord(time_limit=0.01).context)
    await asyncio.sleep(0.03)
    with pytest.raises(RequestTimedOut):
        await deadline.wait(at_once)
    await asyncio.sleep(0)


async def test_a_wait_without_a_limit_lasts() -> None:
    assert await Deadline(RequestContext()).wait(at_once) == "done"


async def test_whoever_is_cancelled_otherwise_is_told_of_no_limit() -> None:
    deadline = Deadline(RequestRecord(time_limit=5).context)
    waiting = asyncio.create_task(deadline.wait(never))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    deadline.close()
