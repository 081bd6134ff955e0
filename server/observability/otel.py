"""OpenTelemetry spans of requests: only imported where traces are asked for and the extra ``otel`` is installed.

Names and attributes are those of the semantic conventions for generative AI where these have one. A span is made when
its request has ended, of the times that were noted; nothing is done while tokens are made. No text is in it.
"""

import time
from collections.abc import Iterator

from opentelemetry import propagate
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.util.types import AttributeValue
from starlette.datastructures import Headers
from starlette.types import Scope

from glmserve.http.request_context import RequestProgress
from glmserve.http.request_record import CLIENT_CLOSED, RequestRecord
from glmserve.observability.collectors import OutcomeKind, RequestOutcome, outcome_of

_OPERATIONS = {"/v1/embeddings": "embeddings", "/v1/completions": "text_completion"}
_CHAT = "chat"


def exporter() -> SpanProcessor:
    """Return the exporter of spans by OTLP over HTTP, configured by the variables OTEL_EXPORTER_OTLP_…."""
    return BatchSpanProcessor(OTLPSpanExporter())


class RequestSpans:
    """Writes a span for each request, with one below it for each time that its prompts spent."""

    def __init__(self, processor: SpanProcessor, version: str) -> None:
        """Hand spans to ``processor``; the sampler and the service's name come from the variables OTEL_…."""
        # What the environment says of the resource comes before our own name for it.
        resource = Resource.create({"service.name": "glmserve"}).merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=resource)
        self._provider.add_span_processor(processor)
        self._tracer: Tracer = self._provider.get_tracer("glmserve", version)

    def write(self, scope: Scope, record: RequestRecord, started: float) -> None:
        """Note a request that came at ``started``, in seconds since the epoch, and has ended now."""
        # The record's times are monotonic, which spans are not.
        offset = time.time() - time.monotonic()
        span = self._tracer.start_span(
            _name(scope, record),
            context=propagate.extract(dict(Headers(scope=scope).items())),
            kind=SpanKind.SERVER,
            attributes=dict(_attributes(scope, record)),
            start_time=_nanoseconds(started),
        )
        outcome = outcome_of(record)
        if outcome.end is OutcomeKind.FAILED:
            span.set_status(Status(StatusCode.ERROR, outcome.reason))
        if error := _error(outcome):
            span.set_attribute("error.type", error)
        for generation in record.generations:
            self._write_phases(span, generation, offset)
        span.end()

    def close(self) -> None:
        """Send the remaining spans. Blocks."""
        self._provider.shutdown()

    def _write_phases(self, parent: Span, generation: RequestProgress, offset: float) -> None:
        if generation.queue_seconds is None:
            return
        first = generation.first_token + offset
        admitted = first - generation.prefill_seconds
        parent.add_event("gen_ai.first_token", timestamp=_nanoseconds(first))
        tokens: dict[str, AttributeValue] = {
            "gen_ai.usage.input_tokens": generation.prompt_tokens,
            "gen_ai.usage.cache_read.input_tokens": generation.cached_tokens,
        }
        answered: dict[str, AttributeValue] = {"gen_ai.usage.output_tokens": generation.completion_tokens}
        self._write_phase(parent, "queue", admitted - generation.queue_seconds, admitted, {})
        self._write_phase(parent, "prefill", admitted, first, tokens)
        self._write_phase(parent, "decode", first, generation.last_token + offset, answered)

    def _write_phase(
        self, parent: Span, name: str, start: float, end: float, attributes: dict[str, AttributeValue]
    ) -> None:
        context = set_span_in_context(parent)
        span = self._tracer.start_span(name, context, attributes=attributes, start_time=_nanoseconds(start))
        span.end(_nanoseconds(end))


def _name(scope: Scope, record: RequestRecord) -> str:
    model = record.generations[0].model if record.generations else ""
    return f"{_OPERATIONS.get(scope['path'], _CHAT)} {model}".rstrip()


def _attributes(scope: Scope, record: RequestRecord) -> Iterator[tuple[str, AttributeValue]]:
    yield "gen_ai.operation.name", _OPERATIONS.get(scope["path"], _CHAT)
    yield "gen_ai.provider.name", "glmserve"
    yield "http.request.method", scope["method"]
    yield "http.route", scope["path"]
    yield "http.response.status_code", record.status or CLIENT_CLOSED
    yield "glmserve.request.id", record.id
    if record.key:
        yield "glmserve.key", record.key
    generations = record.generations
    if not generations:
        return
    yield "gen_ai.request.model", generations[0].model
    yield "gen_ai.response.model", generations[0].model
    yield "gen_ai.usage.input_tokens", sum(one.prompt_tokens for one in generations)
    yield "gen_ai.usage.cache_read.input_tokens", sum(one.cached_tokens for one in generations)
    yield "gen_ai.usage.output_tokens", sum(one.completion_tokens for one in generations)
    if generations[0].queue_seconds is not None:
        yield "gen_ai.response.time_to_first_chunk", generations[0].first_token - record.arrived
    if outcome_of(record).end is OutcomeKind.SUCCESS:
        yield "gen_ai.response.finish_reasons", ["length" if one.cut else "stop" for one in generations]


def _error(outcome: RequestOutcome) -> str:
    return (
        "client_closed"
        if outcome.end is OutcomeKind.ABORTED
        else outcome.reason
        if outcome.end is not OutcomeKind.SUCCESS
        else ""
    )


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
