"""Translates a checked chat request to the parameters that all dialects share."""

from dataclasses import replace

from glmserve.api.common.sampling import asked_tokens, to_sampling
from glmserve.api.common.structured_output import to_grammar
from glmserve.api.common.tools import check_no_call_is_due, to_offer
from glmserve.api.openai.chat_completions.messages import to_messages
from glmserve.api.openai.chat_completions.protocol import ChatRequest
from glmserve.chat.tools.types import ToolConfig
from glmserve.generation.prepare import AnswerParams, ChatParams, PromptParams
from glmserve.http.errors import InvalidRequest
from glmserve.model_pool.registry import ModelCard


def to_params(body: ChatRequest, card: ModelCard) -> ChatParams:
    """Return the parameters of ``body`` for the model of ``card``.

    Raises:
        InvalidRequest: it contradicts itself.
        ToolError: a tool is not acceptable.
        PromptError: a function's message is the result of no call.
    """
    prompt = to_prompt_params(body)
    if body.is_continued:
        check_no_call_is_due(prompt.tools, "tool_choice")
    sampling = to_sampling(body, card)
    if body.do_sample is False:
        sampling = replace(sampling, temperature=0.0)
    if body.logprobs:
        sampling = replace(sampling, logprobs=body.top_logprobs or 0)
    answer = AnswerParams(
        sampling,
        asked_tokens(body.max_completion_tokens or body.max_tokens, body.min_tokens),
        grammar=to_grammar(body),
        stop=body.stop,
        n=body.n or 1,
        salts=body.salts,
    )
    return ChatParams(prompt, answer)


def to_prompt_params(body: ChatRequest) -> PromptParams:
    """Return the part of the parameters that the prompt is made from. Raises as ``to_params`` does."""
    offer = to_offer(body)
    _check_agreement(body, offer)
    return PromptParams(to_messages(body.messages), offer, body.is_continued)


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
