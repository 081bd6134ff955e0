"""From settings to the application and its options."""

from collections.abc import Mapping
from dataclasses import fields, replace
from types import MappingProxyType

from fastapi import FastAPI

from glmserve.batches.records import DAY_S
from glmserve.batches.runner import RunnerOptions
from glmserve.batches.service import BatchOptions
from glmserve.bootstrap.app import ApiOptions, create_app
from glmserve.bootstrap.prerequisites import limits_of, read_keys, span_maker
from glmserve.chat.tasks.task import Task
from glmserve.config.schema import Settings
from glmserve.http.origins import is_loopback_host
from glmserve.model_pool.registry import ModelRegistry

LINES_PER_PLACE = 2
"""Lines of a batch that are asked at once, for each sequence that the engine computes: the next ones wait there."""

_NO_TASKS: Mapping[str, Task] = MappingProxyType({})

_PASSED = sorted({field.name for field in fields(ApiOptions)} & Settings.model_fields.keys())
"""Settings that the API gets under their own names."""


def make_app(registry: ModelRegistry, settings: Settings, tasks: Mapping[str, Task]) -> FastAPI:
    """Return the application that serves ``registry``; ``tasks`` are the stored prompts. Raises AssemblyError."""
    spans = span_maker()() if settings.tracing else None
    return create_app(registry, replace(api_options(settings, tasks), spans=spans))


def api_options(settings: Settings, tasks: Mapping[str, Task] = _NO_TASKS) -> ApiOptions:
    """Return the options of the API; ``tasks`` are the stored prompts.

    Raises:
        AssemblyError: a key is not written as one, or their file cannot be read.
    """
    return ApiOptions(
        max_body_bytes=int(settings.max_body_mb * 1e6),
        cors_origins=settings.cors_origin,
        allowed_hosts=settings.allowed_host,
        on_loopback=is_loopback_host(settings.host.lower()),
        max_responses=settings.response_store_max,
        max_response_bytes=int(settings.response_store_mb * 1e6),
        tasks=tasks,
        keys=read_keys(settings),
        limits=limits_of(settings),
        batches=batch_options(settings),
        **{name: getattr(settings, name) for name in _PASSED},
    )


def batch_options(settings: Settings) -> BatchOptions | None:
    """Return where batches are kept, or None where none are served."""
    if not settings.batch_store_mb:
        return None
    at_once = LINES_PER_PLACE * max(model.parallel for model in settings.models)
    return BatchOptions(
        folder=settings.batch_dir or settings.cache_dir / "batches",
        most_bytes=int(settings.batch_store_mb * 1e6),
        most_file_bytes=int(settings.batch_file_mb * 1e6),
        file_seconds=int(settings.batch_file_days * DAY_S),
        runner=RunnerOptions(lines_at_once=at_once, most_line_bytes=int(settings.max_body_mb * 1e6)),
    )
