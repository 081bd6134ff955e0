"""``GET /docs``: the API as one page of HTML, made from the document of ``/openapi.json``. Pure.

It has no script but the one for light and dark, so the policy of the chat page holds for it as well.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import TypeAlias

Json: TypeAlias = Mapping[str, object]

_TITLES = {
    "generation": "Answers",
    "text": "Tokens and texts",
    "models": "Models",
    "operation": "Operation",
}
_BODY = "application/json"
_STREAM = "text/event-stream"
_PAGE = """\
<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <meta name="color-scheme" content="light dark">
  <title>glmserve API</title>
  <link rel="icon" href="page/{version}/icon.svg" type="image/svg+xml">
  <link rel="stylesheet" href="page/{version}/css/theme.css">
  <link rel="stylesheet" href="page/{version}/css/api.css">
  <script src="page/{version}/js/theme.js"></script>
</head>
<body class="api">
  <header>
    <h1>glmserve API</h1>
    <p>Open an address for its fields, replies and an example. <a href="openapi.json">openapi.json</a> has the same for
      programs. <a href="./">Chat page</a>.</p>
    <p>{access}</p>
  </header>
  <main>
{content}
  </main>
</body>
</html>
"""
_OPEN = "This server needs no API key."
_KEY = (
    "This server needs an API key: <code>Authorization: Bearer KEY</code>, <code>x-api-key</code> or "
    "<code>api-key</code>."
)


def render(document: Json, version: str) -> str:
    """Return the page.

    Args:
        document: the OpenAPI document.
        version: of the page's files.
    """
    content = "\n".join((*_operations(document), *_types(document)))
    return _PAGE.format(version=version, access=_KEY if document.get("security") else _OPEN, content=content)


def _operations(document: Json) -> Iterator[str]:
    operations = [
        (method, path, operation)
        for path, methods in _of(document, "paths").items()
        for method, operation in _object(methods).items()
    ]
    for tag, title in _TITLES.items():
        yield f"<section><h2>{title}</h2>"
        for method, path, operation in operations:
            if tag in _list(_object(operation).get("tags")):
                yield _operation(method.upper(), path, _object(operation))
        yield "</section>"


def _operation(method: str, path: str, operation: Json) -> str:
    body = _of(operation, "requestBody", "content", _BODY, "schema")
    parts = [_text(operation.get("description")), _example(method, path, body)]
    if body:
        parts.append(f"<p>Body: {_kind(body)}</p>")
    parts.append(_table(("status", "reply", ""), map(_reply, _of(operation, "responses").items())))
    summary = f"<span>{_plain(operation.get('summary'))}</span>"
    head = f'<span class="method">{method}</span> <code>{escape(path)}</code> {summary}'
    return _details(method + path, head, "".join(parts))


def _example(method: str, path: str, body: Json) -> str:
    """Return a command for the address, with a body that the server answers."""
    command = f"curl -s http://127.0.0.1:8000{path.replace('{task_id}', 'review')}"
    if method != "GET":
        command = command.replace("curl -s", f"curl -s -X {method}", 1) if not body else command
    if body:
        command += f" -d '{json.dumps(_EXAMPLES.get(path, {}), ensure_ascii=False)}'"
    elif path == _FILES and method == "POST":
        command += " -F purpose=batch -F file=@requests.jsonl"
    return f"<pre><code>{escape(command)}</code></pre>"


_FILES = "/v1/files"
_GREETING = [{"role": "user", "content": "你好"}]
_EXAMPLES: Mapping[str, Json] = {
    "/v1/chat/completions": {"messages": _GREETING},
    "/v1/completions": {"prompt": "你好", "max_tokens": 20},
    "/v1/embeddings": {"input": "你好"},
    "/v1/rerank": {"query": "晴天", "documents": ["今天出太阳", "数学考试"]},
    "/v2/rerank": {"query": "晴天", "documents": ["今天出太阳", "数学考试"]},
    "/v1/score": {"text_1": "晴天", "text_2": ["今天出太阳", "数学考试"]},
    "/tokenize": {"prompt": "你好"},
    "/detokenize": {"tokens": [1, 2, 3]},
    "/v1/responses": {"input": "你好"},
    "/v1/responses/input_tokens": {"input": "你好"},
    "/v1/messages": {"max_tokens": 60, "messages": _GREETING},
    "/v1/messages/count_tokens": {"messages": _GREETING},
    "/v1/tasks/{task_id}/judge": {"answers": ["正面", "负面"]},
    "/v1/batches": {"input_file_id": "file-…", "endpoint": "/v1/chat/completions", "completion_window": "24h"},
    "/chatglm": {"prompt": "你好", "history": []},
    "/": {"prompt": "你好", "history": []},
    "/baichuan": {"prompt": "你好"},
}
"""Bodies that the server answers, by address."""


def _reply(status_and_reply: tuple[str, object]) -> tuple[str, str, str]:
    status, reply = status_and_reply
    content = _of(_object(reply), "content")
    kinds = [_kind(schema) for media in content.values() if (schema := _of(_object(media), "schema"))]
    if _STREAM in content:
        kinds.append("a stream of events")
    return escape(status), " or ".join(kinds), _plain(_object(reply).get("description"))


def _types(document: Json) -> Iterator[str]:
    yield "<section><h2>Types</h2>"
    for name, schema in sorted(_of(document, "components", "schemas").items()):
        yield _type(name, _object(schema))
    yield "</section>"


def _type(name: str, schema: Json) -> str:
    required = _list(schema.get("required"))
    fields = [
        (f"<code>{escape(field)}</code>{' *' if field in required else ''}", _kind(_object(part)), _description(part))
        for field, part in _of(schema, "properties").items()
    ]
    inside = _table(("field", "type", ""), fields) if fields else f"<p>{_kind(schema)}</p>"
    note = "<p>* required</p>" if required else ""
    return _details(name, f"<code>{escape(name)}</code>", _text(schema.get("description")) + inside + note)


def _details(name: str, head: str, content: str) -> str:
    """Return a part that is closed at first; a link to its content opens it."""
    return f'<details><summary>{head}</summary><div id="{_anchor(name)}">{content}</div></details>'


def _kind(schema: Json) -> str:
    """Return the values that a schema takes, in a few words."""
    if isinstance(reference := schema.get("$ref"), str):
        name = reference.rpartition("/")[2]
        return f'<a href="#{_anchor(name)}">{escape(name)}</a>'
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return " or ".join(dict.fromkeys(_kind(_object(part)) for part in _list(schema[several])))
    if "const" in schema:
        return f"<code>{escape(json.dumps(schema['const'], ensure_ascii=False))}</code>"
    if "enum" in schema:
        values = (json.dumps(value, ensure_ascii=False) for value in _list(schema["enum"]))
        return " or ".join(f"<code>{escape(value)}</code>" for value in values)
    if schema.get("type") == "array":
        return f"array of {_kind(_of(schema, 'items'))}"
    return escape(str(schema.get("type", "any")))


def _description(part: object) -> str:
    return _plain(_object(part).get("description"))


def _table(heads: Iterable[str], rows: Iterable[tuple[str, ...]]) -> str:
    head = "".join(f"<th>{name}</th>" for name in heads)
    lines = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="table"><table><tr>{head}</tr>{lines}</table></div>'


def _text(value: object) -> str:
    return f"<p>{_plain(value)}</p>" if value else ""


def _plain(value: object) -> str:
    return escape(str(value)) if value else ""


def _anchor(name: str) -> str:
    return re.sub(r"\W+", "-", name)


def _of(document: Json, *path: str) -> Json:
    """Return the object at ``path``, empty where there is none."""
    for key in path:
        document = _object(document.get(key))
    return document


def _object(value: object) -> Json:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else []
