"""Brings the application onto a cluster, for the command ``glmserve cluster``."""

import logging
import os

import click
import ray
from ray import serve
from ray.serve.exceptions import DeploymentUnavailableError

from glmserve.bootstrap.prerequisites import check_prerequisites
from glmserve.cluster.application import build
from glmserve.config.schema import Settings
from glmserve.observability.logging import configure_logging

log = logging.getLogger(__name__)

_PATIENCE_S = 10.0
NAME = "glmserve"
"""Of the application."""
NICENESS = "RAY_worker_niceness"
"""Variable with the niceness of the processes of a machine, which Ray reads where it is started."""


class Cluster:
    """A Ray cluster, and the application on it."""

    def __init__(self, settings: Settings, address: str | None) -> None:
        """Connect to the cluster at ``address``, to the one of this machine, or start one here.

        Raises:
            ClickException: there is none at that address, or none could be started.
        """
        configure_logging(settings.log_level, settings.log_format, with_texts=settings.log_prompts)
        self._settings = settings
        os.environ.setdefault(NICENESS, "0")  # of a cluster that is started here; Ray's own is 15
        try:
            ray.init(address=address, namespace="serve", log_to_driver=True, ignore_reinit_error=True)
        except Exception as error:  # a plain one, where it could not be started
            what = f"the Ray cluster {address} cannot be reached" if address else "no Ray cluster could be started here"
            raise click.ClickException(f"{what}: {error}") from None

    def deploy(self) -> None:
        """Deploy the application, in place of an older one, and wait until it is ready.

        Raises:
            ClickException: it cannot be deployed.
        """
        check_prerequisites(self._settings)  # a faulty key should show before anything is started
        serve.start(proxy_location="EveryNode", http_options={"host": self._settings.host, "port": self._settings.port})
        try:
            serve.run(build(self._settings), name=NAME, route_prefix="/")
        except RuntimeError as error:
            raise click.ClickException(str(error)) from None

    def delete(self) -> None:
        """End the application. Its answers get the time that they get when a server stops."""
        try:  # nothing is sent before the results are asked for
            serve.get_app_handle(NAME).broadcast("end_answers").results(timeout_s=_PATIENCE_S, return_exceptions=True)
        except (DeploymentUnavailableError, TimeoutError) as error:
            log.warning("the API could not be told to end its answers: %s", error)
        try:
            serve.delete(NAME)
        except TimeoutError:
            log.warning("the application has not ended yet; `serve status` shows it")
