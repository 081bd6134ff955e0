"""What a body costs, measured: nobody waits for another one's, and it takes a multiple of its size in memory.

The long half is ``tests/soak/test_costly_bodies.py``.
"""

import pytest

from tests.hostile.conftest import Target
from tests.support.cost import Watch
from tests.support.costly_bodies import PLAIN, Costly, known, valid

PAUSE_SECONDS = 0.25
"""The bound is 0.05 s on an idle machine; a busy one has the threads of a process wait for each other."""
MEMORY_MULTIPLE, MEMORY_BASE = 10, 48e6
TRIES = 3
"""A pause counts if it comes each time: one alone may be another program's."""


def check_cost(target: Target, costly: Costly) -> str:
    """Send a body and return what it cost in words. Raises AssertionError where that is too much."""
    for _ in range(TRIES):
        with Watch(str(target.http.base_url), target.process.pid) as cost:
            reply = target.http.post(costly.path, content=costly.body)
        if cost.pause < PAUSE_SECONDS:
            break
    said = (
        f"{costly.path} {costly.name}: {len(costly.body)} bytes, {reply.status_code}, "
        f"a pause of {cost.pause * 1e3:.0f} ms, {cost.memory / 1e6:.0f} MB"
    )
    assert reply.status_code < 500, said
    assert cost.pause < PAUSE_SECONDS, said
    assert cost.memory < MEMORY_MULTIPLE * len(costly.body) + MEMORY_BASE, said
    return said


def test_every_address_that_takes_a_body_is_tried(target: Target) -> None:
    paths = target.http.get("/openapi.json").json()["paths"]
    taking = {path for path, methods in paths.items() if "requestBody" in methods.get("post", {})}
    # Files are no JSON: see test_batch_files.
    assert {path.replace("{task_id}", "review") for path in taking} - {"/v1/files"} == set(PLAIN)


@pytest.mark.parametrize("path", PLAIN)
def test_bodies_that_stopped_a_server(target: Target, path: str) -> None:
    """`{"messages":[0,0,…]}` of 8 MB stopped this server for 99 s and took 1.2 GB, by an error for each item;
    100,000 strings under a long name asked for 100 GB, by a path for each string."""
    for costly in known():
        if costly.path == path:
            check_cost(target, costly)


@pytest.mark.parametrize("path", PLAIN)
def test_requests_of_as_many_parts_as_may_be(target: Target, path: str) -> None:
    """These pass the count of their values, so that all of them are checked and translated."""
    for costly in valid(documents=1000):
        if costly.path == path:
            check_cost(target, costly)
