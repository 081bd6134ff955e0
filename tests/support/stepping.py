"""An engine core driven to its end, as the worker would."""

from collections import defaultdict

from glmserve.engine.messages import StepOutput
from glmserve.engine.worker.core import EngineCore


def drain(core: EngineCore, most: int = 3000) -> dict[int, list[StepOutput]]:
    """Step until there is no work, checking the books each time; return all outputs by request id."""
    outputs: dict[int, list[StepOutput]] = defaultdict(list)
    for _ in range(most):
        if not core.has_work:
            return outputs
        for output in core.step().outputs:
            outputs[output.request_id].append(output)
        core.check_integrity()
    raise AssertionError("the engine does not come to an end")


def tokens_of(outputs: list[StepOutput]) -> list[int]:
    """Return the tokens of an answer."""
    return [token for output in outputs for token in output.token_ids]
