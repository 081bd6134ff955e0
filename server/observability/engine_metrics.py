"""Metrics of the engines, collected at each scrape."""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from glmserve.engine.errors import EngineUnavailable
from glmserve.model_pool.host import ModelHost
from glmserve.model_pool.registry import ModelRegistry
from glmserve.observability import metric_definitions as meters
from glmserve.observability.metric_definitions import MetricKind, MetricSpec


class EngineFigures(Collector):
    """Reads the latest snapshot of each engine, under the name of its first model."""

    def __init__(self, registry: ModelRegistry) -> None:
        """Report on the engines of ``registry``."""
        self._registry = registry

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """Yield all figures."""
        names = {model.host: model.card.parent or model.card.name for model in self._registry.models}
        for meter in meters.ENGINE_METERS:
            kind = GaugeMetricFamily if meter.kind is MetricKind.GAUGE else CounterMetricFamily
            family = kind(meter.full_name, meter.help, labels=meter.labels)
            for host, name in names.items():
                family.add_metric([name], _READ[meter](host))
            yield family


def _share(cells: int, host: ModelHost) -> float:
    try:
        return cells / (host.info.cache_cells or 1)  # an embedding model has no cache
    except EngineUnavailable:
        return 0.0


_READ: Mapping[MetricSpec, Callable[[ModelHost], float]] = MappingProxyType(
    {
        meters.RUNNING: lambda host: host.engine.stats.running,
        meters.WAITING: lambda host: host.engine.stats.waiting,
        meters.CACHE_USAGE: lambda host: _share(host.engine.stats.cells_running, host),
        meters.CACHE_FILLED: lambda host: _share(host.engine.stats.cells_used, host),
        meters.PREFIX_QUERIES: lambda host: host.engine.stats.prompt_tokens,
        meters.PREFIX_HITS: lambda host: host.engine.stats.cached_tokens,
        meters.DRAFTED: lambda host: host.engine.stats.drafted_tokens,
        meters.ACCEPTED: lambda host: host.engine.stats.accepted_tokens,
        meters.RESTARTS: lambda host: host.engine.restarts_total,
        meters.RESUMED: lambda host: host.engine.resumed_total,
        meters.READY: lambda host: host.takes_requests,
    }
)
