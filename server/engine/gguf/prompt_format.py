"""Which prompt format a model file has that does not say so: a file of our families that others made. Pure.

llama.cpp's converter leaves its mark in ``tokenizer.ggml.pre`` and keeps the special tokens of the family. Where that
says nothing, or the file's chat template says otherwise, the template is the format.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from glmserve.engine.gguf.gguf_header import Metadata

TEMPLATE = "template"
"""The format that a file's own chat template is."""

BAICHUAN_ROLE_IDS = (195, 196)
"""Tokens of user and assistant in every Baichuan chat model; their names are reserved ones."""
_BAICHUAN2_USER = b"<reserved_106>"
"""Its name in Baichuan2; the first Baichuan has another."""

_ROLES = frozenset({b"<|system|>", b"<|user|>", b"<|assistant|>", b"<|observation|>"})
_SENTENCEPIECE, _BYTE_LEVEL = "llama", "gpt2"


@dataclass(frozen=True, slots=True)
class FormatInference:
    """A prompt format, and the evidence for it."""

    name: str = ""
    """Empty where the file says nothing, or too little to decide."""
    reason: str = ""
    """In words that follow "inferred from" or, without a name, the file's name; empty for a file that says it."""
    candidates: tuple[str, ...] = ()
    """The formats that it may be, where that is not decided."""


@dataclass(frozen=True, slots=True)
class _Rule:
    """The properties of a file of one format. Empty means any."""

    name: str
    architecture: str
    tokenizer: str = ""
    pre: tuple[str, ...] = ()
    """Values of ``tokenizer.ggml.pre``; files from before that key have none."""
    has: frozenset[bytes] = frozenset()
    lacks: frozenset[bytes] = frozenset()
    model_name: str = ""
    """Part of ``general.name``: it decides where several rules hold."""
    template: str = ""
    """Part of the chat template, where there is one."""


_OLD_PRE = ("", "default")
_RULES = (
    _Rule("glm4-0414", "glm4", _BYTE_LEVEL, has=_ROLES, template="[gMASK]"),
    _Rule("glm4", "chatglm", _BYTE_LEVEL, ("chatglm-bpe", "glm4"), has=_ROLES, template="[gMASK]"),
    _Rule("chatglm3", "chatglm", _SENTENCEPIECE, ("chatglm-spm", *_OLD_PRE), has=_ROLES, template="[gMASK]"),
    _Rule("chatglm2", "chatglm", _SENTENCEPIECE, lacks=_ROLES, model_name="chatglm2", template="问"),
    _Rule("codegeex2", "chatglm", _SENTENCEPIECE, lacks=_ROLES, model_name="codegeex"),
    _Rule("baichuan", "baichuan", _SENTENCEPIECE, template="<reserved_"),
    _Rule("baichuan2", "baichuan", _SENTENCEPIECE, template="<reserved_"),
)


def infer_prompt_format(metadata: Metadata) -> FormatInference:
    """Return the format that the file says or, where it does not, that its vocabulary and architecture show."""
    pieces = metadata.get("tokenizer.ggml.tokens")
    pieces = pieces if isinstance(pieces, tuple) else ()
    if said := _text(metadata, "glmserve.prompt_format"):
        # Files that were converted before the two had formats of their own.
        return FormatInference("baichuan2" if said == "baichuan" and _is_baichuan2(pieces) else said)
    special = frozenset(pieces) & _ROLES
    fitting = [rule for rule in _RULES if _fits(rule, metadata, pieces, special)]
    template = _text(metadata, "tokenizer.chat_template")
    named = [rule for rule in fitting if rule.model_name and rule.model_name in _squeezed(metadata)]
    if len(fitting) > 1 and not named and template:
        named = [rule for rule in fitting if rule.template and rule.template in template]
    chosen = named or fitting
    candidates = tuple(rule.name for rule in fitting)
    if template and (len(chosen) != 1 or chosen[0].template not in template):
        return FormatInference(TEMPLATE, "its own chat template")
    if len(chosen) != 1:
        return FormatInference("", _doubt(metadata, several=len(chosen) > 1), candidates)
    return FormatInference(chosen[0].name, _evidence(metadata, special, by_name=bool(named)))


def _fits(rule: _Rule, metadata: Metadata, pieces: Sequence[bytes], special: frozenset[bytes]) -> bool:
    if rule.architecture != _text(metadata, "general.architecture"):
        return False
    if rule.tokenizer != _text(metadata, "tokenizer.ggml.model"):
        return False
    if rule.pre and _text(metadata, "tokenizer.ggml.pre") not in rule.pre:
        return False
    if rule.architecture == "baichuan" and not has_baichuan_roles(dict(enumerate(pieces[:200]))):
        return False
    if rule.architecture == "baichuan" and _is_baichuan2(pieces) != (rule.name == "baichuan2"):
        return False
    return rule.has <= special and not rule.lacks & special


def _is_baichuan2(pieces: Sequence[bytes]) -> bool:
    user = BAICHUAN_ROLE_IDS[0]
    return len(pieces) > user and pieces[user] == _BAICHUAN2_USER


def has_baichuan_roles(pieces: Mapping[int, bytes]) -> bool:
    """Tell whether the tokens of the two roles have the names that Baichuan and Baichuan2 give them."""
    return all(pieces.get(i, b"").startswith(b"<reserved_") for i in BAICHUAN_ROLE_IDS)


def _evidence(metadata: Metadata, special: frozenset[bytes], *, by_name: bool) -> str:
    """Return the evidence for the format, in words."""
    parts = [f"architecture {_text(metadata, 'general.architecture')}"]
    if pre := _text(metadata, "tokenizer.ggml.pre"):
        parts.append(f"pre-tokenizer {pre}")
    if special:
        parts.append(f"the special tokens {' '.join(sorted(piece.decode() for piece in special))}")
    if by_name:
        parts.append("its name or chat template")
    return ", ".join(parts)


def _doubt(metadata: Metadata, *, several: bool) -> str:
    if several:
        return "may be of several families, which have the same vocabulary"
    architecture, pre = _text(metadata, "general.architecture"), _text(metadata, "tokenizer.ggml.pre")
    which = f"architecture {architecture!r}, pre-tokenizer {pre!r}"
    return f"has no chat template, and a vocabulary of no family that is known here ({which})"


def _squeezed(metadata: Metadata) -> str:
    """Return the model's name without the marks that people put into it: "ChatGLM2 6B" and "chatglm-2-6b" agree."""
    return "".join(c for c in _text(metadata, "general.name").lower() if c.isalnum())


def _text(metadata: Metadata, key: str) -> str:
    value = metadata.get(key, "")
    return value if isinstance(value, str) else ""
