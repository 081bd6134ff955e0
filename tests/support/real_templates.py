"""The chat templates of llama.cpp's sources, each on a real vocabulary, with the special tokens that it names."""

import re
import struct
from collections.abc import Sequence

from tests.support.gguf_file import STRING, Entry, GgufFile, packed
from tests.support.llama_sources import llama_models, template, vocabulary, with_template

_MARKER = re.compile(
    r"<[|｜][^\s<>|｜'\"{}]+[|｜]>|<\|[a-z_]+>|<[a-z_]+\|>|<(?:start|end)_of_turn>|\[gMASK\]|<sop>|<sep>|</?role>"
    r"|<seed:(?:bos|eos)>|<(?:begin|beginning|end)_of_(?:document|sentence)>|</?(?:assistant|user|system)>"
    r"|<SPECIAL_\d+>|\]~!?b\[|\]~b\]|\[e~\[|\[/?[A-Z_]{3,}\]"
)
_ROLES = ("<|system|>", "<|user|>", "<|assistant|>", "<|tool|>")
_INT32, _FLOAT, _CONTROL = 5, 6, 3

_FAMILIES = {
    "Qwen3.5": "qwen35", "Qwen": "qwen2", "deepseek-ai-DeepSeek-R1-Distill-Qwen": "qwen2",
    "deepseek-ai-DeepSeek-R1-Distill-Llama": "llama-bpe", "deepseek": "deepseek-llm",
    "llama-cpp-deepseek": "deepseek-llm",
    "Cohere": "command-r", "google-gemma-4": "gemma-4", "google-gemma-2": "llama-spm", "microsoft-Phi": "phi-3",
    "meta-llama": "llama-bpe", "meetkai": "llama-bpe", "fireworks": "llama-bpe", "NousResearch": "llama-bpe",
    "Bielik": "llama-spm", "ibm-granite": "refact", "MiMo": "qwen2", "MiniMax-M1": "baichuan", "openbmb": "baichuan",
    "GLM-4.6": "aquila",
}  # fmt: skip
"""A vocabulary by the beginning of a template's name: the model's own where there is one."""

_OTHERS = ("deepseek-coder", "starcoder", "gpt-2", "refact", "phi-3", "llama-spm", "gpt-neox", "mpt", "falcon")
"""Vocabularies for the templates of models whose own is not there."""

_ASSEMBLED = {
    "tencent-Hy3": [f"<｜hy_{name}:opensource｜>" for name in ("begin_of_sentence", "User", "Assistant", "eos", "pad")],
}
"""Special tokens that a template puts together from parts."""


def template_names() -> list[str]:
    """Return the names of all templates."""
    return sorted(path.stem for path in (llama_models() / "templates").glob("*.jinja"))


def template_model(name: str) -> GgufFile:
    """Return a vocabulary under the template ``name``, with all special tokens that the template may write."""
    family = max((start for start in _FAMILIES if name.startswith(start)), key=len, default="")
    other = _OTHERS[template_names().index(name) % len(_OTHERS)]
    text = template(name)
    names = [*special_names(text), *_ASSEMBLED.get(name, ())]
    return with_template(with_specials(vocabulary(_FAMILIES.get(family, other)), names), text)


def special_names(text: str) -> Sequence[str]:
    """Return what looks like a special token in a template, and those that it may make of a role."""
    return sorted({*_MARKER.findall(text), *_ROLES})


def with_specials(file: GgufFile, names: Sequence[str]) -> GgufFile:
    """Return a vocabulary with control tokens of these names, as the model of a template has them."""
    tokens, kinds = file.find("tokenizer.ggml.tokens").items(), file.find("tokenizer.ggml.token_type").items()
    places = {token: index for index, token in enumerate(tokens)}
    for name in names:
        index = places.get(packed(name.encode()), len(tokens))
        tokens[index : index + 1] = [packed(name.encode())]
        kinds[index : index + 1] = [struct.pack("<i", _CONTROL)]
    changed = [
        Entry.array("tokenizer.ggml.tokens", STRING, tokens),
        Entry.array("tokenizer.ggml.token_type", _INT32, kinds),
    ]
    if any(entry.key == b"tokenizer.ggml.scores" for entry in file.entries):
        scores = file.find("tokenizer.ggml.scores").items()
        scores += [struct.pack("<f", 0.0)] * (len(tokens) - len(scores))
        changed.append(Entry.array("tokenizer.ggml.scores", _FLOAT, scores))
    return file.put(*changed)
