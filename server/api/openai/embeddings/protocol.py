"""The body of a request for embeddings as it comes over the wire."""

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from glmserve.api.common.base import ApiModel, parse
from glmserve.api.common.field_policy import FieldPolicy, Ignored, Rejected, Supported
from glmserve.api.common.numbers import AsWhole
from glmserve.api.common.token_inputs import TEXTS_OR_IDS, TextOrIds, texts_or_ids

_INPUTS_AT_MOST = 2048
"""OpenAI's bound."""

EMBEDDING = FieldPolicy(
    (
        Supported("model", "absent or null: the first embedding model"),
        Supported("input", "a text, a list of texts, token ids, or a list of lists of token ids; ids are this model's"),
        Supported("encoding_format", "float or base64: little-endian float32"),
        Supported("dimensions", "the first so many numbers, brought to length 1 again"),
    ),
    (Ignored("user"), Ignored("metadata"), Ignored("safety_identifier")),
    (
        Rejected("truncate_prompt_tokens", (-1,)),
        Rejected("add_special_tokens", (True,)),
        Rejected("normalize", (True,), "vectors always have length 1"),
        Rejected("input_type"),
        Rejected("messages"),
    ),
)
"""The fields of the body."""


class EmbeddingRequest(ApiModel):
    """The supported fields; ``EMBEDDING`` has the policy of all others."""

    model_config = ConfigDict(json_schema_extra=EMBEDDING.complete)

    model: str | None = None
    input: Annotated[
        tuple[TextOrIds, ...],
        BeforeValidator(partial(texts_or_ids, most=_INPUTS_AT_MOST, name="input"), json_schema_input_type=TEXTS_OR_IDS),
    ]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1), AsWhole] | None = None


def parse_embedding_request(body: Mapping[str, object]) -> EmbeddingRequest:
    """Return the body as a checked request.

    Raises:
        InvalidRequest: a field is refused or has a wrong value; ``param`` is its path.
    """
    EMBEDDING.check(body)
    return parse(EmbeddingRequest, body)
