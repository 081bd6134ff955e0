"""How sentence-transformers makes a vector of a text, read from the files that it keeps beside a checkpoint."""

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from glmserve.convert.checkpoint.config import read_json_list, read_json_object
from glmserve.convert.errors import CorruptFileError, MissingFileError, UnsupportedModelError

_MODULES = "modules.json"
_CONFIG = "config.json"
_PLACE = "1_Pooling"


class Pooling(IntEnum):
    """Enum llama_pooling_type of llama.h."""

    MEAN = 1
    CLS = 2
    LAST = 3
    RANK = 4


_MODES = {
    "pooling_mode_cls_token": Pooling.CLS,
    "pooling_mode_mean_tokens": Pooling.MEAN,
    "pooling_mode_lasttoken": Pooling.LAST,
}
_NAMES = {"cls": Pooling.CLS, "mean": Pooling.MEAN, "lasttoken": Pooling.LAST}


@dataclass(frozen=True, slots=True)
class VectorRecipe:
    """From the vectors of the tokens to the one of the text."""

    pooling: Pooling
    normalized: bool
    """Whether vectors have length 1."""
    finding: str
    """For people."""


def read_recipe(folder: Path) -> VectorRecipe:
    """Return how ``folder`` says that a vector is made.

    Raises:
        MissingFileError: it does not say.
        CorruptFileError: a file makes no sense.
        UnsupportedModelError: the vectors take steps that llama.cpp does not have.
    """
    modules = _modules(folder)
    if not modules and not (folder / _PLACE / _CONFIG).exists():
        # As sentence-transformers takes a folder without its files, such as that of text2vec-large-chinese.
        return VectorRecipe(
            Pooling.MEAN,
            False,
            f"vectors: mean pooling, not normalised: the folder has no {_MODULES}, and sentence-transformers does so "
            "then; download it if the model has one",
        )
    pooling_folder = next((path for kind, path in modules if kind == "Pooling"), _PLACE)
    pooling = _pooling(folder / pooling_folder / _CONFIG)
    if unknown := [kind for kind, _ in modules if kind not in ("Transformer", "Pooling", "Normalize")]:
        raise UnsupportedModelError(
            folder / _MODULES, f"its vectors go through {', '.join(unknown)}, which llama.cpp does not have"
        )
    # Without the list, transformers' own models are meant, whose authors' examples normalise.
    normalized = not modules or any(kind == "Normalize" for kind, _ in modules)
    length = "normalised to length 1" if normalized else "not normalised"
    return VectorRecipe(pooling, normalized, f"vectors: {pooling.name.lower()} pooling, {length}")


def _modules(folder: Path) -> list[tuple[str, str]]:
    """Return kind and folder of each module, in order; empty where there is no list."""
    path = folder / _MODULES
    if not path.exists():
        return []
    modules = []
    for entry in read_json_list(path):
        kind, where = (entry.get("type"), entry.get("path")) if isinstance(entry, dict) else (None, None)
        # The path is part of a file name, and must not lead out of the folder.
        if not isinstance(kind, str) or not isinstance(where, str) or Path(where).name != where:
            raise CorruptFileError(path, "a module is no object with a type and a folder")
        modules.append((kind.rpartition(".")[2], where))
    return modules


def _pooling(path: Path) -> Pooling:
    if not path.exists():
        raise MissingFileError(
            path, "it says how a vector is made of those of the tokens; download it with the rest of the model"
        )
    raw = read_json_object(path, "")
    named = raw.get("pooling_mode")
    chosen = [mode for key, mode in _MODES.items() if raw.get(key) is True]
    if isinstance(named, str) and named in _NAMES:
        chosen = [_NAMES[named]]
    others = [key for key, value in raw.items() if key.startswith("pooling_mode_") and value is True]
    if len(chosen) != 1 or len(others) > 1:
        raise UnsupportedModelError(
            path, f"the pooling {', '.join(others) or named or 'of no mode'} is none of cls, mean and last token"
        )
    return chosen[0]
