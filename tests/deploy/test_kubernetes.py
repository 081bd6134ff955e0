"""The manifests for several servers: valid against their schemas, and the picker asks for what the servers answer."""

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import jsonschema_rs
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from glmserve.cli.main import main
from tests.support.api import connect, make_app
from tests.support.scripted_engine import ScriptedEngine

Object = dict[str, Any]

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
SCHEMAS = yaml.safe_load((Path(__file__).parent / "schemas.yaml").read_text("utf-8"))


def objects(name: str) -> dict[tuple[str, str], Object]:
    """The objects of a file, by kind and name."""
    read = yaml.safe_load_all((FOLDER / name).read_text("utf-8"))
    return {(each["kind"], each["metadata"]["name"]): each for each in read}


ONE, REPLICAS, PICKER = map(objects, ("glmserve.yaml", "replicas.yaml", "endpoint-picker.yaml"))
SET = REPLICAS["StatefulSet", "glmserve"]
POD = SET["spec"]["template"]
CONFIG = yaml.safe_load(PICKER["ConfigMap", "glmserve-epp"]["data"]["plugins.yaml"])
PLUGINS = {each["type"]: each.get("parameters", {}) for each in CONFIG["plugins"]}
OWN_KINDS = [each for each in (*PICKER.values(), CONFIG) if each["kind"] in SCHEMAS["kinds"]]


def validator(kind: str) -> jsonschema_rs.Validator:
    """The schema of a kind; a plugin is one of those listed, with its parameters."""
    plugins = [
        {
            "type": "object",
            "required": ["type"],
            "additionalProperties": False,
            "properties": {
                "type": {"const": name},
                "parameters": {"type": "object", "additionalProperties": False, "properties": parameters},
            },
        }
        for name, parameters in SCHEMAS["parameters"].items()
    ]
    definitions = {**SCHEMAS["$defs"], "plugin": {"oneOf": plugins}}
    return jsonschema_rs.validator_for({**SCHEMAS["kinds"][kind], "$defs": definitions})


@pytest.mark.parametrize("one", OWN_KINDS, ids=lambda one: one["kind"])
def test_an_object_is_valid_against_its_schema(one: Object) -> None:
    validator(one["kind"]).validate(one)


def wrong_ones(one: object) -> Iterator[object]:
    """Copies of an object with one mapping spoiled by an unknown key, each mapping in turn."""
    if isinstance(one, dict):
        yield {**one, "unknownField": 1}
        for key, value in one.items():
            if key != "matchLabels":
                yield from ({**copy.deepcopy(one), key: wrong} for wrong in wrong_ones(value))
    elif isinstance(one, list):
        for place, value in enumerate(one):
            yield from ([*one[:place], wrong, *one[place + 1 :]] for wrong in wrong_ones(value))


@pytest.mark.parametrize("one", OWN_KINDS, ids=lambda one: one["kind"])
def test_a_misspelt_field_is_found_wherever_it_is(one: Object) -> None:
    spoiled = list(wrong_ones(one))
    assert spoiled
    assert not [wrong for wrong in spoiled if validator(one["kind"]).is_valid(wrong)]


def test_every_object_is_one_that_kubernetes_has_or_that_is_checked_here() -> None:
    core = {"ConfigMap", "ServiceAccount", "Role", "RoleBinding", "Deployment", "Service"}
    assert {kind for kind, _ in PICKER} == core | (set(SCHEMAS["kinds"]) - {"EndpointPickerConfig"})


def test_the_replicas_differ_from_the_one_server_by_what_several_need() -> None:
    single = copy.deepcopy(ONE["Deployment", "glmserve"]["spec"]["template"])
    several = copy.deepcopy(POD)
    del several["spec"]["affinity"]
    (claim,) = SET["spec"]["volumeClaimTemplates"]
    several["spec"]["volumes"].insert(0, {"name": "cache", "persistentVolumeClaim": {"claimName": "glmserve-cache"}})
    assert claim["metadata"]["name"] == "cache"
    assert claim["spec"] == ONE["PersistentVolumeClaim", "glmserve-cache"]["spec"]
    arguments = several["spec"]["containers"][0]["args"]
    for extra in ("--cache-tokens", "65536", "--public-metrics"):
        arguments.remove(extra)
    several["spec"]["containers"][0]["resources"] = single["spec"]["containers"][0]["resources"]
    assert several == single


@pytest.mark.parametrize("pod", [ONE["Deployment", "glmserve"]["spec"]["template"], POD], ids=["one", "replicas"])
def test_variables_of_services_do_not_reach_the_settings(pod: Object) -> None:
    assert pod["spec"]["enableServiceLinks"] is False


def test_selectors_lead_to_pods_and_ports() -> None:
    labels = POD["metadata"]["labels"]
    picker = PICKER["Deployment", "glmserve-epp"]["spec"]["template"]
    assert SET["spec"]["replicas"] > 1
    assert REPLICAS["Service", SET["spec"]["serviceName"]]["spec"]["clusterIP"] == "None"
    assert REPLICAS["Service", "glmserve"]["spec"]["sessionAffinity"] == "ClientIP"
    assert REPLICAS["PodDisruptionBudget", "glmserve"]["spec"]["selector"]["matchLabels"] == labels
    pool = PICKER["InferencePool", "glmserve"]["spec"]
    assert pool["selector"]["matchLabels"] == labels
    ports = {each["containerPort"] for each in POD["spec"]["containers"][0]["ports"]}
    assert {each["number"] for each in pool["targetPorts"]} == ports
    service = PICKER["Service", pool["endpointPickerRef"]["name"]]["spec"]
    assert service["selector"] == picker["metadata"]["labels"]
    assert pool["endpointPickerRef"]["port"]["number"] in {each["port"] for each in service["ports"]}
    assert {each["port"] for each in service["ports"]} <= {
        each["containerPort"] for each in picker["spec"]["containers"][0]["ports"]
    }
    stored = PICKER["Service", "glmserve-stored"]["spec"]["selector"]
    assert stored == {**labels, "statefulset.kubernetes.io/pod-name": f"{SET['metadata']['name']}-0"}


def test_the_picker_is_started_with_its_configuration() -> None:
    pod = PICKER["Deployment", "glmserve-epp"]["spec"]["template"]["spec"]
    flags = dict(flag.removeprefix("--").split("=", 1) for flag in pod["containers"][0]["args"])
    (volume,) = pod["volumes"]
    (mount,) = pod["containers"][0]["volumeMounts"]
    files = PICKER["ConfigMap", volume["configMap"]["name"]]["data"]
    assert flags["config-file"] in {f"{mount['mountPath']}/{name}" for name in files}
    pool = PICKER["InferencePool", flags["pool-name"]]
    assert pool["apiVersion"].partition("/")[0] == flags["pool-group"]
    assert pod["serviceAccountName"] in {name for kind, name in PICKER if kind == "ServiceAccount"}
    every = int(flags["refresh-metrics-interval"].removesuffix("ms")) / 1000
    assert every < float(PLUGINS["utilization-detector"]["metricsStalenessThreshold"].removesuffix("s")) / 2


def references(one: object) -> Iterator[str]:
    if isinstance(one, dict):
        yield from (value for key, value in one.items() if key == "pluginRef")
        one = list(one.values())
    if isinstance(one, list):
        for each in one:
            yield from references(each)


def test_the_configuration_refers_to_plugins_that_it_has() -> None:
    assert set(references(CONFIG)) <= set(PLUGINS)
    scorers = {each["pluginRef"] for each in CONFIG["schedulingProfiles"][0]["plugins"]}
    assert scorers == {"prefix-cache-scorer", "queue-scorer", "kv-cache-utilization-scorer"}


def test_the_picker_expects_as_many_prefixes_as_a_server_keeps() -> None:
    words = POD["spec"]["containers"][0]["args"]
    command = main.get_command(click.Context(main), words[0])
    assert command is not None
    given = command.make_context(words[0], words[1:]).params
    prefixes = PLUGINS["approx-prefix-cache-producer"]
    assert prefixes["lruCapacityPerServer"] * prefixes["blockSizeTokens"] == int(str(given["cache_tokens"]))
    assert given["public_metrics"]


SPEC = re.compile(r'(?P<name>[a-zA-Z_:][\w:]*)(\{(?P<label>\w+)="(?P<value>[^"]*)"\})?')
"""A metric as the picker reads it: a selector of Prometheus, of whose matchers it takes those of equality."""


def picked(text: str, spec: str) -> list[float]:
    """The values of the samples that a specification matches.

    As the picker does: the family has the name in full, its kind is gauge or counter, and each label is equal.
    """
    wanted = SPEC.fullmatch(spec)
    assert wanted is not None, spec
    families = [family for family in text_string_to_metric_families(text) if family.name == wanted["name"]]
    return [
        sample.value
        for family in families
        if family.type in ("gauge", "counter")
        for sample in family.samples
        if wanted["label"] is None or sample.labels.get(wanted["label"]) == wanted["value"]
    ]


@pytest.mark.anyio
async def test_the_servers_answer_each_metric_that_the_picker_reads() -> None:
    (engine,) = PLUGINS["core-metrics-extractor"]["engineConfigs"]
    assert engine["name"] == PLUGINS["core-metrics-extractor"]["defaultEngine"]
    async with connect(make_app(ScriptedEngine())) as http:
        served = (await http.get("/v1/models")).json()["data"][0]["id"]
        reply = await http.get(PLUGINS["metrics-data-source"]["path"])
    assert reply.headers["content-type"].startswith("text/plain")
    text = reply.text.replace(f'model_name="{served}"', 'model_name="chatglm2-6b"')
    specs = [value for key, value in engine.items() if key.endswith("Spec")]
    assert len(specs) == 3
    for spec in specs:
        assert picked(text, spec) == [0.0], spec
        assert picked(text, spec.replace("chatglm2-6b", "another")) == []
        assert picked(text, spec.replace("glmserve:", "vllm:")) == []


def test_the_route_has_a_place_for_each_address() -> None:
    rules = PICKER["HTTPRoute", "glmserve"]["spec"]["rules"]
    matches = {
        match["path"]["value"]: (
            match["path"]["type"],
            rule["backendRefs"][0]["name"],
            rule["backendRefs"][0].get("kind"),
        )
        for rule in rules
        for match in rule["matches"]
    }
    exact = {path: place[1:] for path, place in matches.items() if place[0] == "Exact"}
    # What the two parsers of the picker know; it would answer the others with an error.
    assert set(exact) == {"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/messages"}
    assert set(exact.values()) == {("glmserve", "InferencePool")}
    stored = {path for path, place in matches.items() if place[1] == "glmserve-stored"}
    assert stored == {"/v1/responses", "/v1/files", "/v1/batches"}
    assert matches["/"] == ("PathPrefix", "glmserve", None)
    for rule in rules:
        (backend,) = rule["backendRefs"]
        known = PICKER if backend["name"] != "glmserve" or backend.get("kind") else REPLICAS
        assert (backend.get("kind", "Service"), backend["name"]) in known
    assert {each["name"] for each in PICKER["HTTPRoute", "glmserve"]["spec"]["parentRefs"]} == {"glmserve"}
