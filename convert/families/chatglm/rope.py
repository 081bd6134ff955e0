"""Meaning of ``rope_ratio``: ChatGLM2-32k divides positions by it, all its successors multiply the base by it."""

import re

from glmserve.convert.checkpoint.config import ConfigFile
from glmserve.convert.errors import UnsupportedModelError
from glmserve.convert.families.chatglm.tensors import Rope
from glmserve.convert.families.chatglm.variant import Variant
from glmserve.convert.family_name import FamilyName

MODEL_CODE = "modeling_chatglm.py"
"""The authors' code in the folder, read as text and never run."""

_DIVIDES = re.compile(r"/\s*(?:self\.)?rope_ratio\b")
_MULTIPLIES = re.compile(r"\*\s*(?:self\.)?rope_ratio\b|\b(?:self\.)?rope_ratio\s*\*")


def decide_rope(file: ConfigFile, kind: Variant) -> tuple[Rope, tuple[str, ...]]:
    """Return the rotation, and the reason where the checkpoint left a choice.

    Raises:
        CorruptFileError: the ratio is no positive number.
        UnsupportedModelError: nothing in the folder says what the ratio means.
    """
    if file.raw.get("rope_ratio") in (None, 1, 1.0):
        return Rope(), ()
    ratio = file.positive_number("rope_ratio")
    divides, reason = _by_code(file) or _by_family(file, kind)
    if divides:
        return Rope(factor=ratio), (f"rope: positions are divided by {ratio:g}, because {reason}",)
    base = Rope().base * ratio
    return Rope(base=base), (f"rope: the base is {base:g}, multiplied by {ratio:g}, because {reason}",)


def _by_code(file: ConfigFile) -> tuple[bool, str] | None:
    try:
        code = (file.folder / MODEL_CODE).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    divides, multiplies = bool(_DIVIDES.search(code)), bool(_MULTIPLIES.search(code))
    return None if divides == multiplies else (divides, f"{MODEL_CODE} does so")


def _by_family(file: ConfigFile, kind: Variant) -> tuple[bool, str]:
    if not kind.is_certain:
        raise UnsupportedModelError(
            file.path,
            f"rope_ratio is {file.raw['rope_ratio']}, which ChatGLM2 and ChatGLM3 use in different ways; say which "
            f"it is with --family, or copy {MODEL_CODE} of the original into the folder",
        )
    return kind.family is FamilyName.CHATGLM2, f"{kind.family.value} does so ({kind.reason})"
