"""The body of a text completion: its fields, and its translation to generation requests."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated

from pydantic import BeforeValidator, Field

from glmserve.api.common.base import RequestObject, parse
from glmserve.api.common.field_policy import FieldPolicy, Rejected
from glmserve.api.common.fields import (
    TEXTS_OR_IDS,
    UNLIMITED,
    AnswerCount,
    AsWhole,
    CacheFields,
    ModelName,
    SamplingFields,
    Stream,
    StreamOptionsField,
    TextOrIds,
    decoded,
    known_ids,
    texts_or_ids,
    to_sampling,
    token_limit,
)
from glmserve.api.common.structured_output import GrammarFields, to_grammar
from glmserve.api.openai.chat_completions.protocol import CHAT
from glmserve.engine.params import MAX_LOGPROBS
from glmserve.generation.generate import GenerationRequest
from glmserve.generation.prepare import AnswerParams, answer_request, check_answers
from glmserve.http.error_replies import prompt_in
from glmserve.http.errors import InvalidRequest
from glmserve.http.offload import off_loop
from glmserve.http.request_context import RequestContext
from glmserve.model_pool.served_model import EncodedPrompt, ModelCard, ServedModel

_OWN = (
    Rejected("suffix", (), "the model only continues a text"),
    Rejected("best_of", (1,), "use n, which returns all answers"),
    Rejected("prompt_embeds"),
    Rejected("messages", (), "use prompt, or /v1/chat/completions"),
    Rejected("return_token_ids", (False,)),
)
_SUPPORTED = frozenset({"echo", "add_special_tokens"})
"""Fields that only a chat rejects."""
_REPLACED = _SUPPORTED.union(field.name for field in _OWN)

COMPLETION = FieldPolicy(CHAT.ignored, (*_OWN, *(field for field in CHAT.rejected if field.name not in _REPLACED)))
"""The fields of the body that are not supported, such as the fields of a chat."""


_DEFAULT_MAX_TOKENS = 16
_SEQUENCES_AT_MOST = 128
"""Limit for one request: OpenAI's bound of ``n``. Callers take turns, so one request does not shut out others."""


class CompletionRequest(SamplingFields, CacheFields, GrammarFields, RequestObject):
    """Body of a text completion."""

    policy = COMPLETION

    model: ModelName = None
    prompt: Annotated[
        tuple[TextOrIds, ...],
        BeforeValidator(
            partial(texts_or_ids, most=_SEQUENCES_AT_MOST, name="prompt"), json_schema_input_type=TEXTS_OR_IDS
        ),
    ] = Field(description="A text, several texts, token ids, or several arrays of token ids. Not a chat.")
    max_tokens: Annotated[int, Field(ge=UNLIMITED), AsWhole] | None = Field(
        default=None,
        description=f"Token limit of the answer, {_DEFAULT_MAX_TOKENS} by default, reduced to the space left in the "
        "context. -1: all of that space. 0, only with echo: score the prompt, without an answer.",
    )
    n: AnswerCount = None
    echo: bool | None = Field(default=None, description="true: prepend the prompt to each answer.")
    logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS), AsWhole] | None = Field(
        default=None,
        description="Number of most likely tokens to list at each position; with echo, also for the prompt.",
    )
    add_special_tokens: bool | None = Field(
        default=None, description="Extension. false: do not prepend the tokenizer's special tokens to a text."
    )
    stream: Stream = None
    stream_options: StreamOptionsField = None

    @property
    def scores_only(self) -> bool:
        """Whether no answer is wanted: the prompt is echoed, and scored where log-probabilities are asked for."""
        return self.max_tokens == 0


@dataclass(frozen=True, slots=True)
class PromptJob:
    """One prompt of a request, and its generation request."""

    text: str
    """The text to echo: as sent, or decoded from the ids."""
    prefix_tokens: int
    """Special tokens before the prompt, which the reply does not show."""
    request: GenerationRequest


def parse_completion_request(body: Mapping[str, object]) -> CompletionRequest:
    """Return the body as a checked request.

    Raises:
        InvalidRequest: a field is rejected or has a wrong value; ``param`` is its path.
    """
    request = parse(CompletionRequest, body)
    if request.scores_only and not request.echo:
        raise InvalidRequest("max_tokens: must be at least 1 without echo", param="max_tokens")
    return request


async def to_jobs(body: CompletionRequest, model: ServedModel, context: RequestContext) -> tuple[PromptJob, ...]:
    """Translate ``body`` to a job for each prompt.

    Raises:
        InvalidRequest: a prompt does not fit into the context, or has an id that is none of the model's; or more
            answers are asked for than the model gives.
        EngineUnavailable: the model is not ready.
    """
    n = body.n or 1
    check_answers(n, model)
    most = min(_SEQUENCES_AT_MOST, model.host.info.parallel + model.host.info.max_waiting)
    if n * len(body.prompt) > most:
        raise InvalidRequest(
            f"{len(body.prompt)} prompts with {n} answers each are more than {most}, the limit of one request",
            param="prompt",
        )
    params = await off_loop(partial(_answer_params, body, model.card), context.body_bytes)
    with prompt_in("prompt"):
        return tuple([await _job(prompt, params, body, model, context) for prompt in body.prompt])


def _answer_params(body: CompletionRequest, card: ModelCard) -> AnswerParams:
    """Return the parameters of the answers to each prompt. Raises InvalidRequest where ``body`` contradicts itself."""
    max_tokens = token_limit(body.max_tokens, body.min_tokens)
    limit = max(_DEFAULT_MAX_TOKENS, body.min_tokens or 0) if max_tokens is None else max(1, max_tokens)
    scored = body.logprobs if body.echo else None
    return AnswerParams(
        replace(to_sampling(body, card), logprobs=body.logprobs, prompt_logprobs=scored),
        limit,
        grammar=to_grammar(body),
        stop=body.stop,
        n=body.n or 1,
        scores_only=body.scores_only,
        salts=body.salts,
    )


async def _job(
    prompt: TextOrIds, params: AnswerParams, body: CompletionRequest, model: ServedModel, context: RequestContext
) -> PromptJob:
    if isinstance(prompt, str):
        prefix = () if body.add_special_tokens is False else model.text_prefix
        ids = (*prefix, *await model.encode_text(prompt, context))
        text = prompt
    else:
        prefix, ids = (), known_ids(prompt, model.host.info.vocab_size, "prompt")
        text = await decoded(ids, model)
    if not ids:
        raise InvalidRequest("prompt: must not be empty with this model", param="prompt")
    encoded = EncodedPrompt(ids)
    request = await answer_request(model, params, encoded, context, continued=len(ids) > len(prefix))
    return PromptJob(text, len(prefix), request)
