"""Where the client libraries under test find a server.

They run against the address of ``server_url`` alone, so that the same tests can be run against any server.
"""

from collections.abc import Iterator

import pytest

from tests.support.api import make_app, serve
from tests.support.scripted_engine import ScriptedEngine


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """The address of the application on a scripted engine."""
    with serve(make_app(ScriptedEngine())) as url:
        yield url
