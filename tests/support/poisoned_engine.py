"""What an engine process loads that cannot decode one of its tokens; importable by the process."""

from glmserve.engine.config import EngineConfig
from tests.support.scripted_runner import ScriptedRunner

POISON = 13


def load_poisoned(config: EngineConfig) -> ScriptedRunner:
    runner = ScriptedRunner()
    runner.poison = POISON
    return runner
