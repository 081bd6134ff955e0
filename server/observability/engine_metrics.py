"""Metrics of the engines, collected at each scrape."""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from glmserve.engine.errors import EngineUnavailable
from glmserve.model_pool.host import ModelHost
from glmserve.model_pool.registry import ModelRegistry
from glmserve.observability import metric_definitions as metrics
from glmserve.observability.metric_definitions import MetricKind, MetricSpec


class EngineFigures(Collector):
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
        metrics.DRAFTED: lambda host: host.engine.stats.drafted_tokens,
        metrics.ACCEPTED: lambda host: host.engine.stats.accepted_tokens,
        metrics.RESTARTS: lambda host: host.engine.restarts_total,
        metrics.RESUMED: lambda host: host.engine.resumed_total,
        metrics.READY: lambda host: host.takes_requests,
    }
)
