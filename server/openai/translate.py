"""From the wire's request to what the door to generation takes."""

from server.generation import GenerationRequest, room_for_answer
from server.openai.sampling import answer_tokens, number_of_answers, to_sampling
from server.openai.schemas import ChatRequest
from server.prompts.message import Message, Role
from server.registry import ServedModel

_ROLES = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
}


async def to_generation(body: ChatRequest, model: ServedModel) -> GenerationRequest:
    """Return what ``body`` asks of ``model``.

    Raises:
        InvalidRequest: it asks for more answers than the model gives, or contradicts itself.
        PromptError: the prompt format cannot express the messages.
        PromptTooLong: the context leaves no room for an answer.
        EngineUnavailable: the model is not ready.
    """
    n = number_of_answers(body.n, model)
    prompt_ids = await model.encode(to_messages(body))
    room = room_for_answer(model, len(prompt_ids))
    asked = body.max_completion_tokens or body.max_tokens
    max_tokens = answer_tokens(asked, body.min_tokens, model.card.default_max_tokens, room)
    return GenerationRequest(prompt_ids, to_sampling(body, model.card, max_tokens), stop=body.stop, n=n)


def to_messages(body: ChatRequest) -> tuple[Message, ...]:
    """Return the messages as every prompt format takes them."""
    return tuple(Message(_ROLES[message.role], message.content) for message in body.messages)
