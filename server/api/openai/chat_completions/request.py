"""Translates a checked request of ``/v1/messages`` to a generation request."""

from dataclasses import dataclass, replace
from functools import partial

from glmserve.api.common.sampling import answer_tokens, number_of_answers, to_sampling
from glmserve.api.common.structured_output import to_grammar
from glmserve.api.common.tools import answer_grammar, check_no_call_is_due, to_offer, with_format
from glmserve.api.openai.chat_completions.messages import to_messages
from glmserve.api.openai.chat_completions.protocol import ChatRequest
from glmserve.chat.prompts.message import Message
from glmserve.chat.tools.types import ToolConfig
from glmserve.generation.generate import GenerationRequest, room_for_answer
from glmserve.http.errors import InvalidRequest
from glmserve.http.offload import off_loop
from glmserve.http.request_context import RequestContext
from glmserve.model_pool.registry import ServedModel


async def to_generation(body: ChatRequest, model: ServedModel, context: RequestContext) -> GenerationRequest:
    """Translate ``body`` to a generation request for ``model``.

    Raises:
        InvalidRequest: it asks for more answers than the model gives, or contradicts itself.
        ToolError: a tool is not acceptable.
        PromptError: the prompt format cannot express the messages or the tools.
        PromptTooLong: the context leaves no room for an answer.
        EngineUnavailable: the model is not ready.
    """
    n = number_of_answers(body.n, model)
    prompt = await to_prompt(body, model, context)
    offer = prompt.offer
    if body.is_continued:
        check_no_call_is_due(offer, "tool_choice")
        offer = None
    form = model.answer_form(prompt.messages)
    asked_format = await off_loop(partial(to_grammar, body)) or form.grammar
    offer = with_format(offer, asked_format)
    room = room_for_answer(model, len(prompt.ids))
    asked = body.max_completion_tokens or body.max_tokens
    max_tokens = answer_tokens(asked, body.min_tokens, model.card.default_max_tokens, room)
    params = to_sampling(body, model.card, max_tokens)
    if body.do_sample is False:
        params = replace(params, temperature=0.0)
    if body.logprobs:
        params = replace(params, logprobs=body.top_logprobs or 0)
    grammar = await off_loop(partial(answer_grammar, model, offer, asked_format))
    return GenerationRequest(
        prompt.ids,
        replace(params, grammar=grammar),
        stop=body.stop or form.stop,
        n=n,
        tools=offer,
        continued=body.is_continued,
        salts=body.salts,
        common_tokens=prompt.common_tokens,
    )


@dataclass(frozen=True, slots=True)
class Prompt:
    """The prompt of a request."""

    ids: tuple[int, ...]
    common_tokens: int
    messages: tuple[Message, ...]
    offer: ToolConfig | None


async def to_prompt(body: ChatRequest, model: ServedModel, context: RequestContext) -> Prompt:
    """Return the prompt. Raises as ``to_generation`` does."""
    offer = await off_loop(partial(to_offer, body))
    _check_agreement(body, offer)
    messages = await off_loop(partial(to_messages, body.messages))
    tools = () if offer is None else offer.tools
    encoded = await model.encode(messages, context, tools, continued=body.is_continued)
    return Prompt(encoded.ids, encoded.common_tokens, messages, offer)


def _check_agreement(body: ChatRequest, offer: ToolConfig | None) -> None:
    """Reject fields that contradict each other. Raises InvalidRequest."""
    if body.is_continued and body.add_generation_prompt:
        raise InvalidRequest(
            "continue_final_message and add_generation_prompt exclude each other", param="continue_final_message"
        )
    if body.add_generation_prompt is False and not body.is_continued:
        raise InvalidRequest(
            "add_generation_prompt may be false only together with continue_final_message",
            param="add_generation_prompt",
        )
    if body.logprobs and offer is not None:
        raise InvalidRequest(
            "logprobs are only available for text: leave the tools out, or set tool_choice to none", param="logprobs"
        )
