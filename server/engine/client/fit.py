"""Whether a request fits an idle engine. Pure."""

from glmserve.engine.errors import PromptTooLong, UnknownToken
from glmserve.engine.messages import EngineInfo
from glmserve.engine.params import SamplingParams


def check_fit(info: EngineInfo, prompt_ids: tuple[int, ...], params: SamplingParams, variant: str) -> None:
    """Raise PromptTooLong or UnknownToken where an engine with ``info`` cannot compute a request."""
    room = info.context_length - info.prefix_tokens.get(variant, 0)
    if not 0 < len(prompt_ids) < room:
        raise PromptTooLong(len(prompt_ids), room)
    for token_id, _ in params.logit_bias:
        if token_id >= info.vocab_size:
            raise UnknownToken(token_id, info.vocab_size)
