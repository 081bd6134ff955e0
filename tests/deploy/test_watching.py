"""The dashboard and the alerts ask for figures that the server has, by labels that those have."""

import json
import re
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from glmserve.batches.service import BatchOptions
from glmserve.bootstrap.app import ApiOptions
from glmserve.engine.errors import EngineDied, QueueFull
from glmserve.http.error_replies import describe
from glmserve.observability.metric_definitions import BATCH_METRICS, ENGINE_METRICS, REQUEST_METRICS, MetricKind
from tests.support.api import connect, make_app
from tests.support.scripted_engine import ScriptedEngine

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboards" / "glmserve.json").read_text("utf-8"))
ALERTS = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text("utf-8"))["groups"][0]["rules"]
QUERIES = {
    f"{panel['title']} {target['refId']}": target["expr"]
    for panel in DASHBOARD["panels"]
    for target in panel["targets"]
}
EXPRESSIONS = {**QUERIES, **{rule["alert"]: rule["expr"] for rule in ALERTS}}

NAME = re.compile(r"glmserve:\w+")
MATCHER = re.compile(r"(?P<metric>[a-z][\w:]*)\{(?P<matchers>[^}]*)\}")
GROUPING = re.compile(r"\bby \((?P<labels>[^)]*)\)")
OF_PROMETHEUS = {"instance", "job"}
"""Labels that Prometheus adds to each sample."""


def labels_by_name() -> dict[str, set[str]]:
    """Every name that a sample can have, with its labels."""
    found: dict[str, set[str]] = {}
    for metric in (*ENGINE_METRICS, *REQUEST_METRICS, *BATCH_METRICS):
        labels = set(metric.labels) | OF_PROMETHEUS
        found[metric.exposed_name] = labels
        if metric.kind is MetricKind.HISTOGRAM:
            del found[metric.exposed_name]
            found |= {f"{metric.full_name}_{part}": labels for part in ("sum", "count")}
            found[f"{metric.full_name}_bucket"] = labels | {"le"}
    return found


LABELS = labels_by_name()


@pytest.mark.parametrize("title", EXPRESSIONS)
def test_an_expression_asks_for_what_there_is(title: str) -> None:
    expression = EXPRESSIONS[title]
    names = NAME.findall(expression)
    assert names or expression.startswith("up{")
    assert set(names) <= set(LABELS)
    common = set.intersection(*(LABELS[name] for name in names)) if names else OF_PROMETHEUS
    for found in MATCHER.finditer(expression):
        wanted = {part.partition("=")[0].rstrip("!") for part in found["matchers"].split(",")}
        assert wanted <= LABELS.get(found["metric"], OF_PROMETHEUS), found[0]
    for found in GROUPING.finditer(expression):
        assert {label.strip() for label in found["labels"].split(",")} <= common, found[0]
    assert expression.count("(") == expression.count(")")


@pytest.mark.anyio
async def test_a_real_server_has_every_sample_that_is_asked_for(tmp_path: Path) -> None:
    engine = ScriptedEngine()
    body = {"messages": [{"role": "user", "content": "hi"}]}
    async with connect(make_app(engine, ApiOptions(batches=BatchOptions(tmp_path)))) as http:
        await http.post("/v1/chat/completions", json=body)
        engine.reject = QueueFull(1)
        await http.post("/v1/chat/completions", json=body)
        engine.reject, engine.fail = None, EngineDied("it died")
        await http.post("/v1/chat/completions", json=body)
        text = (await http.get("/metrics")).text
    samples = {
        sample.name: set(sample.labels) | OF_PROMETHEUS
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    asked = {name for expression in EXPRESSIONS.values() for name in NAME.findall(expression)}
    never = {"glmserve:request_aborted_total", "glmserve:key_tokens_total"}  # nobody hung up; there are no keys
    assert asked - never <= set(samples)
    assert {name: samples[name] for name in asked - never} == {name: LABELS[name] for name in asked - never}


def test_an_alert_names_a_reason_that_there_is() -> None:
    reasons = re.findall(r'reason="(\w+)"', "".join(EXPRESSIONS.values()))
    assert reasons == [describe(QueueFull(1)).code]


def test_what_an_alert_says_is_filled_with_labels_that_its_value_has() -> None:
    for rule in ALERTS:
        wanted = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        names = NAME.findall(rule["expr"])
        groupings = [set(re.split(r",\s*", found)) for found in GROUPING.findall(rule["expr"])]
        kept = groupings[0] if groupings else LABELS[names[0]] if names else OF_PROMETHEUS
        assert wanted <= kept, rule["alert"]


def test_the_panels_are_apart_and_ask_the_source_that_is_provided() -> None:
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in DASHBOARD["panels"]}
    assert len(places) == len(DASHBOARD["panels"])
    source = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text("utf-8"))
    assert {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]} == {source["datasources"][0]["uid"]}
