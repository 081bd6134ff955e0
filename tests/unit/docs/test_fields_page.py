"""The page of fields, and that it leaves none out."""

from pathlib import Path

import pytest
from anthropic.types import message_count_tokens_params as count_params
from anthropic.types import message_create_params as message_params
from openai.types import EmbeddingCreateParams
from openai.types import completion_create_params as text_params
from openai.types.chat import completion_create_params as chat_params
from openai.types.responses import response_create_params as response_params

from docs.generate.fields_page import fields_page
from glmserve.api.anthropic.field_policy import COUNTED, MESSAGES
from glmserve.api.common.field_policy import FieldPolicy
from glmserve.api.openai.chat_completions.field_policy import CHAT
from glmserve.api.openai.completions.field_policy import COMPLETION
from glmserve.api.openai.embeddings.protocol import EMBEDDING
from glmserve.api.openai.responses.field_policy import RESPONSES


def test_the_fields_page_is_up_to_date() -> None:
    page = Path(__file__).parents[3] / "docs" / "fields.md"
    assert page.read_text("utf-8") == fields_page(), "run make docs"


@pytest.mark.parametrize(
    ("table", "official"),
    [
        (CHAT, {*chat_params.CompletionCreateParamsBase.__annotations__, "stream"}),
        (EMBEDDING, {*EmbeddingCreateParams.__annotations__}),
        (COMPLETION, {*text_params.CompletionCreateParamsBase.__annotations__, "stream"}),
        (RESPONSES, {*response_params.ResponseCreateParamsBase.__annotations__, "stream"}),
        (MESSAGES, {*message_params.MessageCreateParamsBase.__annotations__, "stream"}),
        (COUNTED, {*count_params.MessageCountTokensParams.__annotations__}),
    ],
)
def test_every_field_of_the_official_client_is_in_the_table(table: FieldPolicy, official: set[str]) -> None:
    known = {field.name for part in (table.honoured, table.ignored, table.refused) for field in part}
    assert official <= known
