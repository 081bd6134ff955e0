"""``glmserve cluster``: deploy the application on a Ray cluster."""

import logging
import time
from pathlib import Path

import click

from glmserve.cli.options import UsageProblem, cluster_options, complete_model, read_settings
from glmserve.cli.texts.chinese import say

log = logging.getLogger(__name__)


@click.command()
@click.argument("model", nargs=-1, shell_complete=complete_model)
@click.option("--ray-address", metavar="ADDRESS", default=None,
              help="Address of the cluster; without one the cluster of this machine, or a new one.  [RAY_ADDRESS]",
)  # fmt: skip
@click.option("--detach", is_flag=True, help="Return once it is ready, and leave it running.")
@cluster_options
def cluster(
    model: tuple[str, ...], ray_address: str | None, detach: bool, config: Path | None, **flags: object
) -> None:
    """Serve each MODEL on a Ray cluster: the API and engine replicas, on machines that have room.

    It needs the extra ray: pip install 'glmserve[ray]', on each machine. MODEL and the settings are those of `serve`.
    Paths in them must mean the same files on each machine. Without --detach, Ctrl-C ends the application.
    """
    try:
        from glmserve.cluster.deployment import Cluster  # noqa: PLC0415 - needs the extra
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "ray":
            raise
        raise UsageProblem(f"glmserve cluster needs the extra ray: pip install 'glmserve[ray]' ({error})") from None
    settings = read_settings(model, config, flags)
    running = Cluster(settings, ray_address)
    running.deploy()
    click.echo(say("glmserve is ready on {url}", url=f"http://{settings.host}:{settings.port}"))
    if detach:
        click.echo(say("`serve status` shows it; `serve shutdown -y` ends it."))
        return
    click.echo(say("Ctrl-C stops the server."))
    try:
        while True:
            time.sleep(3600)
    finally:
        running.delete()
