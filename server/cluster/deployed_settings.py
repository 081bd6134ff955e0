"""The settings as the processes of a cluster get them, and the names of their deployments."""

import re
from collections.abc import Sequence
from pathlib import Path

from glmserve.cluster.placement import as_placed
from glmserve.config.schema import ModelSettings, Settings
from glmserve.config.values import Load

API = "api"
"""Name of the deployment that answers HTTP."""
_CHARACTERS = re.compile(r"[^A-Za-z0-9_.-]+")


def cluster_settings(settings: Settings) -> Settings:
    """Return the settings for the processes of a cluster, which loads and unloads the models itself."""
    settings = _absolute(settings)
    always = {"load": Load.START, "idle_seconds": 0.0}
    models = tuple(as_placed(model).model_copy(update=always) for model in settings.models)
    alone = {} if settings.api_replicas == 1 else {"batch_store_mb": 0.0, "response_store_mb": 0.0}
    return settings.model_copy(update={"models": models, **alone})


def without_keys(settings: Settings) -> Settings:
    """Return the settings for engines, which need no API keys."""
    return settings.model_copy(update={"api_key": (), "api_key_file": None})


def deployment_names(settings: Settings) -> Sequence[str]:
    """Return a name for the engine deployment of each model."""
    names: list[str] = []
    for number, model in enumerate(settings.local_models, 1):
        wanted = _CHARACTERS.sub("-", model.name or Path(model.model or "embedded").name).strip("-") or "model"
        names.append(wanted if wanted not in (*names, API) else f"{wanted}-{number}")
    return names


def _absolute(settings: Settings) -> Settings:
    """Return the settings with paths that mean the same in every process, in any folder."""

    def here(model: ModelSettings) -> ModelSettings:
        adapters = tuple(
            adapter.model_copy(
                update={
                    "lora": adapter.lora and adapter.lora.expanduser().absolute(),
                    "prefix": adapter.prefix and adapter.prefix.expanduser().absolute(),
                    "pin": tuple(map(_path, adapter.pin)),
                }
            )
            for adapter in model.variants
        )
        key = model.upstream_key_file and model.upstream_key_file.expanduser().absolute()
        named = {
            "model": _path(model.model),
            "chat_template": _path(model.chat_template),
            "upstream_key_file": key,
        }
        return model.model_copy(update={**named, "pin": tuple(map(_path, model.pin)), "variants": adapters})

    paths = ("cache_dir", "batch_dir", "prompts", "api_key_file")
    given = {name: path.expanduser().absolute() for name in paths if (path := getattr(settings, name)) is not None}
    return settings.model_copy(update={**given, "models": tuple(map(here, settings.models))})


def _path(name: str) -> str:
    """Return the whole path of a file that is here; anything else as it is."""
    return str(Path(name).expanduser().absolute()) if name and Path(name).expanduser().exists() else name
