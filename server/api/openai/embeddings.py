"""POST /v1/embeddings: vectors of texts."""

import base64
import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Request, Response
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field
from typing_extensions import TypedDict

from glmserve.api.common.base import RequestObject, parse
from glmserve.api.common.field_policy import FieldPolicy, Ignored, Rejected
from glmserve.api.common.fields import TEXTS_OR_IDS, AsWhole, TextOrIds, known_ids, texts_or_ids
from glmserve.api.common.passing import Passed, Target, pass_on, unless_passed
from glmserve.engine.interface import Caller
from glmserve.generation.generate import unless_gone
from glmserve.http.errors import InvalidRequest
from glmserve.http.offload import disconnected, off_loop, read_request
from glmserve.http.openapi import documented
from glmserve.http.request_context import RequestContext, RequestProgress
from glmserve.http.request_record import current_request
from glmserve.model_pool.registry import ModelRegistry
from glmserve.model_pool.served_model import EmbeddingModel

_INPUTS_AT_MOST = 2048
"""OpenAI's bound."""

_TARGET = Target("/embeddings")
_POLICY = FieldPolicy(
    ignored=(Ignored("user"), Ignored("metadata"), Ignored("safety_identifier")),
    rejected=(
        Rejected("truncate_prompt_tokens", (-1,)),
        Rejected("add_special_tokens", (True,)),
        Rejected("input_type"),
        Rejected("messages", (), "use input"),
    ),
)


class EmbeddingRequest(RequestObject):
    """Body of a request for embeddings."""

    policy = _POLICY

    model: str | None = Field(default=None, description="Name of the model. Absent or null: the first embedding model.")
    input: Annotated[
        tuple[TextOrIds, ...],
        BeforeValidator(partial(texts_or_ids, most=_INPUTS_AT_MOST, name="input"), json_schema_input_type=TEXTS_OR_IDS),
    ] = Field(
        description=f"A text, token ids of this model, or an array of at most {_INPUTS_AT_MOST} texts or arrays of ids."
    )
    encoding_format: Literal["float", "base64"] | None = Field(
        default=None, description="Numbers (default), or base64 of little-endian float32 numbers."
    )
    dimensions: Annotated[int, Field(ge=1), AsWhole] | None = Field(
        default=None, description="Truncate each vector to this many dimensions, before it is normalized."
    )
    normalize: bool | None = Field(
        default=None,
        description="Extension: true scales vectors to length 1, false leaves them as the model computes them. "
        "Default: as the authors of the model do.",
    )


def parse_embedding_request(body: Mapping[str, object]) -> EmbeddingRequest:
    """Return the body as a checked request.

    Raises:
        InvalidRequest: a field is rejected or has a wrong value; ``param`` is its path.
    """
    return parse(EmbeddingRequest, body)


class EmbeddingObject(TypedDict):
    """A vector: its numbers, or their float32 in little-endian order as base64."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingUsage(TypedDict):
    """Tokens of all inputs."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(TypedDict):
    """The vectors, in the order of the inputs."""

    object: Literal["list"]
    data: list[EmbeddingObject]
    model: str
    usage: EmbeddingUsage


def create_router(registry: ModelRegistry) -> APIRouter:
    """Return the route, answering from the models of ``registry``."""
    router = APIRouter()

    @router.post("/v1/embeddings", **documented(EmbeddingList, EmbeddingRequest))
    async def embeddings(request: Request) -> Response:
        """Make vectors of texts."""
        body = await read_request(request, unless_passed(registry, parse_embedding_request, EmbeddingModel))
        if isinstance(body, Passed):
            return await pass_on(body, _TARGET, request)
        model = registry.embedder(body.model)
        return await unless_gone(_embed(body, model, current_request().context), partial(disconnected, request))

    return router


async def _embed(body: EmbeddingRequest, model: EmbeddingModel, context: RequestContext) -> Response:
    async with model.in_use():
        size = model.host.info.embedding_size
        if body.dimensions is not None and body.dimensions > size:
            raise InvalidRequest(f"dimensions must be at most {size} with this model", param="dimensions")
        inputs = await _ids(body.input, model, context)
        caller = Caller(context.caller, context.seconds_left(), background=context.background)
        vectors = await model.embed(inputs, caller)
        normalize = model.host.info.normalizes if body.normalize is None else body.normalize
    tokens = sum(map(len, inputs))
    context.observer.begin(RequestProgress(model.card.name, tokens))
    reply = partial(_reply, vectors, tokens, model.card.name, body, normalize=normalize)
    return await off_loop(reply, sum(map(len, vectors)))


async def _ids(
    values: Sequence[TextOrIds], model: EmbeddingModel, context: RequestContext
) -> tuple[tuple[int, ...], ...]:
    """Return inputs as ids. Raises InvalidRequest where one does not fit or has an id that is not the model's."""
    encoded = iter(await model.encode([value for value in values if isinstance(value, str)], context))
    vocab_size = model.host.info.vocab_size
    inputs = tuple(
        [next(encoded) if isinstance(value, str) else known_ids(value, vocab_size, "input") for value in values]
    )
    for index, ids in enumerate(inputs):
        if not 0 < len(ids) <= model.context_length:
            raise InvalidRequest(
                f"input {index} has {len(ids)} tokens, and this model takes {model.context_length} at most; shorten it",
                param="input",
                code="context_length_exceeded",
            )
    return inputs


def _reply(vectors: Sequence[bytes], tokens: int, model: str, body: EmbeddingRequest, *, normalize: bool) -> Response:
    """Return the reply, written vector by vector: of many of them the encoder would let no other thread run."""
    head: EmbeddingList = {
        "object": "list",
        "data": [],
        "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    before, _, after = json.dumps(head, ensure_ascii=False).partition("[]")
    data = []
    for index, vector in enumerate(vectors):
        numbers = finished(np.frombuffer(vector, np.float32), body.dimensions, normalize=normalize)
        one: EmbeddingObject = {"object": "embedding", "index": index, "embedding": _written(numbers, body)}
        data.append(json.dumps(one))
    return Response(f"{before}[{','.join(data)}]{after}", media_type="application/json")


def finished(vector: NDArray[np.float32], dimensions: int | None, *, normalize: bool) -> NDArray[np.float32]:
    """Return the first ``dimensions`` numbers, or all for None; scaled to length 1 where ``normalize`` says so."""
    part = vector[:dimensions]
    length = float(np.linalg.norm(part.astype(np.float64))) if normalize else 0.0
    return (part / length).astype(np.float32) if length else part


def _written(vector: NDArray[np.float32], body: EmbeddingRequest) -> list[float] | str:
    if body.encoding_format == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
    # Each as the shortest number that is the same float32, which is half as long as that of the same float64.
    return [float(str(number)) for number in vector]
