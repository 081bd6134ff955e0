"""The files that start the server elsewhere name flags, addresses, files and times that fit it and each other."""

import configparser
import re
from collections.abc import Sequence
from pathlib import Path

import click
import pytest
import yaml

from glmserve.cli.main import main
from glmserve.config.schema import Settings
from tests.support.api import connect, make_app
from tests.support.scripted_engine import ScriptedEngine

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
OBJECTS = {
    each["kind"]: each for each in yaml.safe_load_all((DEPLOY / "kubernetes" / "glmserve.yaml").read_text("utf-8"))
}
POD = OBJECTS["Deployment"]["spec"]["template"]["spec"]
CONTAINER = POD["containers"][0]
LAST_WORDS = 7
"""Seconds that ends of requests, and then the engines, may take after --shutdown-seconds."""


def parsed(words: Sequence[str]) -> dict[str, object]:
    """The arguments of a command, as it takes them."""
    command = main.get_command(click.Context(main), words[0])
    assert command is not None, words[0]
    return command.make_context(words[0], list(words[1:])).params


def unit() -> configparser.SectionProxy:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string((DEPLOY / "systemd" / "glmserve.service").read_text("utf-8"))
    return parser["Service"]


def seconds(text: str) -> int:
    return int(text.removesuffix("s"))


STARTED = {
    "compose": (
        COMPOSE["services"]["glmserve"]["command"],
        seconds(COMPOSE["services"]["glmserve"]["stop_grace_period"]),
    ),
    "systemd": (unit()["ExecStart"].split()[1:], seconds(unit()["TimeoutStopSec"])),
    "kubernetes": (CONTAINER["args"], POD["terminationGracePeriodSeconds"]),
}


@pytest.mark.parametrize("where", STARTED)
def test_the_server_has_the_time_to_stop_that_it_was_told(where: str) -> None:
    words, grace = STARTED[where]
    given = parsed(words)
    assert grace >= float(str(given["drain_seconds"])) + float(str(given["shutdown_seconds"])) + LAST_WORDS


def test_other_commands_are_called_as_they_can_be() -> None:
    assert parsed(OBJECTS["Job"]["spec"]["template"]["spec"]["containers"][0]["args"])["model"] == "chatglm2-6b"


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["startupProbe", "readinessProbe", "livenessProbe"])
async def test_a_probe_asks_an_address_that_answers_on_a_port_that_is_open(name: str) -> None:
    asked = CONTAINER[name]["httpGet"]
    async with connect(make_app(ScriptedEngine())) as http:
        assert (await http.get(asked["path"])).status_code == 200
    assert asked["port"] in {port["name"] for port in CONTAINER["ports"]}


def test_probes_wait_as_long_as_the_server_does() -> None:
    def patience(name: str) -> int:
        return int(CONTAINER[name]["periodSeconds"] * CONTAINER[name]["failureThreshold"])

    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    assert patience("startupProbe") > defaults["load_timeout"]
    assert patience("readinessProbe") < float(str(parsed(CONTAINER["args"])["drain_seconds"]))
    assert patience("livenessProbe") > defaults["load_timeout"], "an engine that starts anew loads its model again"


def test_kubernetes_objects_fit_together() -> None:
    port = int(re.findall(r"GLMSERVE_PORT=(\d+)", (ROOT / "Dockerfile").read_text("utf-8"))[0])
    assert {each["containerPort"] for each in CONTAINER["ports"]} == {port}
    assert OBJECTS["Service"]["spec"]["selector"] == OBJECTS["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert OBJECTS["Service"]["spec"]["ports"][0]["targetPort"] in {each["name"] for each in CONTAINER["ports"]}
    for pod in (POD, OBJECTS["Job"]["spec"]["template"]["spec"]):
        volumes = {each["name"] for each in pod["volumes"]}
        assert {mount["name"] for mount in pod["containers"][0]["volumeMounts"]} == volumes
        claims = {
            each["persistentVolumeClaim"]["claimName"] for each in pod["volumes"] if "persistentVolumeClaim" in each
        }
        assert claims == {OBJECTS["PersistentVolumeClaim"]["metadata"]["name"]}
        assert pod["securityContext"]["runAsUser"] == 10001


def test_what_compose_mounts_is_there_and_leads_to_the_dashboard() -> None:
    for service in COMPOSE["services"].values():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert (DEPLOY / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]
    provider = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/glmserve.yaml").read_text("utf-8"))
    mounted = dict(reversed(volume.split(":")[:2]) for volume in COMPOSE["services"]["grafana"]["volumes"])
    assert mounted[provider["providers"][0]["options"]["path"]] == "./grafana/dashboards"
    prometheus = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text("utf-8"))
    assert all((DEPLOY / "prometheus" / name).is_file() for name in prometheus["rule_files"])
    assert prometheus["scrape_configs"][0]["static_configs"][0]["targets"] == ["glmserve:8000"]


def test_the_unit_is_hardened_and_comes_back() -> None:
    service = unit()
    for name, value in {"DynamicUser": "yes", "NoNewPrivileges": "yes", "ProtectSystem": "strict"}.items():
        assert service[name] == value
    assert service["Restart"] == "on-failure"
