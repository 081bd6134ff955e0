"""The files that start the server elsewhere name flags, addresses, files and times that fit it and each other."""

import configparser
import os
import re
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import click
import httpx
import pytest
import yaml

from glmserve.bootstrap.model_source import find_source
from glmserve.cli.main import main
from glmserve.config.loader import load_settings
from glmserve.config.schema import Settings
from glmserve.config.values import Quant
from tests.support.api import connect, make_app, serve
from tests.support.proxies import running_proxy
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


class Units(configparser.ConfigParser):
    """Files of systemd, whose names of settings have large and small letters."""

    def optionxform(self, optionstr: str) -> str:
        return optionstr


def unit() -> configparser.SectionProxy:
    parser = Units(interpolation=None, strict=False)
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


def test_the_model_that_is_served_is_pulled_first(tmp_path: Path) -> None:
    (first,) = POD["initContainers"]
    unless, pull = first["command"][-1].split(" || exec glmserve ")
    assert parsed(pull.split())["model"] == "chatglm2-6b"
    assert CONTAINER["args"][:2] == ["serve", "chatglm2-6b"]
    written = tmp_path / Path(unless.split()[-1]).name
    written.touch()
    assert find_source("chatglm2-6b", Quant.AUTO, tmp_path).gguf == written, "a later start looks for what pull writes"
    assert first["volumeMounts"] == CONTAINER["volumeMounts"], "it is pulled to where it is looked for"


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["startupProbe", "readinessProbe", "livenessProbe"])
async def test_a_probe_asks_an_address_that_answers_on_a_port_that_is_open(name: str) -> None:
    asked = CONTAINER[name]["httpGet"]
    async with connect(make_app(ScriptedEngine())) as http:
        assert (await http.get(asked["path"])).status_code == 200
    assert asked["port"] in {port["name"] for port in CONTAINER["ports"]}


def test_probes_wait_as_long_as_the_server_does() -> None:
    def allowed_seconds(name: str) -> int:
        return int(CONTAINER[name]["periodSeconds"] * CONTAINER[name]["failureThreshold"])

    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    assert allowed_seconds("startupProbe") > defaults["load_timeout"]
    assert allowed_seconds("readinessProbe") < float(str(parsed(CONTAINER["args"])["drain_seconds"]))
    assert allowed_seconds("livenessProbe") > defaults["load_timeout"], (
        "an engine that starts anew loads its model again"
    )


def test_kubernetes_objects_fit_together() -> None:
    port = int(re.findall(r"GLMSERVE_PORT=(\d+)", (ROOT / "Dockerfile").read_text("utf-8"))[0])
    assert {each["containerPort"] for each in CONTAINER["ports"]} == {port}
    assert OBJECTS["Service"]["spec"]["selector"] == OBJECTS["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert OBJECTS["Service"]["spec"]["ports"][0]["targetPort"] in {each["name"] for each in CONTAINER["ports"]}
    volumes = {each["name"] for each in POD["volumes"]}
    assert {mount["name"] for mount in CONTAINER["volumeMounts"]} == volumes
    claims = {each["persistentVolumeClaim"]["claimName"] for each in POD["volumes"] if "persistentVolumeClaim" in each}
    assert claims == {OBJECTS["PersistentVolumeClaim"]["metadata"]["name"]}
    assert POD["securityContext"]["runAsUser"] == 10001


def test_what_compose_mounts_is_there_and_leads_to_the_dashboard() -> None:
    for service in COMPOSE["services"].values():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            if not source.startswith("${"):
                assert (DEPLOY / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]
    provider = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/glmserve.yaml").read_text("utf-8"))
    mounted = dict(reversed(volume.split(":")[:2]) for volume in COMPOSE["services"]["grafana"]["volumes"])
    assert mounted[provider["providers"][0]["options"]["path"]] == "./grafana/dashboards"
    prometheus = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text("utf-8"))
    assert all((DEPLOY / "prometheus" / name).is_file() for name in prometheus["rule_files"])
    (scraped,) = prometheus["scrape_configs"]
    assert scraped["static_configs"][0]["targets"] == ["glmserve:8000"]
    (secret,) = COMPOSE["services"]["prometheus"]["secrets"]
    assert scraped["authorization"]["credentials_file"] == f"/run/secrets/{secret}"
    assert COMPOSE["secrets"][secret]["environment"] in COMPOSE["services"]["glmserve"]["environment"]


def test_compose_asks_for_a_key_and_has_a_place_for_models() -> None:
    served = COMPOSE["services"]["glmserve"]
    assert served["environment"]["GLMSERVE_API_KEY"].startswith("${GLMSERVE_API_KEY:?")
    assert any(volume.endswith(":/models:ro") for volume in served["volumes"])


def test_the_unit_is_hardened_and_comes_back() -> None:
    service = unit()
    for name, value in {"DynamicUser": "yes", "NoNewPrivileges": "yes", "ProtectSystem": "strict"}.items():
        assert service[name] == value
    assert service["Restart"] == "on-failure"


def test_the_sample_of_settings_is_read_with_all_its_keys() -> None:
    settings = load_settings({}, {}, DEPLOY / "glmserve.toml")
    (model,) = settings.models
    assert (model.model, model.parallel, settings.host) == ("chatglm2-6b", 16, "0.0.0.0")
    assert unit()["ExecStart"].split()[-4:] == ["--drain-seconds", "5", "--shutdown-seconds", "30"]
    assert (settings.drain_seconds, settings.shutdown_seconds) == (5, 30)


def test_a_unit_with_a_python_under_home_sees_that_alone() -> None:
    text = (DEPLOY / "systemd" / "python-under-home.conf").read_text("utf-8")
    assert "ProtectHome=tmpfs" in text
    bound = re.findall(r"^BindReadOnlyPaths=(.*)$", text, re.MULTILINE)[0].split()
    starts = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    assert starts[0] == "", "systemd adds to the commands of the unit otherwise"
    program, *words = starts[1].split()
    assert any(program.startswith(f"{folder}/") for folder in bound)
    assert words == unit()["ExecStart"].split()[1:]


def test_nginx_passes_streams_on_as_they_come(tmp_path: Path) -> None:
    """The sample as it is, on other ports."""
    sample = (DEPLOY / "nginx" / "glmserve.conf").read_text("utf-8")
    with serve(make_app(ScriptedEngine(step_seconds=0.05))) as server:
        here = sample.replace("127.0.0.1:8000", server.removeprefix("http://")).replace(
            "listen 80", "listen 127.0.0.1:{port}"
        )
        with running_proxy(
            "nginx", ["nginx", "-p", ".", "-c", "conf"], _NGINX.replace("SAMPLE", here), tmp_path
        ) as url:
            body = {"messages": [{"role": "user", "content": "你好"}], "stream": True}
            with httpx.stream("POST", f"{url}/v1/chat/completions", json=body) as reply:
                times = [time.monotonic() for _ in reply.iter_raw()]
    assert len(times) > 2
    assert times[-1] - times[0] > 0.05


_NGINX = """
daemon off; worker_processes 1; pid nginx.pid; error_log stderr;
events {}
http {
  access_log off; client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
  SAMPLE
}
"""


@pytest.mark.parametrize(
    "line",
    ["http://archive.ubuntu.com/ubuntu/", "http://security.ubuntu.com/ubuntu", "http://ports.ubuntu.com/ubuntu-ports/"],
)
def test_a_mirror_takes_the_place_of_ubuntus_hosts(tmp_path: Path, line: str) -> None:
    sources = tmp_path / "sources.list.d" / "ubuntu.sources"
    sources.parent.mkdir()
    sources.write_text(f"Types: deb\nURIs: {line}\nSuites: noble\n")
    script = [str(ROOT / "docker" / "apt-mirror.sh"), str(tmp_path)]
    subprocess.run(script, check=True, env={"PATH": os.environ["PATH"]})
    assert line in sources.read_text()
    subprocess.run(script, check=True, env={"PATH": os.environ["PATH"], "UBUNTU_MIRROR": "https://m.example/ubuntu"})
    assert "URIs: https://m.example/ubuntu/\n" in sources.read_text()


def test_the_image_copies_what_it_builds_from() -> None:
    """A link of the package that leads nowhere would be left out without a word."""
    stage = (ROOT / "Dockerfile").read_text("utf-8").partition("AS app")[2].partition("\nFROM")[0]
    copied = set(re.findall(r"^COPY (\w+) \w+$", stage, re.MULTILINE))
    linked = {
        link.resolve().relative_to(ROOT).parts[0] for link in (ROOT / "src" / "glmserve").iterdir() if link.is_symlink()
    }
    assert linked <= copied
