"""Settings to engine configuration. Apart from the assembly, so that ``doctor`` can do without llama.cpp."""

from dataclasses import dataclass
from pathlib import Path

from glmserve.bootstrap.model_source import ModelSource
from glmserve.chat.prompts.formats import end_tokens
from glmserve.config.schema import ModelSettings
from glmserve.engine.config import EngineConfig, Variant
from glmserve.engine.gguf.gguf_check import ModelFacts
from glmserve.model_pool.prefixes import PinnedPrompt

MODE_FOLDER = "compute-modes"
"""Below the cache folder: which compute modes work on this machine."""


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """A model to serve: its settings, its source, and the facts of its file."""

    settings: ModelSettings
    source: ModelSource
    facts: ModelFacts
    pinned: tuple[PinnedPrompt, ...] = ()
    """Prefixes that stay cached."""

    @property
    def prompt_format(self) -> str:
        """Name of the format that was asked for, or else the file's; empty where neither says."""
        return self.settings.prompt_format or self.facts.prompt_format

    @property
    def format_problem(self) -> str:
        """Why the format is not known, in one line; empty where it is, and for a model without prompts."""
        if self.prompt_format or self.facts.embeds:
            return ""
        found = self.facts.format_inference
        choice = f" {' or '.join(found.candidates)}" if found.candidates else ""
        return (
            f"{self.facts.path}: the file does not name its prompt format"
            f"{f' and {found.reason}' if found.reason else ''}; set it with --prompt-format{choice}"
        )


def engine_config(
    plan: ModelPlan, state_dir: Path | None = None, state_bytes: int = 0, mode_dir: Path | None = None
) -> EngineConfig:
    """Return the configuration of an engine; saved states of pinned prefixes are kept in ``state_dir``.

    ``mode_dir`` keeps which compute modes work.

    Several engines share the cores of the machine: each has as many threads as there are cores, as a model that
    answers alone should be as fast as the machine is, and threads that wait for work sleep.
    """
    settings = plan.settings
    return EngineConfig(
        model_path=plan.facts.path,
        context_length=settings.context or _usual_context(plan.source, plan.facts),
        parallel=settings.parallel,
        cache_cells=settings.cache_tokens,
        max_waiting=settings.max_waiting,
        kv_type=settings.kv_type,
        threads=settings.threads,
        threads_batch=settings.threads_batch,
        batch_size=settings.batch_size,
        step_seconds=settings.step_seconds,
        speculation=settings.speculation,
        device=settings.device,
        gpu_layers=settings.gpu_layers,
        load_timeout=settings.load_timeout,
        step_timeout=settings.step_timeout,
        restart_wait=settings.restart_wait,
        resume=settings.resume,
        max_restarts=settings.max_restarts,
        variants=tuple(Variant(v.name, v.lora, v.prefix) for v in settings.variants),
        end_tokens=end_tokens(plan.prompt_format),
        pinned_cells=sum(prompt.most_tokens for prompt in plan.pinned if not prompt.if_saved),
        state_dir=state_dir if plan.pinned else None,
        state_bytes=state_bytes,
        mode_dir=mode_dir,
    )


def _usual_context(source: ModelSource, facts: ModelFacts) -> int:
    """Return the catalog's figure for a known model: some files claim more than they were trained to chat with."""
    return min(source.entry.context_length, facts.context_train) if source.entry else 0
