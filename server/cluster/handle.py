"""The replicas of a model as Ray Serve's handle reaches them."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import DeploymentUnavailableError, ReplicaUnavailableError
from ray.serve.handle import DeploymentHandle

from glmserve.cluster.messages import Answer, ReplicaCall, ReplicaLost, Report
from glmserve.engine.messages import Pin

log = logging.getLogger(__name__)

_PATIENCE_S = 5.0
_GONE = (RayError, DeploymentUnavailableError, ReplicaUnavailableError)


class RayReplicas:
    """Implements ``glmserve.cluster.engine.Replicas`` over a deployment."""

    def __init__(self, handle: DeploymentHandle, application: str) -> None:
        """ReplicaCall the replicas of ``handle``, a deployment of ``application``."""
        self._handle = handle
        self._application = application
        self._answers = handle.options(method_name="answer", stream=True)

    async def ask(self, call: ReplicaCall) -> AsyncGenerator[Answer, None]:
        """Yield the answers of the replica that the router chooses."""
        response = self._answers.remote(call)
        finished = False
        try:
            async for answer in response:
                yield answer
            finished = True
        except _GONE as error:
            finished = True
            raise ReplicaLost(type(error).__name__) from error
        finally:
            if not finished:
                response.cancel()

    async def reports(self) -> Sequence[Report] | None:
        """Return a report of each replica that answers; None where none answered in time."""
        try:
            told = await self._handle.broadcast("report").results_async(timeout_s=_PATIENCE_S, return_exceptions=True)
        except DeploymentUnavailableError:
            return ()
        except (TimeoutError, asyncio.TimeoutError):
            return None
        return [report for report in told if isinstance(report, Report)]

    async def failure(self) -> str:
        """Return why Ray Serve has given up on the deployment; empty where it has not."""
        status = await asyncio.to_thread(serve.status)
        application = status.applications.get(self._application)
        deployment = None if application is None else application.deployments.get(self._handle.deployment_name)
        if deployment is None or deployment.status != "DEPLOY_FAILED":
            return ""
        return f"no replica could be started: {deployment.message}"

    async def pin(self, pins: Sequence[Pin]) -> None:
        """Have each replica keep these beginnings of prompts in its cache."""
        await self._handle.broadcast("pin", pins).results_async(timeout_s=_PATIENCE_S, return_exceptions=True)
