"""The files of deploy/gateway: nginx sends each address to the gateway or to the servers, past one that is gone."""

import shlex
import socket
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import httpx

from tests.support.api import make_app, serve
from tests.support.proxies import running_proxy
from tests.support.scripted_engine import ScriptedEngine, says

GATEWAY = Path(__file__).resolve().parents[2] / "deploy" / "gateway"
NGINX = """
daemon off; worker_processes 1; pid nginx.pid; error_log stderr;
events {}
http {
  access_log off; client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
  SAMPLE
}
"""


def test_nginx_sends_each_address_to_its_place(tmp_path: Path) -> None:
    with ExitStack() as stack, socket.create_server(("127.0.0.1", 0)) as gone:
        gone_port = gone.getsockname()[1]
        gone.close()  # nobody listens there
        named = {"127.0.0.1:30000": "gateway", "10.0.0.11:8000": "replica"}
        sample = (GATEWAY / "nginx.conf").read_text("utf-8")
        for address, name in named.items():
            app = make_app(ScriptedEngine(says(name)))
            sample = sample.replace(address, stack.enter_context(serve(app)).removeprefix("http://"))
        sample = sample.replace("10.0.0.12:8000", f"127.0.0.1:{gone_port}").replace(
            "listen 80", "listen 127.0.0.1:{port}"
        )
        command = ["nginx", "-p", ".", "-c", "conf"]
        url = stack.enter_context(running_proxy("nginx", command, NGINX.replace("SAMPLE", sample), tmp_path))
        http = stack.enter_context(httpx.Client(base_url=url))
        chat = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 20}
        assert http.post("/v1/chat/completions", json=chat).json()["choices"][0]["message"]["content"] == "gateway"
        assert http.post("/v1/messages", json=chat).json()["content"][0]["text"] == "gateway"
        response = http.post("/v1/responses", json={"input": "hi"}).json()
        assert response["output"][0]["content"][0]["text"] == "replica"
        # Each caller is somebody else to the hash, so that some would have got the server that is gone.
        for caller in range(8):
            headers = {"Authorization": f"Bearer {caller}"}
            for path in ("/chatglm", "/"):
                reply = http.post(path, json={"prompt": "hi"}, headers=headers)
                assert (reply.status_code, reply.json()["response"]) == (200, "replica")
            assert http.post("/tokenize", json={"prompt": "hi"}, headers=headers).json()["count"]


def test_the_unit_of_smg_checks_health_faster_than_a_server_drains() -> None:
    unit = (GATEWAY / "smg.service").read_text("utf-8")
    words = shlex.split(unit.partition("ExecStart=")[2].partition("\nRestart")[0].replace("\\\n", " "))
    value = dict(pairwise(words))
    seconds = int(value["--health-check-interval-secs"]) * int(value["--health-failure-threshold"])
    page = (GATEWAY.parents[1] / "docs" / "scaling.md").read_text("utf-8")
    drains = int(page.partition("--drain-seconds ")[2].partition("`")[0])
    assert seconds < drains
    assert value["--policy"] == "cache_aware"
