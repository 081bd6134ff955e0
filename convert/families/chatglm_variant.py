"""Which ChatGLM a checkpoint is: one architecture and one config.json, but other tokens, prompts and rotations.

Copies and fine-tunes are renamed freely, so what the files hold counts for more than what anything is called.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from glmserve.convert.checkpoint.config import ConfigFile, model_name
from glmserve.convert.errors import CheckpointError, UnsupportedModelError, VocabularyError
from glmserve.convert.gguf_format import FamilyName
from glmserve.convert.vocab.tokenizer_model import is_tiktoken, read_model

MEMBERS = (FamilyName.CHATGLM2, FamilyName.CHATGLM3, FamilyName.CODEGEEX2, FamilyName.GLM4)

TOKENIZER_CODE = "tokenization_chatglm.py"

_NAMES = (
    (re.compile(r"codegeex-?2", re.I), FamilyName.CODEGEEX2),
    (re.compile(r"chatglm-?3", re.I), FamilyName.CHATGLM3),
    (re.compile(r"chatglm-?2", re.I), FamilyName.CHATGLM2),
)
"""GLM-4 is not among them: its tokenizer.model is of another kind, which is seen before any name."""

_CHATGLM3_CONTEXT = 8192
"""seq_length of ChatGLM3-6B; ChatGLM2-6B has 32768."""


@dataclass(frozen=True, slots=True)
class Variant:
    """The model of the family, and the reason for the choice."""

    family: FamilyName
    reason: str
    is_certain: bool = True
    """False where the reason is a field that fine-tunes often change, or there is none."""

    @property
    def finding(self) -> str:
        """One line for people."""
        return f"family: {self.family.value}, because {self.reason}"


def decide_variant(file: ConfigFile, asked: FamilyName | None) -> Variant:
    """Detect the model from a checkpoint folder, or take the user's choice.

    Raises:
        UnsupportedModelError: the user asks for a family that a ChatGLM cannot be.
    """
    if asked is not None:
        if asked not in MEMBERS:
            raise UnsupportedModelError(file.path, f"this is a ChatGLM, which cannot be converted as {asked.value}")
        return Variant(asked, "that was asked for")
    for look in _LOOKS:
        kind = look(file)
        if kind is not None:
            return kind
    return Variant(FamilyName.CHATGLM2, "nothing in the folder says otherwise", is_certain=False)


def _by_tokenizer_model(file: ConfigFile) -> Variant | None:
    path = file.folder / "tokenizer.model"
    if is_tiktoken(path):
        return Variant(FamilyName.GLM4, "tokenizer.model is a byte-level vocabulary")
    try:
        spaced = read_model(path).add_dummy_prefix
    except (CheckpointError, VocabularyError):
        return None  # said again, with advice, where the vocabulary is needed
    return None if spaced else Variant(FamilyName.CODEGEEX2, "tokenizer.model puts no space before a text")


def _by_tokenizer_config(file: ConfigFile) -> Variant | None:
    if "<|user|>" in _text(file.folder / "tokenizer_config.json"):
        return Variant(FamilyName.CHATGLM3, "tokenizer_config.json has role tokens")
    return None


def _by_tokenizer_code(file: ConfigFile) -> Variant | None:
    text = _text(file.folder / TOKENIZER_CODE)
    if "<|user|>" in text:
        return Variant(FamilyName.CHATGLM3, f"{TOKENIZER_CODE} has role tokens")
    return None


def _by_name(file: ConfigFile) -> Variant | None:
    names = (
        ("config.json", file.original_name),
        ("tokenizer_config.json", _json_name(file.folder / "tokenizer_config.json")),
    )
    for where, name in names:
        for pattern, family in _NAMES:
            if pattern.search(name):
                return Variant(family, f"{where} names {name}")
    return None


def _by_rounds(file: ConfigFile) -> Variant | None:
    if "问：" in _text(file.folder / TOKENIZER_CODE):
        return Variant(FamilyName.CHATGLM2, f"{TOKENIZER_CODE} has rounds of question and answer")
    return None


def _by_folder(file: ConfigFile) -> Variant | None:
    name = model_name(file.folder)
    for pattern, family in _NAMES:
        if pattern.search(name):
            return Variant(family, f"the folder is called {name}", is_certain=False)
    return None


def _by_context(file: ConfigFile) -> Variant | None:
    if file.raw.get("seq_length") == _CHATGLM3_CONTEXT:
        return Variant(FamilyName.CHATGLM3, f"seq_length is {_CHATGLM3_CONTEXT}", is_certain=False)
    return None


_LOOKS: tuple[Callable[[ConfigFile], Variant | None], ...] = (
    _by_tokenizer_model,
    _by_tokenizer_config,
    _by_tokenizer_code,
    _by_name,
    _by_rounds,  # after the names: CodeGeeX2 has ChatGLM2's code
    _by_folder,
    _by_context,
)
"""Ordered by weight; the first one with a result decides."""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _json_name(path: Path) -> str:
    try:
        document: object = json.loads(_text(path) or "{}")
    except ValueError:
        return ""
    name = document.get("name_or_path") if isinstance(document, dict) else None
    return name if isinstance(name, str) else ""
