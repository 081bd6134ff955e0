"""``docs/fields.md``, made from the tables that requests are checked by."""

import json

import click

from glmserve.api.anthropic.field_policy import MESSAGES
from glmserve.api.common.field_policy import FieldPolicy, Rejected
from glmserve.api.openai.chat_completions.field_policy import CHAT, MESSAGE_REFUSED
from glmserve.api.openai.completions.field_policy import COMPLETION
from glmserve.api.openai.embeddings.protocol import EMBEDDING
from glmserve.api.openai.responses.field_policy import RESPONSES
from glmserve.api.openai.tokenize import TOKENIZE

_HEAD = """\
# Fields of requests

<!-- Made by `make docs` from the tables that requests are checked by. -->

Every field is one of these:

- **honoured**: it does what OpenAI (or Anthropic) says it does, or vLLM where OpenAI has no such field ("extension");
- **accepted without effect**: it asks for nothing that changes the answer;
- **by default value only**: it would change the answer and is not supported, so that only values are accepted that ask
  for nothing, also within an object or array; any other is refused (400, `unsupported_parameter`) by the name of the
  field;
- **refused**: the same, where no value but null and empty ones asks for nothing.

Null, `""`, `{}` and `[]` ask for nothing and are accepted in every field of the last two kinds, also within an object.
A field that is not listed is ignored, and told: the header `x-glmserve-ignored-fields` of the reply names it (the first
32 of them), and the log names each once. With `--strict-fields` it is refused instead (400, `unknown_parameter`).
"""
_COLUMNS = "| field | | |\n| --- | --- | --- |\n"
_MESSAGE_NOTE = """
### Of a message

Beside `role`, `content`, `tool_calls`, `tool_call_id` and the older `function_call`. Fields that are not listed, such
as `name`, only label a message and are accepted.

"""


_COUNT_NOTE = """
`POST /v1/messages/count_tokens` takes the same fields; what is said of the answer changes nothing there.
"""


def fields_page() -> str:
    """Return the page."""
    return "".join(
        (
            _HEAD,
            "\n## POST /v1/chat/completions\n\n", _COLUMNS, _rows(CHAT),
            _MESSAGE_NOTE, _COLUMNS, "".join(map(_refused, MESSAGE_REFUSED)),
            "\n## POST /v1/completions\n\n", _COLUMNS, _rows(COMPLETION),
            "\n## POST /v1/embeddings\n\n", _COLUMNS, _rows(EMBEDDING),
            "\n## POST /tokenize\n\n", _COLUMNS, _rows(TOKENIZE),
            "\n## POST /v1/responses\n\n", _COLUMNS, _rows(RESPONSES),
            "\n## POST /v1/messages\n\n", _COLUMNS, _rows(MESSAGES), _COUNT_NOTE,
        )
    )  # fmt: skip


def _rows(table: FieldPolicy) -> str:
    honoured = (_row(field.name, "honoured", field.note) for field in table.honoured)
    ignored = (_row(field.name, "accepted without effect", field.note) for field in table.ignored)
    return "".join((*honoured, *ignored, *map(_refused, table.refused)))


def _refused(field: Rejected) -> str:
    if not field.neutral:
        return _row(field.name, "refused", field.note)
    values = " or ".join(f"`{json.dumps(value)}`" for value in _distinct(field.neutral))
    return _row(field.name, "by default value only", f"{values}; {field.note}" if field.note else values)


def _distinct(values: tuple[object, ...]) -> list[object]:
    """Return ``values`` without those that a reader takes for the same, such as 1 and 1.0."""
    return [value for index, value in enumerate(values) if value not in values[:index]]


def _row(name: str, fate: str, note: str) -> str:
    return f"| `{name}` | {fate} | {note} |\n"


if __name__ == "__main__":
    click.echo(fields_page(), nl=False)
