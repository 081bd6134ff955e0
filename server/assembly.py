"""From settings to a server that only has to be run: the one place where the parts meet."""

import time
from dataclasses import dataclass
from functools import partial

from fastapi import FastAPI

from models.catalog import CATALOG, SamplingDefaults
from server.app import ApiOptions, create_app
from server.engine.client import EngineClient
from server.engine.gguf_check import ModelFacts
from server.engine_settings import engine_config
from server.prompts.format import prompt_format
from server.registry import ModelCard, ModelRegistry, ServedModel
from server.settings import Settings
from server.sources import ModelSource
from server.tokenizer import load_tokenizer


class AssemblyError(Exception):
    """The settings do not fit the model."""


@dataclass(frozen=True, slots=True)
class Assembly:
    """A model and the application that serves it."""

    model: ServedModel
    app: FastAPI


def assemble(settings: Settings, source: ModelSource, facts: ModelFacts) -> Assembly:
    """Put the parts together; nothing is loaded yet.

    Raises:
        AssemblyError: the prompt format is unknown or not said at all, or an alias is the model's name.
    """
    chosen = settings.prompt_format or facts.prompt_format
    if not chosen:
        raise AssemblyError(
            f"{facts.path}: the file does not say how its prompts are written (it was not made by glmserve convert); "
            "say it with --prompt-format"
        )
    try:
        model = ServedModel(
            _card(settings, source, chosen),
            EngineClient(engine_config(settings, source, facts)),
            prompt_format(chosen),
            partial(load_tokenizer, facts.path),
        )
        registry = ModelRegistry([model])
    except ValueError as error:
        raise AssemblyError(str(error)) from None
    return Assembly(model, create_app(registry, api_options(settings)))


def api_options(settings: Settings) -> ApiOptions:
    """Return what the HTTP side goes by."""
    return ApiOptions(max_body_bytes=int(settings.max_body_mb * 1e6))


def _card(settings: Settings, source: ModelSource, format_name: str) -> ModelCard:
    return ModelCard(
        name=settings.model_name or source.name,
        created=int(time.time()),
        aliases=settings.alias,
        defaults=_defaults(source, format_name),
        default_max_tokens=settings.default_max_tokens,
    )


def _defaults(source: ModelSource, format_name: str) -> SamplingDefaults:
    """Return the sampling of the model, or of the first known one that is prompted the same way."""
    if source.entry is not None:
        return source.entry.defaults
    same = (entry.defaults for entry in CATALOG if entry.prompt_format == format_name)
    return next(same, SamplingDefaults())
