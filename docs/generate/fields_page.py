"""``docs/fields.md`` and ``docs/zh/fields.md``, made from the models and tables that requests are checked by."""

import json
import sys
from collections.abc import Iterator, Mapping
from types import MappingProxyType

import click
from pydantic.json_schema import JsonSchemaValue

from docs.generate.fields_chinese import COLUMNS, HEAD, line_in_chinese
from docs.generate.schema_text import value_text
from glmserve.api.anthropic.protocol import MessagesRequest, PromptRequest
from glmserve.api.common.base import RequestObject
from glmserve.api.common.field_policy import Ignored, Rejected
from glmserve.api.openai.batches import BatchRequest
from glmserve.api.openai.chat_completions.protocol import MESSAGE_REJECTED, ChatRequest
from glmserve.api.openai.completions.protocol import CompletionRequest
from glmserve.api.openai.embeddings import EmbeddingRequest
from glmserve.api.openai.rerank.protocol import RerankRequest, ScoreRequest
from glmserve.api.openai.responses.protocol import ResponsesRequest
from glmserve.api.openai.tasks import JudgeRequest
from glmserve.api.openai.tokenize import DetokenizeRequest, TokenizeText

ENDPOINTS: Mapping[str, type[RequestObject]] = MappingProxyType(
    {
        "/v1/chat/completions": ChatRequest,
        "/v1/completions": CompletionRequest,
        "/v1/embeddings": EmbeddingRequest,
        "/v1/rerank": RerankRequest,
        "/v1/score": ScoreRequest,
        "/tokenize": TokenizeText,
        "/detokenize": DetokenizeRequest,
        "/v1/responses": ResponsesRequest,
        "/v1/tasks/{id}/judge": JudgeRequest,
        "/v1/messages": MessagesRequest,
        "/v1/messages/count_tokens": PromptRequest,
        "/v1/batches": BatchRequest,
    }
)
"""The paths, and the models of their bodies."""

_HEAD = """\
# Fields of requests

<!-- Made by `make docs` from the models and tables that requests are checked by. -->

Each field has one of these kinds:

- **supported**: it does what OpenAI (or Anthropic) documents for this or another endpoint. Fields that neither has are
  marked "Extension"; they do what vLLM documents, unless another origin is named;
- **ignored**: it is accepted and has no effect, because it asks for no change of the answer;
- **default only**: it would change the answer and is not supported. Only the listed values are accepted, also within an
  object or array. Any other value is rejected (400, `unsupported_parameter`), and `param` names the field;
- **rejected**: the same, without any accepted value.

Null, `""`, `{}` and `[]` are accepted in every field of the last two kinds, also within an object. A field that is not
listed is unknown: it is ignored. The header `x-glmserve-ignored-fields` of the reply names it (at most 32 names), and
the log names each one once. With `--strict-fields`, an unknown field is rejected (400, `unknown_parameter`).

`/openapi.json` has the same fields, values and descriptions, and the page `/docs` of a server shows them.
"""
_COLUMNS = "| field | kind | value | description |\n| --- | --- | --- | --- |\n"
_NOTES: Mapping[str, str] = MappingProxyType(
    {
        "/tokenize": "\nA body with `messages` has the fields of a chat, and `return_token_strs`.\n",
        "/v1/rerank": "\n`POST /v2/rerank` has the same fields.\n",
        "/v1/responses": "\n`POST /v1/responses/input_tokens` has the same fields.\n",
        "/v1/chat/completions": "\n### Of a message\n\nUnknown fields of a message are labels and are accepted.\n\n"
        + _COLUMNS,
    }
)


def fields_page(language: str = "en") -> str:
    """Return the page in English, or with "zh" in Chinese."""
    tables = "".join(_section(path, kind) for path, kind in ENDPOINTS.items())
    if language != "zh":
        return _HEAD + tables
    return HEAD + "\n".join(map(line_in_chinese, tables.replace(_COLUMNS, COLUMNS).split("\n")))


def _section(path: str, kind: type[RequestObject]) -> str:
    note = _NOTES.get(path, "")
    if kind is ChatRequest:
        note += "".join(map(_rejected, MESSAGE_REJECTED))
    return f"\n## POST {path}\n\n{_COLUMNS}{''.join(_rows(kind))}{note}"


def _rows(kind: type[RequestObject]) -> Iterator[str]:
    """Yield the rows of a model: required fields, other supported ones by name, then the fields of the policy."""
    schema = kind.model_json_schema(mode="validation")
    required = schema.get("required", [])
    for name in sorted(kind.supported_fields(), key=lambda name: (name not in required, name)):
        yield _supported(name, schema["properties"][name], name in required)
    yield from map(_ignored, kind.policy.ignored)
    yield from map(_rejected, kind.policy.rejected)


def _supported(name: str, schema: JsonSchemaValue, required: bool) -> str:
    return _row(name, "supported, required" if required else "supported", value_text(schema), schema["description"])


def _ignored(field: Ignored) -> str:
    return _row(field.name, "ignored", "any", _sentence(field.note))


def _rejected(field: Rejected) -> str:
    values = " or ".join(f"`{json.dumps(value)}`" for value in field.neutral)
    return _row(field.name, "default only" if values else "rejected", values, _sentence(field.note))


def _sentence(note: str) -> str:
    return f"{note[:1].upper()}{note[1:]}." if note else ""


def _row(name: str, kind: str, value: str, description: str) -> str:
    return f"| `{name}` | {kind} | {value} | {description} |\n"


if __name__ == "__main__":
    click.echo(fields_page(*sys.argv[1:]), nl=False)
