"""Metrics of requests."""

import time
from collections import Counter as Tally
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from glmserve.http.request_progress import RequestProgress
from glmserve.http.request_record import RequestRecord
from glmserve.observability import metric_definitions as metrics
from glmserve.observability.metric_definitions import MetricSpec
from glmserve.observability.request_outcome import OutcomeKind, RequestOutcome


class RequestMetrics(Collector):
    """Request metrics of one server: received requests, outcomes, times.

    Tokens are counted as they come: those of running requests are read from their records when somebody looks.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register everything with ``registry``."""
        disable_created_metrics()  # type: ignore[no-untyped-call] # a series more for each, which nobody asks for
        self._running: set[RequestRecord] = set()
        self._prompt_tokens: Tally[str] = Tally()
        self._generation_tokens: Tally[str] = Tally()
        counters = (
            metrics.RECEIVED, metrics.SUCCESS, metrics.ABORTED, metrics.REFUSED, metrics.FAILED,
            metrics.WASTED_TOKENS, metrics.KEY_REQUESTS, metrics.KEY_TOKENS, metrics.HTTP,
        )  # fmt: skip
        self._counters = {metric: _counter(metric, registry) for metric in counters}
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
        elif outcome.end is OutcomeKind.REFUSED:
            self._counters[metrics.REFUSED].labels(outcome.reason).inc()
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
