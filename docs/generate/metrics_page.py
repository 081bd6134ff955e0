"""``docs/metrics.md``, made from the list of the figures."""

from collections.abc import Iterable

import click

from glmserve.observability.metric_definitions import ENGINE_METRICS, REQUEST_METRICS, MetricSpec

_HEAD = """\
# Metrics

<!-- Made by `make docs` from server/observability/metric_definitions.py. -->

`GET /metrics` tells Prometheus what the server does; where there are API keys, it needs one. The names are those of
vLLM with the prefix `glmserve:` wherever vLLM has the figure.

```yaml
scrape_configs:
  - job_name: glmserve
    authorization: {credentials: KEY}        # only where the server has keys
    static_configs: [{targets: ["127.0.0.1:8000"]}]
```

## Requests

They add up: `requests_received_total` is the sum of success, aborted, refused and failed (and of those that run just
now), and all tokens but the wasted ones are those that the `usage` of the replies told. A request whose prompt was
never taken by an engine has an empty `model_name`.

"""
_ENGINES = """
## Engines

Read when somebody looks; a model and its variants share an engine and are told as one. Counters of an engine process
begin at 0 again with the next one, which Prometheus' `rate()` allows for.

"""
_COLUMNS = "| name | kind | labels | what it says |\n| --- | --- | --- | --- |\n"


def metrics_page() -> str:
    """Return the page."""
    return f"{_HEAD}{_COLUMNS}{_rows(REQUEST_METRICS)}{_ENGINES}{_COLUMNS}{_rows(ENGINE_METRICS)}"


def _rows(metrics: Iterable[MetricSpec]) -> str:
    return "".join(
        f"| `{metric.exposed_name}` | {metric.kind.value} | {', '.join(f'`{label}`' for label in metric.labels)} "
        f"| {metric.help} |\n"
        for metric in metrics
    )


if __name__ == "__main__":
    click.echo(metrics_page(), nl=False)
