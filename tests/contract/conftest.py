"""The application on a scripted engine, and the clients that call it."""

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from fastapi import FastAPI
from openai import AsyncOpenAI

from glmserve.bootstrap.app import ApiOptions
from tests.support.api import connect, make_app
from tests.support.official import openai_client
from tests.support.scripted_engine import ScriptedEngine
from tests.support.scripted_upstream import ScriptedUpstream


@pytest.fixture
def engine() -> ScriptedEngine:
    """The engine of the application under test; set its script before the request."""
    return ScriptedEngine()


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    """A server that runs a model for the application."""
    with ScriptedUpstream() as server:
        yield server


@pytest.fixture
def options() -> ApiOptions:
    """The settings of the application; a module with others has a fixture of this name."""
    return ApiOptions()


@pytest.fixture
def app(engine: ScriptedEngine, options: ApiOptions) -> FastAPI:
    """The application; a module with other models has a fixture of this name."""
    return make_app(engine, options)


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A plain client of the application, whose models are ready."""
    async with connect(app) as client:
        yield client


@pytest.fixture
def openai(app: FastAPI, http: httpx.AsyncClient) -> AsyncOpenAI:
    """The official client on the same application, which ``http`` keeps running."""
    return openai_client(app)
