"""What the engine gets of the settings. Apart from the assembly, so that ``doctor`` can do without llama.cpp."""

from server.engine.config import EngineConfig
from server.engine.gguf_check import ModelFacts
from server.settings import Settings
from server.sources import ModelSource


def engine_config(settings: Settings, source: ModelSource, facts: ModelFacts) -> EngineConfig:
    """Return what the engine is started with."""
    return EngineConfig(
        model_path=facts.path,
        context_length=settings.context or _usual_context(source, facts),
        parallel=settings.parallel,
        cache_cells=settings.cache_tokens,
        max_waiting=settings.max_waiting,
        threads=settings.threads,
        threads_batch=settings.threads_batch,
        batch_size=settings.batch_size,
        step_seconds=settings.step_seconds,
        device=settings.device,
        gpu_layers=settings.gpu_layers,
        load_timeout=settings.load_timeout,
        restart_wait=settings.restart_wait,
        max_restarts=settings.max_restarts,
    )


def _usual_context(source: ModelSource, facts: ModelFacts) -> int:
    """Return the catalog's figure for a known model: some files claim more than they were trained to chat with."""
    return min(source.entry.context_length, facts.context_train) if source.entry else 0
