"""Spans of requests: what is in them, whose trace they join, and that a collector gets them."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from glmserve.bootstrap.app import ApiOptions
from glmserve.engine.errors import EngineDied, QueueFull
from glmserve.observability.otel import RequestSpans
from tests.conftest import running_server
from tests.support.api import connect, make_app
from tests.support.scripted_engine import ScriptedEngine

CHAT = "/v1/chat/completions"
SECRET = "甲乙丙丁"
HELLO = {"messages": [{"role": "user", "content": SECRET}]}
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def traced(engine: ScriptedEngine, *bodies: object, path: str = CHAT) -> list[ReadableSpan]:
    """The spans of requests with ``bodies``, sent one after another."""
    memory = InMemorySpanExporter()
    spans = RequestSpans(SimpleSpanProcessor(memory), "1")
    async with connect(make_app(engine, ApiOptions(spans=spans))) as http:
        for body in bodies:
            await http.post(path, json=body, headers={"traceparent": PARENT, "X-Request-Id": "r-1"})
    return list(memory.get_finished_spans())


@pytest.mark.anyio
async def test_a_request_is_a_span_of_the_callers_trace_with_what_it_took() -> None:
    began = time.time_ns()
    *phases, span = sorted(await traced(ScriptedEngine(), HELLO), key=lambda each: each.end_time or 0)
    attributes = dict(span.attributes or {})
    assert (span.name, span.kind) == ("chat chatglm2-tiny", SpanKind.SERVER)
    assert span.parent is not None
    assert f"{span.parent.trace_id:032x}-{span.parent.span_id:016x}" in PARENT
    assert attributes["gen_ai.request.model"] == "chatglm2-tiny"
    assert attributes["gen_ai.response.finish_reasons"] == ("stop",)
    assert attributes["glmserve.request.id"] == "r-1"
    assert attributes["http.response.status_code"] == 200
    assert all(int(str(attributes[f"gen_ai.usage.{side}_tokens"])) > 0 for side in ("input", "output"))
    assert [event.name for event in span.events] == ["gen_ai.first_token"]
    assert [phase.name for phase in sorted(phases, key=lambda each: each.start_time or 0)] == [
        "queue",
        "prefill",
        "decode",
    ]
    assert all(phase.parent is not None and phase.parent.span_id == span.context.span_id for phase in phases)
    assert began - 10**9 < (span.start_time or 0) <= (span.end_time or 0) < time.time_ns() + 10**9


@pytest.mark.anyio
@pytest.mark.parametrize("stream", [False, True])
async def test_what_went_wrong_is_in_the_span(stream: bool) -> None:
    engine = ScriptedEngine()
    engine.reject = QueueFull(64)
    (refused,) = await traced(engine, {**HELLO, "stream": stream})
    assert (dict(refused.attributes or {})["error.type"], refused.status.status_code) == (
        "queue_full",
        StatusCode.UNSET,
    )
    engine.reject, engine.fail = None, EngineDied("it died")
    failed = (await traced(engine, {**HELLO, "stream": stream}))[-1]
    assert (dict(failed.attributes or {})["error.type"], failed.status.status_code) == ("engine_died", StatusCode.ERROR)


@pytest.mark.anyio
async def test_no_text_is_in_a_span() -> None:
    spans = await traced(ScriptedEngine(), HELLO, {**HELLO, "stream": True}, {**HELLO, "max_tokens": SECRET})
    told = json.dumps([json.loads(span.to_json()) for span in spans], ensure_ascii=False)
    assert "gen_ai" in told
    assert SECRET not in told
    assert "你问的是" not in told


def test_nothing_of_it_is_imported_where_it_is_not_needed() -> None:
    found = "any(name.startswith('opentelemetry.sdk') for name in sys.modules)"
    code = f"import sys, glmserve.bootstrap.app_settings; sys.exit({found})"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@contextmanager
def collector() -> Iterator[tuple[str, list[ExportTraceServiceRequest]]]:
    """A stand-in for an OpenTelemetry collector; yields its address and what it gets."""
    got: list[ExportTraceServiceRequest] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert urlsplit(self.path).path == "/v1/traces"
            got.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", got
    finally:
        server.shutdown()
        server.server_close()


def test_a_collector_gets_the_spans_of_a_real_server_as_the_variables_say(
    tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collector() as (address, got):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
        monkeypatch.setenv("OTEL_SERVICE_NAME", "our-glm")
        with running_server(str(tiny_gguf), "--tracing", log=tmp_path / "log") as (url, _):
            httpx.post(url + CHAT, json={**HELLO, "max_tokens": 5}, timeout=60)
        # What had not been sent yet is sent when the server ends.
    (resource,) = {
        each.resource.SerializeToString(): each.resource for one in got for each in one.resource_spans
    }.values()
    assert {each.key: each.value.string_value for each in resource.attributes}["service.name"] == "our-glm"
    names = {
        span.name for one in got for each in one.resource_spans for scope in each.scope_spans for span in scope.spans
    }
    assert names == {f"chat {tiny_gguf.stem}", "queue", "prefill", "decode"}
