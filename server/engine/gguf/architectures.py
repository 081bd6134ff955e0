"""The architectures of llama.cpp, and which of them are served."""

from collections.abc import Mapping
from types import MappingProxyType

OURS = ("chatglm", "glm4", "baichuan")
"""The architectures of our families, whose figures are checked one by one."""

EMBEDDING_ARCHITECTURES = ("bert",)
"""Encoders, which make vectors of texts."""

RUNNING_STATE = (
    "mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7", "jamba", "falcon-h1", "plamo2", "granitehybrid",
    "lfm2", "lfm2moe", "nemotron_h", "nemotron_h_moe", "qwen3next", "kimi-linear", "bailingmoe3", "kimi-k3",
    "glm5-next", "qwen35", "qwen35moe", "qwen4exp", "deepseek4", "minimax-01",
)  # fmt: skip
"""Recurrent and hybrid ones: they keep of a sequence a state rather than its tokens, in all layers or some."""
_NO_DECODER = (
    "clip", "t5", "t5encoder", "modern-bert", "nomic-bert", "nomic-bert-moe", "neo-bert", "jina-bert-v2",
    "jina-bert-v3", "eurobert", "gemma-embedding", "llama-embed", "wavtokenizer-dec", "dream", "llada", "llada-moe",
    "rnd1", "gemma4-assistant", "eagle3", "dflash", "qwen3tts", "pockettts",
)  # fmt: skip

_REJECTED: Mapping[str, str] = MappingProxyType(
    {
        "": "the file does not say which it is; convert the model again",
        **dict.fromkeys(_NO_DECODER, "its models do not write text token by token"),
    }
)


def not_served(architecture: str) -> str:
    """Return why models of ``architecture`` are not served; empty where they are, if llama.cpp has it."""
    return _REJECTED.get(architecture, "")
