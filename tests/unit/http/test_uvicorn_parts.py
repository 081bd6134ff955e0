"""The undocumented parts of uvicorn that `server/http` builds on: a release without one of them fails here."""

import asyncio
import inspect
import re
from collections.abc import Callable
from importlib.metadata import version

import pytest
import uvicorn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from glmserve.http.framing.connection import Exchange, StrictProtocol
from glmserve.http.framing.uvicorn_protocol import BoundedProtocol
from tests.conftest import ROOT

PROTOCOL_METHODS = (
    "connection_made", "connection_lost", "data_received", "eof_received", "pause_writing", "resume_writing",
    "on_message_begin", "on_url", "on_header", "on_headers_complete", "on_body", "on_message_complete",
    "on_response_complete", "_start_asgi_task", "_unset_keepalive_if_required",
)  # fmt: skip
PROTOCOL_ATTRIBUTES = (
    "access_log", "access_logger", "app", "client", "cycle", "expect_100_continue", "flow", "headers", "logger", "loop",
    "parser", "pipeline", "root_path", "scope", "server_state", "transport",
)  # fmt: skip
CYCLE_ARGUMENTS = (
    "scope", "transport", "flow", "logger", "access_logger", "access_log", "default_headers", "message_event",
    "expect_100_continue", "keep_alive", "on_response",
)  # fmt: skip
CYCLE_ATTRIBUTES = (
    "chunked_encoding", "disconnected", "expected_content_length", "keep_alive", "message_event", "response_complete",
    "response_started",
)  # fmt: skip


async def _protocol() -> HttpToolsProtocol:
    async def app(scope: object, receive: object, send: object) -> None: ...

    config = uvicorn.Config(app, log_config=None)
    config.load()
    return HttpToolsProtocol(config, ServerState(), {})


def test_pyproject_admits_the_minor_release_under_test_and_none_after_it() -> None:
    major, minor, *_ = map(int, version("uvicorn").split("."))
    bound = re.search(r'"uvicorn>=([\d.]+),<([\d.]+)"', (ROOT / "pyproject.toml").read_text("utf-8"))
    assert bound is not None
    assert bound.groups() == (f"{major}.{minor}", f"{major}.{minor + 1}")


@pytest.mark.parametrize("name", PROTOCOL_METHODS)
async def test_methods_of_a_connection(name: str) -> None:
    theirs = inspect.signature(getattr(HttpToolsProtocol, name))
    for ours in (StrictProtocol, BoundedProtocol):
        assert list(inspect.signature(getattr(ours, name)).parameters) == list(theirs.parameters)


async def test_attributes_of_a_connection() -> None:
    protocol = await _protocol()
    assert [name for name in PROTOCOL_ATTRIBUTES if not hasattr(protocol, name)] == []
    assert protocol.server_state.default_headers == []
    assert list(inspect.signature(FlowControl).parameters) == ["transport"]
    assert STATUS_LINE[431].startswith(b"HTTP/1.1 431 ")
    protocol.on_message_begin()
    assert (protocol.url, protocol.headers) == (b"", [])
    assert {"asgi", "client", "headers", "scheme", "server", "state", "type"} <= protocol.scope.keys()


async def test_a_request_and_its_reply() -> None:
    assert tuple(inspect.signature(RequestResponseCycle).parameters) == CYCLE_ARGUMENTS
    protocol = await _protocol()
    begin: Callable[..., Exchange] = Exchange  # with arguments that only their names matter of
    cycle = begin(**{**dict.fromkeys(CYCLE_ARGUMENTS), "message_event": asyncio.Event(), "keep_alive": True})
    assert protocol.cycle is None
    assert [name for name in CYCLE_ATTRIBUTES if not hasattr(cycle, name)] == []


def test_the_server() -> None:
    server = uvicorn.Server(uvicorn.Config("", log_config=None))
    assert (server.should_exit, server.force_exit) == (False, False)
    assert callable(server.handle_exit)  # sse-starlette wraps it, so its own signature is hidden
    assert list(inspect.signature(server.startup).parameters) == ["sockets"]
    assert list(inspect.signature(server.shutdown).parameters) == ["sockets"]


def test_the_lists_name_what_is_used() -> None:
    """Each attribute of uvicorn's connection that the two protocols mention is in a list above."""
    source = inspect.getsource(StrictProtocol) + inspect.getsource(BoundedProtocol)
    used = set(re.findall(r"(?:self|super\(\))\.(\w+)", source))
    ours = {name for kind in (StrictProtocol, BoundedProtocol) for name in (*vars(kind), *kind.__annotations__)}
    known = {*PROTOCOL_METHODS, *PROTOCOL_ATTRIBUTES, "url"}
    assert used - ours - known == set()
