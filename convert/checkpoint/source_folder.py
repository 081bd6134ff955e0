"""Finding the checkpoint inside the folder that was named, and a name for its model."""

from pathlib import Path

from glmserve.convert.errors import UnsupportedModelError

_CONFIGS = ("config.json", "adapter_config.json")
_CACHED = "models--"
_SNAPSHOTS = "snapshots"
_STEP = "checkpoint-"
"""Prefix of the folders that a trainer saves to."""


def is_checkpoint(folder: Path) -> bool:
    """Tell whether a folder has the configuration of a model or of an adapter."""
    return any((folder / name).exists() for name in _CONFIGS)


def find_checkpoint(folder: Path) -> Path:
    """Return ``folder``, or the only checkpoint below it: of a hub's cache, or of a training's output folder.

    Where there is none, that is told when its configuration is read.

    Raises:
        UnsupportedModelError: there are several.
    """
    if is_checkpoint(folder) or not folder.is_dir():
        return folder
    if (folder / _SNAPSHOTS).is_dir():
        return _snapshot(folder)
    found = sorted((one for one in folder.iterdir() if one.is_dir() and is_checkpoint(one)), key=_order)
    if len(found) > 1:
        raise UnsupportedModelError(
            folder, f"holds {len(found)} checkpoints; name one of them: {', '.join(one.name for one in found[:20])}"
        )
    return found[0] if found else folder


def model_name(folder: Path) -> str:
    """Return the name of a model in ``folder``; a hub's cache or a training run has it in the folder above."""
    path = folder.resolve()
    repository = path.parent.parent.name
    if path.parent.name == _SNAPSHOTS and repository.startswith(_CACHED):
        return repository.rpartition("--")[2]
    if path.name.startswith(_CACHED):
        return path.name.rpartition("--")[2]
    if path.name.startswith(_STEP) and path.parent.name:
        return f"{path.parent.name}-{path.name}"
    return path.name


def _snapshot(repository: Path) -> Path:
    """Return the folder of the main branch, as the hub's own client finds it, or of the only commit."""
    try:
        named = (repository / "refs" / "main").read_text("utf-8").strip()
    except (OSError, ValueError):
        named = ""
    snapshots = sorted(one for one in (repository / _SNAPSHOTS).iterdir() if one.is_dir())
    chosen = [one for one in snapshots if one.name == named] or snapshots
    if len(chosen) > 1:
        raise UnsupportedModelError(
            repository, f"holds {len(chosen)} snapshots, and refs/main names none of them; name the folder of one"
        )
    return chosen[0] if chosen else repository


def _order(folder: Path) -> tuple[int, str]:
    step = folder.name.removeprefix(_STEP)
    return (int(step) if step.isdecimal() else 0, folder.name)
