"""The chat template of a model file, and the special tokens of its vocabulary. Pure."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from glmserve.engine.gguf.gguf_header import GgufHeader, Metadata

_MARKER = re.compile(r"<\|[^\s|]+\|>|<[|｜][^\s<>]+[|｜]>|<\|[a-z_]+>|<[a-z_]+\|>|<(?:start|end)_of_turn>")
_UNKNOWN, _CONTROL = 2, 3
"""enum llama_token_type of llama.h."""
_TEMPLATE = "tokenizer.chat_template"
_KEYS = ("bos", "eos", "eot", "eom")


@dataclass(frozen=True, slots=True)
class FileTemplate:
    """The chat template of a file, with the names that it needs."""

    text: str = ""
    """Jinja; empty where the file has none."""
    named: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Further ones by their names, such as ``tool_use``."""
    specials: tuple[str, ...] = field(default=(), repr=False)
    """Names of the tokens that text never becomes."""
    bos: str = ""
    eos: str = ""


def is_marker(name: str) -> bool:
    """Tell whether a token of this name marks a turn. Some files have such tokens as user-defined text."""
    return _MARKER.fullmatch(name) is not None


def file_template(header: GgufHeader) -> FileTemplate:
    """Return the template of a file with this header."""
    pieces = header.metadata.get("tokenizer.ggml.tokens")
    names = [piece.decode("utf-8", "replace") for piece in pieces] if isinstance(pieces, tuple) else []
    ids = {key: header.metadata.get(f"tokenizer.ggml.{key}_token_id") for key in _KEYS}
    said = {key: names[i] for key, i in ids.items() if isinstance(i, int) and 0 <= i < len(names)}
    special = {name for name, kind in zip(names, header.token_types, strict=False) if kind in (_UNKNOWN, _CONTROL)}
    marks = {name for name in names if name[:1] == "<" and is_marker(name)}
    text = header.metadata.get(_TEMPLATE, "")
    return FileTemplate(
        text=text if isinstance(text, str) else "",
        named=dict(_named(header.metadata)),
        specials=tuple(sorted(special | marks | set(said.values()))),
        bos=said.get("bos", ""),
        eos=said.get("eos", ""),
    )


def _named(metadata: Metadata) -> Iterator[tuple[str, str]]:
    for key, value in metadata.items():
        name = key.removeprefix(f"{_TEMPLATE}.")
        if name != key and isinstance(value, str):
            yield name, value
