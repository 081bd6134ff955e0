"""What an engine process loads that cannot decode one of its tokens; importable by the process."""

from glmserve.engine.config import EngineConfig
from tests.support.scripted_backend import ScriptedBackend

POISON = 13


def load_poisoned(config: EngineConfig) -> ScriptedBackend:
    backend = ScriptedBackend()
    backend.poison = POISON
    return backend
