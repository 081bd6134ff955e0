"""``docs/metrics.md``, made from the list of the figures."""

from collections.abc import Iterable

import click

from glmserve.observability.metric_definitions import BATCH_METRICS, ENGINE_METRICS, REQUEST_METRICS, MetricSpec

_HEAD = """\
# Metrics

<!-- Made by `make docs` from server/observability/metric_definitions.py. -->

`GET /metrics` serves the metrics to Prometheus. With API keys, it requires one. The names equal vLLM's, with the prefix
`glmserve:`, if vLLM has the metric.

```yaml
scrape_configs:
  - job_name: glmserve
    authorization: {credentials: KEY}        # only where the server has keys
    static_configs: [{targets: ["127.0.0.1:8000"]}]
```

## Requests

The counters are consistent. `requests_received_total` is the sum of successful, aborted, rejected and failed requests,
plus the running ones. All tokens except the wasted ones equal the sum of `usage` in the replies. A request that no
engine admitted has an empty `model_name`.

"""
_BATCHES = """
## Batches

These are read at each scrape, on a server that takes [batches](batches.md). `batch_lines_total` above counts their
lines.

"""
_ENGINES = """
## Engines

These are read at each scrape. A model and its adapters share an engine and its metrics. The counters of an engine
process restart at 0 with the next process, which Prometheus' `rate()` supports.

"""
_COLUMNS = "| name | kind | labels | what it says |\n| --- | --- | --- | --- |\n"


def metrics_page() -> str:
    """Return the page."""
    parts = ((_HEAD, REQUEST_METRICS), (_BATCHES, BATCH_METRICS), (_ENGINES, ENGINE_METRICS))
    return "".join(f"{introduction}{_COLUMNS}{_rows(metrics)}" for introduction, metrics in parts)


def _rows(metrics: Iterable[MetricSpec]) -> str:
    return "".join(
        f"| `{metric.exposed_name}` | {metric.kind.value} | {', '.join(f'`{label}`' for label in metric.labels)} "
        f"| {metric.help} |\n"
        for metric in metrics
    )


if __name__ == "__main__":
    click.echo(metrics_page(), nl=False)
