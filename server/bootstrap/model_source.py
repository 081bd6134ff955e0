"""Which file a MODEL means, its conversion where it is a checkpoint folder, and the checks of a model's files."""

import glob
import hashlib
import logging
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from glmserve import convert, models
from glmserve.config.schema import ModelSettings
from glmserve.config.values import Quant
from glmserve.convert.checkpoint.config import find_checkpoint, is_checkpoint, model_name
from glmserve.convert.errors import OutputBusyError, OutputError, UnsupportedModelError
from glmserve.convert.quantize.recipes import QuantType
from glmserve.engine.gguf.adapter_check import check_adapter, check_prefix
from glmserve.engine.gguf.gguf_check import ModelFacts, check_gguf
from glmserve.models.catalog import EMBEDDED, CatalogEntry, find, why_not

if TYPE_CHECKING:
    from glmserve.convert.pipeline import ProgressSink

log = logging.getLogger(__name__)

_BUSY_SECONDS = 0.5
"""How often to look whether another process has converted a checkpoint."""
_CHECKPOINT_FILES = ("*.json", "*.jinja", "*.model", "*.txt", "*.safetensors", "*.bin", "*_Pooling/*.json")


class UnknownModelError(Exception):
    """The MODEL is no file, no folder and no known name, or has no such file; the message says how to proceed."""


@dataclass(frozen=True, slots=True)
class ModelSource:
    """The GGUF that serves a MODEL, and the checkpoint it is made from where it is not there yet."""

    name: str
    """For callers, unless set otherwise."""
    gguf: Path
    entry: CatalogEntry | None = None
    checkpoint: Path | None = None
    quant: QuantType | None = None
    """Only with a checkpoint."""

    @property
    def needs_conversion(self) -> bool:
        """Whether ``convert_source`` has work to do."""
        return self.checkpoint is not None and not self.gguf.exists()


def find_source(model: str, quant: Quant, cache_dir: Path) -> ModelSource:
    """Resolve ``model``: empty is the embedded model, then a path, then a name of the catalogue.

    Raises:
        UnknownModelError: it means nothing, or a catalog model that is not on this machine.
    """
    if not model:
        return _embedded(quant, cache_dir)
    path = Path(model).expanduser()
    if path.is_dir():
        return _of_folder(path.resolve(), quant, cache_dir)
    if path.exists():
        return _of_file(path)
    entry = find(model)
    if entry is EMBEDDED:
        return _embedded(quant, cache_dir)
    # What `convert` wrote here: by the name that -o gave it, or by its usual one.
    written = path.with_name(path.name + ".gguf") if path.name else path
    if beside := written if written.is_file() else _in_cache(path.name, quant, path.parent):
        return _of_file(beside)
    name = entry.name if entry else model
    if cached := _in_cache(name, quant, cache_dir):
        return ModelSource(name=name, gguf=cached, entry=entry)
    if reason := why_not(model):
        raise UnknownModelError(reason)
    if entry is not None:
        raise UnknownModelError(f"{name} is not on this machine{_as(quant)}; glmserve pull {name} downloads it")
    raise UnknownModelError(
        f"{model}: no such file or folder, and not the name of a known model; "
        "give a .gguf file, a checkpoint folder, or nothing for the embedded model"
    )


def _of_file(path: Path) -> ModelSource:
    name = _without_type(path.stem)
    return ModelSource(name=name, gguf=path, entry=find(name))


def _of_folder(folder: Path, quant: Quant, cache_dir: Path) -> ModelSource:
    """Return the checkpoint in a folder, or else the one GGUF file in it. Raises UnknownModelError."""
    try:
        checkpoint = find_checkpoint(folder)
    except UnsupportedModelError as error:
        raise UnknownModelError(str(error)) from None
    files = sorted(folder.glob("*.gguf"))
    if is_checkpoint(checkpoint) or not files:
        name = model_name(checkpoint)
        return _checkpoint(checkpoint, name, quant, cache_dir, find(name))
    if len(files) > 1:
        raise UnknownModelError(
            f"{folder} has {len(files)} GGUF files; name one of them: {', '.join(file.name for file in files[:20])}"
        )
    return _of_file(files[0])


def convert_source(source: ModelSource, progress: "ProgressSink | None" = None) -> None:
    """Convert the checkpoint of ``source`` unless that has been done, and delete the conversion that it replaces.

    Where another process converts it just now, that is waited for.

    Raises:
        ConvertError: the checkpoint cannot be converted.
    """
    if source.checkpoint is None or source.quant is None or not source.needs_conversion:
        return
    from glmserve.convert.pipeline import convert_checkpoint  # noqa: PLC0415 - most starts convert nothing

    make_folder(source.gguf.parent)
    waiting = False
    while source.needs_conversion:
        try:
            convert_checkpoint(source.checkpoint, source.gguf, source.quant, progress)
        except OutputBusyError:
            if not waiting:
                log.info("another process converts %s to %s; waiting for it", source.checkpoint, source.gguf)
            waiting = True
            time.sleep(_BUSY_SECONDS)
    prefix = source.gguf.name.rpartition("-")[0]
    for older in source.gguf.parent.glob(f"{prefix}-*.gguf"):
        if older != source.gguf:
            older.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make a folder for converted models, or one inside of it. Raises OutputError: it cannot be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(folder, error.strerror or str(error)) from None
    check_folder(folder)


def check_folder(folder: Path) -> None:
    """Raise OutputError where a folder for converted models cannot be written to, or not be made; nothing is made."""
    try:
        there = next(place for place in (folder, *folder.parents) if place.exists())
    except OSError as error:
        raise _unusable(folder, error.strerror or str(error)) from None
    if not there.is_dir():
        raise _unusable(folder, f"{there} is not a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise _unusable(folder, "not writable" if there == folder else f"{there} is not writable")


def _unusable(folder: Path, reason: str) -> OutputError:
    return OutputError(f"{folder}: {reason}; name a folder for converted models with --cache-dir")


def _embedded(quant: Quant, cache_dir: Path) -> ModelSource:
    folder = Path(models.__file__).parent / "tiny"
    # Eight bits cost the small model nothing that shows, and four would save it three megabytes.
    chosen = Quant.Q8_0 if quant is Quant.AUTO else quant
    return _checkpoint(folder, EMBEDDED.name, chosen, cache_dir, EMBEDDED)


def _checkpoint(folder: Path, name: str, quant: Quant, cache_dir: Path, entry: CatalogEntry | None) -> ModelSource:
    kind = _usual_quant(folder) if quant is Quant.AUTO else QuantType(quant.value)
    where = _digest([str(folder)])
    file = f"{name}-{kind.value}-{where}-{_digest(_state(folder))}.gguf"
    return ModelSource(name=name, gguf=cache_dir / "converted" / file, entry=entry, checkpoint=folder, quant=kind)


def _usual_quant(folder: Path) -> QuantType:
    from glmserve.convert.pipeline import usual_quant  # noqa: PLC0415 - see above

    return usual_quant(folder)


def _without_type(stem: str) -> str:
    """Return the name of a model whose file is called NAME.TYPE.gguf, as ``glmserve convert`` does it."""
    name, _, kind = stem.rpartition(".")
    return name if name and kind in {known.value for known in QuantType} else stem


def _in_cache(name: str, quant: Quant, cache_dir: Path) -> Path | None:
    """Return the file of a pulled model in the cache: of the requested type, or else of the default type."""
    if "/" in name:
        return None
    files = sorted(cache_dir.glob(f"{glob.escape(name)}.*gguf"))
    wanted = Quant.Q4_K_M if quant is Quant.AUTO else quant
    best = [file for file in files if file.name == f"{name}.{wanted.value}.gguf"]
    return next(iter(best or (files if quant is Quant.AUTO else [])), None)


def _as(quant: Quant) -> str:
    return "" if quant is Quant.AUTO else f" as {quant.value}"


def _state(folder: Path) -> Iterable[str]:
    """Yield the inputs of a conversion of ``folder``: its files, and the converter itself."""
    for pattern in _CHECKPOINT_FILES:
        for file in sorted(folder.glob(pattern)):
            status = file.stat()
            yield f"{file.name} {status.st_size} {status.st_mtime_ns}"
    for module in sorted(Path(convert.__file__).parent.rglob("*.py")):
        yield module.read_text("utf-8")


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:10]


def check_adapters(model: ModelSettings) -> None:
    """Look for the files of the adapters, before anything large is read.

    Raises:
        UnknownModelError: one is not there.
    """
    for adapter in model.variants:
        for file in filter(None, (adapter.lora, adapter.prefix)):
            if file.is_dir():
                raise UnknownModelError(f"{file} is a folder; convert it first: glmserve convert {file} -o FILE.gguf")
            if not file.is_file():
                raise UnknownModelError(f"{file}: no such file; the adapter {adapter.name} needs it")


def check_model(model: ModelSettings, source: ModelSource) -> ModelFacts:
    """Check the file of a model and its adapters, as the engine does before it loads them.

    Raises:
        ModelLoadError: one of them cannot be served; the message says why.
    """
    facts = check_gguf(source.gguf)
    for adapter in model.variants:
        if adapter.lora:
            check_adapter(adapter.lora, facts)
        if adapter.prefix:
            check_prefix(adapter.prefix, facts)
    return facts
