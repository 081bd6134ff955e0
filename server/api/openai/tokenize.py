"""POST /tokenize and /detokenize, GET /tokenizer_info: tokens for clients that count or score, as vLLM has it."""

from collections.abc import Mapping
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import Field
from typing_extensions import TypedDict

from glmserve.api.common.base import ListOf, RequestObject, parse
from glmserve.api.common.field_policy import FieldPolicy, Rejected
from glmserve.api.common.fields import ModelName, decoded, known_ids
from glmserve.api.openai.chat_completions.protocol import ChatRequest, parse_chat_as, to_prompt_params
from glmserve.chat.prompts.messages import PromptError
from glmserve.engine.errors import EngineUnavailable, ModelLoadError
from glmserve.generation.prepare import encode_prompt
from glmserve.http.error_replies import prompt_in
from glmserve.http.errors import InvalidRequest, ModelNotFound
from glmserve.http.offload import off_loop, read_request
from glmserve.http.openapi import Tag, documented
from glmserve.http.request_record import current_request
from glmserve.model_pool.registry import ModelRegistry
from glmserve.model_pool.served_model import ServedModel

_IDS_AT_MOST = 1 << 17
_ERRORS = (InvalidRequest, PromptError, ModelNotFound, EngineUnavailable, ModelLoadError)

_TOKEN_STRS = "true: also return the token strings."


class TokenizeText(RequestObject):
    """A text to tokenize."""

    policy = FieldPolicy(
        rejected=(
            Rejected("parse_special", (False,), "special tokens in a text are plain text"),
            Rejected("with_pieces", (False,), "use return_token_strs"),
        )
    )

    model: ModelName = None
    prompt: str | None = Field(default=None, description="The text.")
    content: str | None = Field(default=None, description="The text, under the name that llama-server uses.")
    add_special_tokens: bool | None = Field(
        default=None, description="Prepend the special tokens that precede every text. Default for prompt: true."
    )
    add_special: bool | None = Field(default=None, description="The same for content. Default: false.")
    return_token_strs: bool | None = Field(default=None, description=_TOKEN_STRS)


class TokenizeChat(ChatRequest):
    """A conversation to tokenize: a chat request. Fields about the answer have no effect."""

    return_token_strs: bool | None = Field(default=None, description=_TOKEN_STRS)


class TokenizeReply(TypedDict):
    """The tokens, and the size of the model's context."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None


class DetokenizeReply(TypedDict):
    """The text; special tokens are none."""

    prompt: str


class TokenizerInfo(TypedDict):
    """Fields that lm-eval reads; null, as no text makes a special token and a conversation's prompt is no text."""

    bos_token: None
    eos_token: None
    pad_token: None
    chat_template: None


class DetokenizeRequest(RequestObject):
    """Token ids to decode."""

    model: ModelName = None
    tokens: Annotated[ListOf[int], Field(max_length=_IDS_AT_MOST)] = Field(description="Token ids.")


def create_router(registry: ModelRegistry) -> APIRouter:
    """Return the routes, answering from the models of ``registry``."""
    router = APIRouter()

    @router.post("/tokenize", **documented(TokenizeReply, TokenizeText | TokenizeChat, errors=_ERRORS, tag=Tag.TEXT))
    async def tokenize(request: Request) -> JSONResponse:
        """Tell the tokens of a text, or of a conversation as the model gets it."""
        body = await read_request(request, _parse_tokenize_request)
        if isinstance(body, TokenizeChat):
            return await _tokenize_chat(body, registry)
        return await _tokenize_text(body, registry)

    @router.post("/detokenize", **documented(DetokenizeReply, DetokenizeRequest, errors=_ERRORS, tag=Tag.TEXT))
    async def detokenize(request: Request) -> JSONResponse:
        """Tell the text of tokens."""
        body = await read_request(request, _parse_detokenize_request)
        model = registry.get(body.model)
        async with model.in_use():
            ids = known_ids(tuple(body.tokens), model.host.info.vocab_size, "tokens")
            reply: DetokenizeReply = {"prompt": await decoded(ids, model)}
            return JSONResponse(reply)

    @router.get("/tokenizer_info", **documented(TokenizerInfo, errors=(), tag=Tag.TEXT))
    async def tokenizer_info() -> JSONResponse:
        """Tell clients that probe for it that they may leave tokenising to the server."""
        info: TokenizerInfo = {"bos_token": None, "eos_token": None, "pad_token": None, "chat_template": None}
        return JSONResponse(info)

    return router


def _parse_detokenize_request(body: Mapping[str, object]) -> DetokenizeRequest:
    return parse(DetokenizeRequest, body)


def _parse_tokenize_request(body: Mapping[str, object]) -> TokenizeText | TokenizeChat:
    if body.get("messages") is not None:
        return parse_chat_as(TokenizeChat, body)
    text = parse(TokenizeText, body)
    if (text.prompt is None) is (text.content is None):
        raise InvalidRequest("one of prompt, content and messages is required", param="prompt")
    return text


async def _tokenize_text(body: TokenizeText, registry: ModelRegistry) -> JSONResponse:
    special = bool(body.add_special) if body.prompt is None else body.add_special_tokens is not False
    model = registry.completer(body.model)
    async with model.in_use():
        with prompt_in("prompt"):
            ids = await model.encode_text(body.prompt or body.content or "", current_request().context)
        ids = (*model.text_prefix, *ids) if special else ids
        return await off_loop(partial(_tokens, ids, model, names=bool(body.return_token_strs)))


async def _tokenize_chat(body: TokenizeChat, registry: ModelRegistry) -> JSONResponse:
    model = registry.get(body.model)
    async with model.in_use():
        params = await off_loop(partial(to_prompt_params, body))
        prompt = await encode_prompt(model, params, current_request().context)
        return await off_loop(partial(_tokens, prompt.encoded.told_ids, model, names=bool(body.return_token_strs)))


def _tokens(ids: tuple[int, ...], model: ServedModel, *, names: bool) -> JSONResponse:
    reply: TokenizeReply = {
        "count": len(ids),
        "max_model_len": model.context_length,
        "tokens": list(ids),
        "token_strs": list(map(model.tokenizer.name, ids)) if names else None,
    }
    return JSONResponse(reply)
