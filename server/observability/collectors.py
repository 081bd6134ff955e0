"""The metrics of engines and requests, and the middleware that counts requests."""

import time
from collections import Counter as Tally
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Receive, Scope, Send

from glmserve.batches.records import Backlog
from glmserve.engine.errors import EngineUnavailable
from glmserve.http.request_context import RequestProgress
from glmserve.http.request_record import CLIENT_CLOSED, RequestRecord, current_request
from glmserve.model_pool.host import ModelHost
from glmserve.model_pool.registry import ModelRegistry
from glmserve.observability import metric_definitions as metrics
from glmserve.observability.metric_definitions import MetricKind, MetricSpec


class EngineMetrics(Collector):
    """Reads the latest snapshot of each engine, under the name of its first model."""

    def __init__(self, registry: ModelRegistry) -> None:
        """Report on the engines of ``registry``."""
        self._registry = registry

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """Yield all figures."""
        names = {model.host: model.card.parent or model.card.name for model in self._registry.models}
        for metric in metrics.ENGINE_METRICS:
            kind = GaugeMetricFamily if metric.kind is MetricKind.GAUGE else CounterMetricFamily
            family = kind(metric.full_name, metric.help, labels=metric.labels)
            for host, name in names.items():
                family.add_metric([name], _READ[metric](host))
            yield family


def _share(cells: int, host: ModelHost) -> float:
    try:
        return cells / (host.info.cache_cells or 1)  # an embedding model has no cache
    except EngineUnavailable:
        return 0.0


_READ: Mapping[MetricSpec, Callable[[ModelHost], float]] = MappingProxyType(
    {
        metrics.RUNNING: lambda host: host.engine.stats.running,
        metrics.WAITING: lambda host: host.engine.stats.waiting,
        metrics.CACHE_USAGE: lambda host: _share(host.engine.stats.cells_running, host),
        metrics.CACHE_FILLED: lambda host: _share(host.engine.stats.cells_used, host),
        metrics.PREFIX_QUERIES: lambda host: host.engine.stats.prompt_tokens,
        metrics.PREFIX_HITS: lambda host: host.engine.stats.cached_tokens,
        metrics.PROMPTS_SAVED: lambda host: host.engine.stats.prompts_saved,
        metrics.PROMPTS_RESTORED: lambda host: host.engine.stats.prompts_restored,
        metrics.DRAFTED: lambda host: host.engine.stats.drafted_tokens,
        metrics.ACCEPTED: lambda host: host.engine.stats.accepted_tokens,
        metrics.RESTARTS: lambda host: host.engine.restarts_total,
        metrics.RESUMED: lambda host: host.engine.resumed_total,
        metrics.READY: lambda host: host.takes_requests,
    }
)


class BatchMetrics(Collector):
    """Reads the work that the batches of a server still have to do."""

    def __init__(self, backlog: Callable[[], Backlog]) -> None:
        """Report the figures of ``backlog``."""
        self._backlog = backlog

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield all figures."""
        backlog = self._backlog()
        figures = (backlog.running, backlog.waiting, backlog.lines)
        for metric, figure in zip(metrics.BATCH_METRICS, figures, strict=True):
            yield GaugeMetricFamily(metric.full_name, metric.help, value=figure)


class OutcomeKind(str, Enum):
    """The four ends of a request."""

    SUCCESS = "success"
    ABORTED = "aborted"
    REJECTED = "refused"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class RequestOutcome:
    """An end and why."""

    end: OutcomeKind
    reason: str = ""
    """Of a rejection and a failure the code of the error; of a success why its answers ended."""


def outcome_of(record: RequestRecord) -> RequestOutcome:
    """Return how the request of ``record`` ended."""
    status = record.status
    if record.failed or (status is not None and status >= 500):
        return RequestOutcome(OutcomeKind.FAILED, record.rejection or "internal_error")
    if status is None or status == CLIENT_CLOSED or not record.complete:
        return RequestOutcome(OutcomeKind.ABORTED)
    if status >= 400:
        return RequestOutcome(OutcomeKind.REJECTED, record.rejection or f"http_{status}")
    cut = any(generation.cut for generation in record.generations)
    return RequestOutcome(OutcomeKind.SUCCESS, "length" if cut else "stop")


_LINE_OUTCOMES = ("completed", "failed")


class RequestMetrics(Collector):
    """Request metrics of one server: received requests, outcomes, times.

    Tokens are counted as they come: those of running requests are read from their records at each scrape.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register everything with ``registry``."""
        disable_created_metrics()  # type: ignore[no-untyped-call] # a series more for each, which nobody asks for
        self._running: set[RequestRecord] = set()
        self._prompt_tokens: Tally[str] = Tally()
        self._generation_tokens: Tally[str] = Tally()
        counters = (
            metrics.RECEIVED, metrics.SUCCESS, metrics.ABORTED, metrics.REJECTED, metrics.FAILED,
            metrics.WASTED_TOKENS, metrics.KEY_REQUESTS, metrics.KEY_TOKENS, metrics.BATCH_LINES, metrics.HTTP,
        )  # fmt: skip
        self._counters = {metric: _counter(metric, registry) for metric in counters}
        for outcome in _LINE_OUTCOMES:  # rates need the zero before the first line
            self._counters[metrics.BATCH_LINES].labels(outcome)
        histograms = (metrics.TTFT, metrics.INTER_TOKEN, metrics.END_TO_END, metrics.QUEUE)
        self._histograms = {metric: _histogram(metric, registry) for metric in histograms}
        registry.register(self)

    def open(self, record: RequestRecord) -> None:
        """A request for an answer has come."""
        self._counters[metrics.RECEIVED].inc()
        self._running.add(record)

    def close(self, record: RequestRecord, outcome: RequestOutcome) -> None:
        """It has ended."""
        self._running.discard(record)
        self._count(record, outcome)
        for generation in record.generations:
            self._prompt_tokens[generation.model] += generation.prompt_tokens
            self._generation_tokens[generation.model] += generation.completion_tokens
            if outcome.end is not OutcomeKind.SUCCESS:
                wasted = generation.prompt_tokens + generation.completion_tokens
                self._counters[metrics.WASTED_TOKENS].labels(generation.model).inc(wasted)
            self._observe(record, generation)
        if record.key:
            self._counters[metrics.KEY_REQUESTS].labels(record.key, outcome.end.value).inc()
            self._counters[metrics.KEY_TOKENS].labels(record.key).inc(record.tokens)

    def batch_line(self, record: RequestRecord, status: int) -> None:
        """A line of a batch has ended: its tokens count, and its times do not."""
        for generation in record.generations:
            self._prompt_tokens[generation.model] += generation.prompt_tokens
            self._generation_tokens[generation.model] += generation.completion_tokens
        self._counters[metrics.BATCH_LINES].labels(_LINE_OUTCOMES[status >= 400]).inc()
        if record.key:
            self._counters[metrics.KEY_TOKENS].labels(record.key).inc(record.tokens)

    def http(self, route: str, method: str, status: int) -> None:
        """Any HTTP request has ended."""
        self._counters[metrics.HTTP].labels(route, method, str(status)).inc()

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yield the token counts, including running requests."""
        prompt, generated = self._prompt_tokens.copy(), self._generation_tokens.copy()
        for record in self._running:
            for generation in record.generations:
                prompt[generation.model] += generation.prompt_tokens
                generated[generation.model] += generation.completion_tokens
        yield _family(metrics.PROMPT_TOKENS, prompt)
        yield _family(metrics.GENERATION_TOKENS, generated)

    def _count(self, record: RequestRecord, outcome: RequestOutcome) -> None:
        model = record.generations[0].model if record.generations else ""
        if outcome.end is OutcomeKind.SUCCESS:
            self._counters[metrics.SUCCESS].labels(model, outcome.reason).inc()
            self._histograms[metrics.END_TO_END].labels(model).observe(time.monotonic() - record.arrived)
        elif outcome.end is OutcomeKind.ABORTED:
            self._counters[metrics.ABORTED].labels(model).inc()
        elif outcome.end is OutcomeKind.REJECTED:
            self._counters[metrics.REJECTED].labels(outcome.reason).inc()
        else:
            self._counters[metrics.FAILED].labels(model, outcome.reason).inc()

    def _observe(self, record: RequestRecord, generation: RequestProgress) -> None:
        if generation.queue_seconds is None:
            return
        model = generation.model
        self._histograms[metrics.QUEUE].labels(model).observe(generation.queue_seconds)
        self._histograms[metrics.TTFT].labels(model).observe(generation.first_token - record.arrived)
        between = self._histograms[metrics.INTER_TOKEN].labels(model)
        for gap in generation.gaps:
            between.observe(gap)


def _counter(metric: MetricSpec, registry: CollectorRegistry) -> Counter:
    return Counter(metric.full_name, metric.help, metric.labels, registry=registry)


def _histogram(metric: MetricSpec, registry: CollectorRegistry) -> Histogram:
    return Histogram(metric.full_name, metric.help, metric.labels, registry=registry, buckets=metric.buckets)


def _family(metric: MetricSpec, counts: Tally[str]) -> CounterMetricFamily:
    family = CounterMetricFamily(metric.full_name, metric.help, labels=metric.labels)
    for model, count in counts.items():
        family.add_metric([model], count)
    return family


_OTHER = "other"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class MetricsMiddleware:
    """Counts each request in the metrics."""

    def __init__(self, app: ASGIApp, request_metrics: RequestMetrics, generating: Collection[str]) -> None:
        """Wrap ``app``; ``generating`` are the paths where a POST asks for an answer."""
        self._app = app
        self._request_metrics = request_metrics
        self._generating = generating

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        try:
            if scope["method"] == "POST" and scope["path"] in self._generating:
                await self._generation(scope, receive, send)
            else:
                await self._app(scope, receive, send)
        finally:
            method = scope["method"] if scope["method"] in _METHODS else _OTHER
            self._request_metrics.http(self._route(scope), method, current_request().status or CLIENT_CLOSED)
        return None

    async def _generation(self, scope: Scope, receive: Receive, send: Send) -> None:
        record = current_request()
        outcome = RequestOutcome(OutcomeKind.FAILED, "internal_error")
        self._request_metrics.open(record)
        try:
            await self._app(scope, receive, send)
            outcome = outcome_of(record)
        finally:
            self._request_metrics.close(record, outcome)

    def _route(self, scope: Scope) -> str:
        """Return the template of the address; one that did not get as far as routing is known by its path at most."""
        path = scope["path"] if scope["path"] in self._generating else _OTHER
        return str(getattr(scope.get("route"), "path_format", path))
