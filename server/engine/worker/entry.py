"""Entry points of the engine process, as the server names them. Imports nothing of the engine itself."""

import os
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from glmserve.engine.config import EngineConfig

if TYPE_CHECKING:
    from glmserve.engine.embedding.core import EmbeddingRunner
    from glmserve.engine.model_runner import ModelRunner

RunnerFactory = Callable[[EngineConfig], "ModelRunner | EmbeddingRunner"]


def run_engine(connection: Connection, config: EngineConfig, load: RunnerFactory, log_level: int) -> None:
    """Run the engine process."""
    from glmserve.engine.worker.main import run_worker  # noqa: PLC0415 - here, in the child

    run_worker(connection, config, load, log_level)


def load_llama(config: EngineConfig) -> "ModelRunner | EmbeddingRunner":
    """The real runner. Imports llama.cpp here, so that only the child process has it in memory."""
    os.environ.update(config.compute_mode.environment)
    if config.cpus:
        os.sched_setaffinity(0, config.cpus)  # ahead of llama.cpp, whose threads inherit it
    if config.gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, config.gpus))
    from glmserve.engine.embedding.llama_embedder import LlamaEmbedder  # noqa: PLC0415
    from glmserve.engine.gguf.gguf_check import check_gguf  # noqa: PLC0415
    from glmserve.engine.llama.model_loading import route_log  # noqa: PLC0415
    from glmserve.engine.llama.runner import LlamaModelRunner  # noqa: PLC0415

    route_log()
    facts = check_gguf(config.model_path)
    return LlamaEmbedder(config, facts) if facts.embeds else LlamaModelRunner(config, facts)
