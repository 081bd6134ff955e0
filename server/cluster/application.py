"""The application for Ray Serve: a deployment of the API, and one of engine replicas for each model."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path

from fastapi import FastAPI
from ray import serve
from ray.serve import Application
from ray.serve.config import RequestRouterConfig
from ray.serve.handle import DeploymentHandle

from glmserve.bootstrap.app_settings import make_app
from glmserve.bootstrap.build import build_registry
from glmserve.bootstrap.engine_config import ModelPlan
from glmserve.bootstrap.model_source import UnknownModelError, find_source
from glmserve.cluster.deployed_settings import API, cluster_settings, deployment_names, without_keys
from glmserve.cluster.engine import ClusterEngine
from glmserve.cluster.files import plan_here
from glmserve.cluster.handle import RayReplicas
from glmserve.cluster.messages import Answer, ReplicaCall, Report
from glmserve.cluster.placement import place, scaling
from glmserve.cluster.ray_router import CELLS, TokenRouter
from glmserve.cluster.replica import EngineReplica
from glmserve.config.loader import load_settings
from glmserve.config.schema import ModelSettings, Settings
from glmserve.engine.config import EngineConfig
from glmserve.engine.errors import ModelLoadError
from glmserve.engine.gguf.gguf_check import check_gguf
from glmserve.engine.interface import Engine
from glmserve.engine.messages import Pin
from glmserve.observability.logging import configure_logging


class EngineDeployment:
    """``EngineReplica`` with the methods that Ray Serve calls."""

    async def __init__(self, settings: Settings, model: ModelSettings) -> None:  # type: ignore[misc]  # Ray awaits it
        """Load the model: a replica is there once it takes requests."""
        self._replica = EngineReplica(settings, model, serve.get_replica_context().replica_id.unique_id)
        await self._replica.load()

    async def answer(self, call: ReplicaCall) -> AsyncGenerator[Answer, None]:
        """See ``EngineReplica.answer``."""
        answers = self._replica.answer(call)
        try:
            async for answer in answers:
                yield answer
        finally:
            await answers.aclose()

    async def report(self) -> Report:
        """See ``EngineReplica.report``."""
        return self._replica.report()

    async def pin(self, pins: Sequence[Pin]) -> None:
        """See ``EngineReplica.pin``."""
        self._replica.pin(pins)

    async def check_health(self) -> None:
        """Raise where the cluster should replace the replica."""
        self._replica.check_health()

    async def record_replica_metadata(self) -> Mapping[str, int]:
        """Tell the routers how much this replica can have cached."""
        return {CELLS: self._replica.info.cache_cells}

    async def __del__(self) -> None:
        """End the engine process."""
        await self._replica.stop()


class ApiDeployment:
    """The application with all dialects, on engines of the cluster."""

    async def __init__(  # type: ignore[misc]  # Ray awaits it
        self, settings: Settings, engines: Sequence[DeploymentHandle]
    ) -> None:
        """Find the files, which the tokenizers need, put the application together, and wait for the models.

        Requests come once this has ended, and in an update the older replica goes then. A model that none of the
        engines has by then is waited for no longer: the others are answered.
        """
        configure_logging(settings.log_level, settings.log_format, with_texts=settings.log_prompts)
        self._settings = settings
        self._engines = dict(zip(settings.local_models, engines, strict=True))
        plans = await asyncio.to_thread(plan_here, settings)
        self._registry = build_registry(settings, plans.models, plans.tasks, self._engine, in_turn=False)
        self._app = make_app(self._registry, settings, plans.tasks)
        wait = max((model.restart_wait for model in settings.local_models), default=0.0)
        await asyncio.wait({self._registry.begin()}, timeout=wait)

    def _engine(self, config: EngineConfig, plan: ModelPlan) -> Engine:
        replicas = RayReplicas(self._engines[plan.settings], serve.get_replica_context().app_name)
        return ClusterEngine(replicas, config, self._settings.api_replicas)

    async def end_answers(self) -> None:
        """Begin to end: open requests get the time that a server gives them when it stops."""
        self._ending = asyncio.create_task(self._end_late())

    async def _end_late(self) -> None:
        await asyncio.sleep(self._settings.drain_seconds + self._settings.shutdown_seconds)
        await self._registry.stop()

    def __serve_build_asgi_app__(self) -> FastAPI:
        return self._app


def build(settings: Settings) -> Application:
    """Return the application that serves ``settings``. Reads the headers of the model files that are here already."""
    settings = cluster_settings(settings)
    engines = [
        _engines(settings, model, name)
        for model, name in zip(settings.local_models, deployment_names(settings), strict=True)
    ]
    api = serve.deployment(serve.ingress()(ApiDeployment)).options(
        name=API,
        num_replicas=settings.api_replicas,
        max_ongoing_requests=settings.max_connections,
        ray_actor_options={"num_cpus": settings.api_cpus},
        **_update(settings),
    )
    return api.bind(settings, engines)


def application(arguments: Mapping[str, str]) -> Application:
    """Return the application for a config file of `serve`: ``arguments`` are settings, and ``config`` a TOML file.

    Raises:
        SettingsError: a setting is unknown or has a value that it cannot have.
    """
    given = dict(arguments)
    config = given.pop("config", None)
    return build(load_settings(given, config_file=Path(config) if config else None))


def _engines(settings: Settings, model: ModelSettings, name: str) -> Application:
    scaled = scaling(settings, model)
    return (
        serve.deployment(EngineDeployment)
        .options(
            name=name,
            ray_actor_options=dict(_placement(settings, model)),
            request_router_config=RequestRouterConfig(request_router_class=TokenRouter),
            health_check_period_s=5.0,
            **_update(settings),
            **scaled.options,
        )
        .bind(without_keys(settings), model)
    )


def _update(settings: Settings) -> Mapping[str, float]:
    """Return how replicas are replaced: one after the other, the new one first, and the old one ends its requests."""
    return {"max_surge_percent": 1, "graceful_shutdown_timeout_s": settings.request_timeout or 3600.0}


def _placement(settings: Settings, model: ModelSettings) -> Mapping[str, float]:
    """Return the resources that a replica asks for; by the model's file, where it is here already."""
    try:
        facts = check_gguf(find_source(model.model, model.quant, settings.cache_dir).gguf)
    except (UnknownModelError, ModelLoadError):
        return place(model, 0, 0, 0).actor_options
    return place(model, facts.size_bytes, facts.kv_bytes_per_token, facts.context_train).actor_options
