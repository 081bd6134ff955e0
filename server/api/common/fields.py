"""Fields that the requests of several endpoints have, declared once: type, bounds and description."""

from typing import Annotated

from pydantic import Field

from glmserve.api.common.base import ApiModel
from glmserve.api.common.numbers import AsWhole

ModelName = Annotated[str | None, Field(description="Name of the model. Absent or null: the server's default model.")]

AnswerCount = Annotated[
    Annotated[int, Field(ge=1), AsWhole] | None,
    Field(description="Number of answers, at most 128. Also limited to --parallel plus --max-waiting."),
]

Stream = Annotated[bool | None, Field(description="true: send the answer as server-sent events while it is generated.")]


class StreamOptions(ApiModel):
    """Content of a stream."""

    include_usage: bool | None = None


StreamOptionsField = Annotated[
    StreamOptions | None, Field(description="include_usage: add a last chunk with the token counts.")
]

TEMPERATURE = "Sampling temperature. 0 always selects the most likely token (greedy decoding)."
TOP_P = "Sample from the most likely tokens with this total probability. 0 keeps only the most likely token."
"""Descriptions of fields whose bounds differ between endpoints."""
