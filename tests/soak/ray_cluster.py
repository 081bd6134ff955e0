"""A Ray cluster on this machine with the application on it, for test_cluster.py. Runs in an environment with Ray.

Called with the cores of each node, separated by commas, and then settings as NAME=VALUE. It says "ready", obeys lines
from standard input ("lose" kills the last node, "deploy NAME=VALUE …" deploys again, "delete" ends the application),
and ends with the input.
"""

import os
import socket
import sys

os.environ.update(
    RAY_AUTH_MODE="disabled", RAY_USAGE_STATS_ENABLED="0", RAY_worker_niceness="0", RAY_raylet_start_wait_time_s="60",
    RAY_health_check_failure_threshold="3", RAY_health_check_period_ms="1000",
)  # fmt: skip

import ray
from ray import serve
from ray.cluster_utils import Cluster as Nodes

from glmserve.cluster.deployment import Cluster
from glmserve.config.loader import load_settings

_TRIES = 5
"""On a busy machine a node ends itself where its helpers take more than 15 s to start."""
_PORTS = ("metrics_agent_port", "metrics_export_port", "runtime_env_agent_port", "dashboard_agent_listen_port")


def start(first: int, others: list[int]) -> tuple[Nodes, list[object]]:
    for left in reversed(range(_TRIES)):
        nodes = Nodes()
        try:
            nodes.add_node(**node(first), include_dashboard=False)
            return nodes, [nodes.add_node(**node(count)) for count in others]
        except Exception:
            nodes.shutdown()
            if not left:
                raise
    raise AssertionError


def node(cores: int) -> dict[str, object]:
    return {"num_cpus": cores, "object_store_memory": 100_000_000, **{port: free_port() for port in _PORTS}}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


def main() -> None:
    cores, *given = sys.argv[1:]
    first, *others = map(int, cores.split(","))
    nodes, added = start(first, others)
    values = dict(pair.split("=", 1) for pair in given)
    cluster = deploy(nodes.address, values)
    for line in sys.stdin:
        if line.strip() == "lose":
            nodes.remove_node(added.pop(), allow_graceful=False)
        elif line.strip() == "delete":
            cluster.delete()
        else:
            cluster = deploy(nodes.address, {**values, **dict(pair.split("=", 1) for pair in line.split()[1:])})
    serve.shutdown()
    ray.shutdown()
    nodes.shutdown()


def deploy(address: str, values: dict[str, str]) -> Cluster:
    settings = load_settings(values, environ={})
    cluster = Cluster(settings, address)
    # The nodes would share the port here, so that a lost one takes connections along.
    serve.start(proxy_location="HeadOnly", http_options={"host": settings.host, "port": settings.port})
    cluster.deploy()
    print("ready", flush=True)
    return cluster


if __name__ == "__main__":
    main()
