"""Known models: their origin, prompt format and defaults."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SamplingDefaults:
    """Sampling of a request that sets none. The figures of a family are from its authors' ``chat()``."""

    temperature: float = 0.8
    top_p: float = 0.8
    top_k: int = 50
    repetition_penalty: float = 1.0


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """One known model."""

    name: str
    """The name callers use, and the file name of its GGUF."""
    prompt_format: str
    """Empty for an embedding model or a reranker, which has no prompts."""
    repository: str = ""
    """On Hugging Face; empty for the embedded model."""
    context_length: int = 8192
    """Tokens per sequence unless set otherwise: what the model was trained to chat with."""
    defaults: SamplingDefaults = SamplingDefaults()

    @property
    def former(self) -> str:
        """The repository under the former name of its owner, which Hugging Face redirects; else empty."""
        return self._of_owner("THUDM")

    @property
    def modelscope(self) -> str:
        """The repository on ModelScope."""
        return self._of_owner("ZhipuAI") or self.repository

    def _of_owner(self, name: str) -> str:
        owner, _, model = self.repository.partition("/")
        return f"{name}/{model}" if owner == _ZHIPU else ""


_ZHIPU = "zai-org"
EMBEDDED = CatalogEntry(name="chatglm2-tiny", prompt_format="chatglm2", context_length=4096)

# temperature and top_p of the ChatGLMs: chat() of modeling_chatglm.py, and generation_config.json of GLM-4; top_k is
# the default of transformers 4.x. Contexts: the READMEs (chat training of ChatGLM2: 8K) and seq_length of config.json.
# CodeGeeX2 is called with top_k 1 in its README: always the likeliest token.
# The README of GLM-Z1 has its own. The Baichuans: generation_config.json.
_LIKELIEST = SamplingDefaults(temperature=0.0, top_p=1.0, top_k=1)
_Z1 = SamplingDefaults(temperature=0.6, top_p=0.95, top_k=40)
_BAICHUAN = SamplingDefaults(temperature=0.3, top_p=0.85, top_k=5, repetition_penalty=1.1)
_BAICHUAN2 = SamplingDefaults(temperature=0.3, top_p=0.85, top_k=5, repetition_penalty=1.05)

CATALOG: tuple[CatalogEntry, ...] = (
    EMBEDDED,
    CatalogEntry("chatglm2-6b", "chatglm2", "zai-org/chatglm2-6b"),
    CatalogEntry("chatglm2-6b-32k", "chatglm2", "zai-org/chatglm2-6b-32k", 32768),
    CatalogEntry("chatglm2-6b-int4", "chatglm2", "zai-org/chatglm2-6b-int4"),
    CatalogEntry("chatglm3-6b", "chatglm3", "zai-org/chatglm3-6b"),
    CatalogEntry("chatglm3-6b-32k", "chatglm3", "zai-org/chatglm3-6b-32k", 32768),
    CatalogEntry("chatglm3-6b-128k", "chatglm3", "zai-org/chatglm3-6b-128k", 131072),
    CatalogEntry("codegeex2-6b", "codegeex2", "zai-org/codegeex2-6b", defaults=_LIKELIEST),
    CatalogEntry("glm-4-9b-chat", "glm4", "zai-org/glm-4-9b-chat", 131072),
    CatalogEntry("glm-4-9b-chat-hf", "glm4", "zai-org/glm-4-9b-chat-hf", 131072),
    CatalogEntry("glm-4-9b-0414", "glm4-0414", "zai-org/GLM-4-9B-0414", 32768),
    CatalogEntry("glm-4-32b-0414", "glm4-0414", "zai-org/GLM-4-32B-0414", 32768),
    CatalogEntry("glm-z1-9b-0414", "template", "zai-org/GLM-Z1-9B-0414", 32768, _Z1),
    CatalogEntry("glm-z1-32b-0414", "template", "zai-org/GLM-Z1-32B-0414", 32768, _Z1),
    CatalogEntry("baichuan-13b-chat", "baichuan", "baichuan-inc/Baichuan-13B-Chat", 4096, _BAICHUAN),
    CatalogEntry("baichuan2-13b-chat", "baichuan2", "baichuan-inc/Baichuan2-13B-Chat", 4096, _BAICHUAN2),
    *(
        CatalogEntry(repository.rpartition("/")[2], "", repository, context)
        for repository, context in (
            ("BAAI/bge-small-zh-v1.5", 512),
            ("BAAI/bge-base-zh-v1.5", 512),
            ("BAAI/bge-large-zh-v1.5", 512),
            ("BAAI/bge-small-zh", 512),
            ("BAAI/bge-base-zh", 512),
            ("BAAI/bge-large-zh", 512),
            ("BAAI/bge-m3", 8192),
            ("moka-ai/m3e-small", 512),
            ("moka-ai/m3e-base", 512),
            ("moka-ai/m3e-large", 512),
            ("shibing624/text2vec-base-chinese", 512),
            ("GanymedeNil/text2vec-large-chinese", 512),
            ("thenlper/gte-base-zh", 512),
            ("thenlper/gte-large-zh", 512),
            ("BAAI/bge-reranker-base", 512),
            ("BAAI/bge-reranker-large", 512),
            ("BAAI/bge-reranker-v2-m3", 8192),
        )
    ),
)
"""The encoders have the positions of their config.json as context."""


_FIRST_GENERATION = ("chatglm-6b", "chatglm-6b-int4", "chatglm-6b-int8", "chatglm-6b-int4-qe", "visualglm-6b")


def why_not(name: str) -> str:
    """Return why a model of this name cannot be served at all; empty where nothing is known against it."""
    if name.lower().rpartition("/")[2] in _FIRST_GENERATION:
        return (
            f"{name} is of ChatGLM's first generation, a model that llama.cpp does not have; "
            "chatglm2-6b and chatglm3-6b are its successors"
        )
    return ""


def find(name: str) -> CatalogEntry | None:
    """Return the entry called ``name``, by its name or one of its repositories, or by that without owner; or None."""
    wanted = name.lower()
    return next((entry for entry in CATALOG if wanted in _spellings(entry)), None)


def _spellings(entry: CatalogEntry) -> tuple[str, ...]:
    repositories = [name.lower() for name in (entry.repository, entry.former, entry.modelscope) if name]
    return (entry.name, *repositories, *(name.rpartition("/")[2] for name in repositories[:1]))
