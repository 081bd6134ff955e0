"""Metrics of requests."""

import time
from collections import Counter as Tally
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from glmserve.http.request_progress import RequestProgress
from glmserve.http.request_record import RequestRecord
from glmserve.observability import metric_definitions as meters
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
            meters.RECEIVED, meters.SUCCESS, meters.ABORTED, meters.REFUSED, meters.FAILED,
            meters.WASTED_TOKENS, meters.KEY_REQUESTS, meters.KEY_TOKENS, meters.HTTP,
        )  # fmt: skip
        self._counters = {meter: _counter(meter, registry) for meter in counters}
        histograms = (meters.TTFT, meters.INTER_TOKEN, meters.END_TO_END, meters.QUEUE)
        self._histograms = {meter: _histogram(meter, registry) for meter in histograms}
        registry.register(self)

    def open(self, record: RequestRecord) -> None:
        """A request for an answer has come."""
        self._counters[meters.RECEIVED].inc()
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
                self._counters[meters.WASTED_TOKENS].labels(generation.model).inc(wasted)
            self._observe(record, generation)
        if record.key:
            self._counters[meters.KEY_REQUESTS].labels(record.key, outcome.end.value).inc()
            self._counters[meters.KEY_TOKENS].labels(record.key).inc(record.tokens)

    def http(self, route: str, method: str, status: int) -> None:
        """Any HTTP request has ended."""
        self._counters[meters.HTTP].labels(route, method, str(status)).inc()

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yield the token counts, including running requests."""
        prompt, generated = self._prompt_tokens.copy(), self._generation_tokens.copy()
        for record in self._running:
            for generation in record.generations:
                prompt[generation.model] += generation.prompt_tokens
                generated[generation.model] += generation.completion_tokens
        yield _family(meters.PROMPT_TOKENS, prompt)
        yield _family(meters.GENERATION_TOKENS, generated)

    def _count(self, record: RequestRecord, outcome: RequestOutcome) -> None:
        model = record.generations[0].model if record.generations else ""
        if outcome.end is OutcomeKind.SUCCESS:
            self._counters[meters.SUCCESS].labels(model, outcome.reason).inc()
            self._histograms[meters.END_TO_END].labels(model).observe(time.monotonic() - record.arrived)
        elif outcome.end is OutcomeKind.ABORTED:
            self._counters[meters.ABORTED].labels(model).inc()
        elif outcome.end is OutcomeKind.REFUSED:
            self._counters[meters.REFUSED].labels(outcome.reason).inc()
        else:
            self._counters[meters.FAILED].labels(model, outcome.reason).inc()

    def _observe(self, record: RequestRecord, generation: RequestProgress) -> None:
        if generation.queue_seconds is None:
            return
        model = generation.model
        self._histograms[meters.QUEUE].labels(model).observe(generation.queue_seconds)
        self._histograms[meters.TTFT].labels(model).observe(generation.first_token - record.arrived)
        between = self._histograms[meters.INTER_TOKEN].labels(model)
        for gap in generation.gaps:
            between.observe(gap)


def _counter(meter: MetricSpec, registry: CollectorRegistry) -> Counter:
    return Counter(meter.full_name, meter.help, meter.labels, registry=registry)


def _histogram(meter: MetricSpec, registry: CollectorRegistry) -> Histogram:
    return Histogram(meter.full_name, meter.help, meter.labels, registry=registry, buckets=meter.buckets)


def _family(meter: MetricSpec, counts: Tally[str]) -> CounterMetricFamily:
    family = CounterMetricFamily(meter.full_name, meter.help, labels=meter.labels)
    for model, count in counts.items():
        family.add_metric([model], count)
    return family
