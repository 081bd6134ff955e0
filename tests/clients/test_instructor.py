"""instructor, which asks for objects by a named tool or by a schema, and asks again where one is not good enough."""

import pytest

from tests.clients.conftest import Deployment
from tests.clients.programs import Told, run_python


@pytest.fixture(scope="module")
def told(deployment: Deployment) -> Told:
    """What the program saw."""
    return run_python("openai3", "instructor_client.py", deployment.url, deployment.key)


@pytest.mark.parametrize(("mode", "correction"), [("TOOLS", "tool"), ("JSON_SCHEMA", "user")])
def test_an_object_is_made_and_made_again_where_it_is_refused(told: Told, mode: str, correction: str) -> None:
    seen = told[mode]
    assert seen["review"]["verdict"] in ("good", "bad")
    assert seen["review"]["stars"] in range(1, 6)
    assert seen["attempts"] == 2
    assert seen["sent"][2] == ["user", "assistant", correction]


@pytest.mark.parametrize("mode", ["TOOLS", "JSON_SCHEMA"])
def test_an_object_that_is_streamed_is_the_same(told: Told, mode: str) -> None:
    assert told[mode]["partial"] == told[mode]["review"]
