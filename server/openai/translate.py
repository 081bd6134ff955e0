"""From the wire's request to what the door to generation takes."""

from server.engine.params import SamplingParams
from server.errors import InvalidRequest
from server.generation import SEED_SPAN, GenerationRequest, room_for_answer
from server.openai.schemas import ChatRequest
from server.prompts.message import Message, Role
from server.registry import ModelCard, ServedModel

_ROLES = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
}
_LEAST_TOP_P = 1e-6


async def to_generation(body: ChatRequest, model: ServedModel) -> GenerationRequest:
    """Return what ``body`` asks of ``model``.

    Raises:
        InvalidRequest: it asks for more answers than the model gives, or contradicts itself.
        PromptError: the prompt format cannot express the messages.
        PromptTooLong: the context leaves no room for an answer.
        EngineUnavailable: the model is not ready.
    """
    n = _choices(body, model)
    prompt_ids = await model.encode(to_messages(body))
    room = room_for_answer(model, len(prompt_ids))
    params = _sampling(body, model.card, _max_tokens(body, model.card, room))
    return GenerationRequest(prompt_ids, params, stop=body.stop, n=n)


def to_messages(body: ChatRequest) -> tuple[Message, ...]:
    """Return the messages as every prompt format takes them."""
    return tuple(Message(_ROLES[message.role], message.content) for message in body.messages)


def _choices(body: ChatRequest, model: ServedModel) -> int:
    n = body.n or 1
    if n > model.max_choices:
        raise InvalidRequest(f"n must be at most {model.max_choices} on this server, not {n}", param="n")
    return n


def _max_tokens(body: ChatRequest, card: ModelCard, room: int) -> int:
    """Return how long the answer may get; what the context does not leave is cut off silently."""
    asked = body.max_completion_tokens or body.max_tokens
    least = body.min_tokens or 0
    if asked is not None and least > asked:
        raise InvalidRequest(
            f"min_tokens must be at most the {asked} tokens that the answer may have, not {least}",
            param="min_tokens",
        )
    return min(room, asked or max(card.default_max_tokens, least))


def _sampling(body: ChatRequest, card: ModelCard, max_tokens: int) -> SamplingParams:
    """Return the sampling, with the model's defaults for what is not said."""
    defaults = card.defaults
    return SamplingParams(
        max_tokens=max_tokens,
        temperature=_or(body.temperature, defaults.temperature),
        top_p=max(_or(body.top_p, defaults.top_p), _LEAST_TOP_P),
        top_k=max(defaults.top_k if body.top_k is None else body.top_k, 0),
        min_p=_or(body.min_p, 0.0),
        repetition_penalty=_or(body.repetition_penalty, defaults.repetition_penalty),
        presence_penalty=_or(body.presence_penalty, 0.0),
        frequency_penalty=_or(body.frequency_penalty, 0.0),
        seed=None if body.seed is None else body.seed % SEED_SPAN,
        min_tokens=min(body.min_tokens or 0, max_tokens),
        ignore_eos=bool(body.ignore_eos),
    )


def _or(value: float | None, default: float) -> float:
    return default if value is None else value
