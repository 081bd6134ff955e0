"""Settings that tests change, by name and type: mypy tells of one that does not exist."""

from pathlib import Path
from typing import TypedDict

from glmserve.engine.config import ComputeMode, FlashAttention, KvType


class EngineChanges(TypedDict, total=False):
    """Fields of ``EngineConfig``."""

    parallel: int
    max_waiting: int
    kv_type: KvType
    flash_attn: FlashAttention
    compute_mode: ComputeMode
    mode_dir: Path | None
    pinned_cells: int
    load_timeout: float
    step_timeout: float
    restart_wait: float
    max_restarts: int
    resume: bool


class SamplingChanges(TypedDict, total=False):
    """Fields of ``SamplingParams``."""

    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    seed: int | None
    min_tokens: int
    ignore_eos: bool
    logprobs: int | None
    prompt_logprobs: int | None
    logit_bias: tuple[tuple[int, float], ...]
