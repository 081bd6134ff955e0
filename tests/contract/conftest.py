"""The application on a scripted engine, and the clients that call it."""

from collections.abc import AsyncIterator

import httpx
import pytest
from openai import AsyncOpenAI

from tests.support.api import connect, make_app
from tests.support.scripted_engine import ScriptedEngine


@pytest.fixture
def engine() -> ScriptedEngine:
    """The engine of the application under test; set its script before the request."""
    return ScriptedEngine()


@pytest.fixture
async def http(engine: ScriptedEngine) -> AsyncIterator[httpx.AsyncClient]:
    """A plain client of the application, whose model is ready."""
    async with connect(make_app(engine)) as client:
        yield client


@pytest.fixture
def openai(http: httpx.AsyncClient) -> AsyncOpenAI:
    """The official client on the same application; it does not retry, so that every error shows."""
    return AsyncOpenAI(base_url="http://testserver/v1", api_key="none", http_client=http, max_retries=0)
