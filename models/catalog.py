"""Known models: where they come from, how they are prompted, and what they default to."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SamplingDefaults:
    """What a request gets that does not say. The figures of a family are those of its authors' ``chat()``."""

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
    repository: str = ""
    """On the model hub; empty for the embedded model."""
    context_length: int = 8192
    """Tokens per sequence unless set otherwise: what the model was trained to chat with."""
    defaults: SamplingDefaults = SamplingDefaults()


EMBEDDED = CatalogEntry(name="chatglm2-tiny", prompt_format="chatglm2", context_length=4096)

CATALOG: tuple[CatalogEntry, ...] = (
    EMBEDDED,
    # temperature and top_p from chat() of modeling_chatglm.py; top_k is the default of transformers 4.x.
    CatalogEntry(name="chatglm2-6b", prompt_format="chatglm2", repository="THUDM/chatglm2-6b"),
)


def find(name: str) -> CatalogEntry | None:
    """Return the entry called ``name``, by its name or its repository, or None."""
    return next((entry for entry in CATALOG if name in (entry.name, entry.repository)), None)
