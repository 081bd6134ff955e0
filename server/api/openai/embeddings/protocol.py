"""The body of a request for embeddings as it comes over the wire."""

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from glmserve.api.common.base import RequestObject, parse
from glmserve.api.common.field_policy import FieldPolicy, Ignored, Rejected
from glmserve.api.common.numbers import AsWhole
from glmserve.api.common.token_inputs import TEXTS_OR_IDS, TextOrIds, texts_or_ids

_INPUTS_AT_MOST = 2048
"""OpenAI's bound."""

_POLICY = FieldPolicy(
    ignored=(Ignored("user"), Ignored("metadata"), Ignored("safety_identifier")),
    rejected=(
        Rejected("truncate_prompt_tokens", (-1,)),
        Rejected("add_special_tokens", (True,)),
        Rejected("normalize", (True,), "vectors always have length 1"),
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
        default=None, description="Truncate each vector to this many dimensions and normalize it again."
    )


def parse_embedding_request(body: Mapping[str, object]) -> EmbeddingRequest:
    """Return the body as a checked request.

    Raises:
        InvalidRequest: a field is rejected or has a wrong value; ``param`` is its path.
    """
    return parse(EmbeddingRequest, body)
