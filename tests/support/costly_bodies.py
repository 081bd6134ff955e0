"""Bodies that cost most to read for their size: nested, wide and repeated, in the fields of every POST address."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

LARGEST = 7_990_000
"""Bytes; ``--max-body-mb`` is 8 by default."""
_UNITS = 980_000
"""Just below what ``glmserve.http.json_body`` takes."""
_DEEP = 400

CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
COUNT_RESPONSES, MESSAGES, COUNT_MESSAGES = "/v1/responses/input_tokens", "/v1/messages", "/v1/messages/count_tokens"
TOKENIZE, DETOKENIZE, EMBEDDINGS = "/tokenize", "/detokenize", "/v1/embeddings"
RERANK = ("/v1/rerank", "/v2/rerank")
SCORE = "/v1/score"
BATCHES, JUDGE = "/v1/batches", "/v1/tasks/review/judge"
LEGACY = ("/chatglm", "/baichuan", "/")

_SAID = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
PLAIN: Mapping[str, dict[str, object]] = MappingProxyType(
    {
        CHAT: _SAID,
        COMPLETIONS: {"prompt": "hi", "max_tokens": 1},
        RESPONSES: {"input": "hi", "max_output_tokens": 1},
        COUNT_RESPONSES: {"input": "hi"},
        MESSAGES: {"model": "chat", **_SAID},
        COUNT_MESSAGES: {"model": "chat", "messages": _SAID["messages"]},
        TOKENIZE: {"prompt": "hi"},
        DETOKENIZE: {"tokens": [5]},
        EMBEDDINGS: {"model": "vectors", "input": "mat"},
        **{path: {"model": "scores", "query": "hi", "documents": ["mat"]} for path in RERANK},
        SCORE: {"model": "scores", "text_1": "hi", "text_2": "mat"},
        BATCHES: {"input_file_id": "file-none", "endpoint": CHAT, "completion_window": "24h"},
        JUDGE: {"answers": ["hi"]},
        **{path: {"prompt": "hi", "max_length": 20} for path in LEGACY},
    }
)
"""A request to each address that fits its schema."""


@dataclass(frozen=True)
class Costly:
    """A body and where it goes."""

    path: str
    name: str
    body: bytes


def _array(item: str, units: int, most: int = LARGEST) -> str:
    """As many of ``item`` as there may be bytes, or units of work where those are given."""
    count = min(most // (len(item.encode()) + 1), _UNITS // units if units else most)
    return "[" + ",".join([item] * count) + "]"


def _numbered(key: str, value: str, units: int) -> str:
    count = min(LARGEST // (len(key) + len(value) + 10), _UNITS // units if units else LARGEST)
    return "{" + ",".join(f'"{key}{index}":{value}' for index in range(count)) + "}"


def values(*, within: bool) -> Iterator[tuple[str, Callable[[], str]]]:
    """Yield values of any field: as large as a body may be, or ``within`` the work that is taken."""

    def array(name: str, item: str, units: int) -> tuple[str, Callable[[], str]]:
        return name, lambda: _array(item, units if within else 0)

    yield array("zeros", "0", 2)
    yield array("fractions", "0e1", 2)
    yield array("long numbers", "9" * 399, 2)
    yield array("long fractions", "0." + "7" * 390, 2)
    yield array("empty strings", '""', 2)
    yield array("nulls", "null", 2)
    yield array("empty arrays", "[]", 12)
    yield array("empty objects", "{}", 12)
    yield array("pairs", '["",""]', 14)
    yield array("objects", '{"type":"text","text":""}', 34)
    yield array("texts", json.dumps("字" * 50), 100 if within else 0)
    yield array("deep arrays", "[" * _DEEP + "]" * _DEEP, 10 * _DEEP)
    yield "many fields", lambda: _numbered("k", "0", 12 if within else 0)
    yield "many fields of arrays", lambda: _numbered("k", "[[]]", 32 if within else 0)
    yield "one text", lambda: '"' + "a" * (LARGEST - 300) + '"'
    yield "one text of blanks", lambda: '"' + " " * (LARGEST - 300) + '"'
    yield "one text of escapes", lambda: '"' + "\\na" * (_UNITS if within else LARGEST // 3 - 300) + '"'
    yield "one text beyond the basic plane", lambda: '"😀' + "a" * (LARGEST - 300) + '"'
    yield "a deep array", lambda: "[" * 90_000 + "]" * 90_000


def in_every_field(path: str, names: Mapping[str, object], *, within: bool) -> Iterator[Callable[[], Costly]]:
    """Yield bodies for ``path``, with each value in each field of ``names`` and in one that nobody knows."""
    for field in (*names, "unknown"):
        for name, value in values(within=within):
            yield partial(_with_made, path, field, name, value)


def _with_made(path: str, field: str, name: str, value: Callable[[], str]) -> Costly:
    return _with(path, field, name, value())


def _with(path: str, field: str, name: str, value: str) -> Costly:
    rest = {key: given for key, given in PLAIN[path].items() if key != field}
    body = json.dumps(rest)[:-1] + (", " if rest else "") + f"{json.dumps(field)}: {value}}}"
    return Costly(path, f"{field}: {name}", body.encode())


def _surrogate() -> str:
    empty = ",".join(['""'] * 100_000)
    said = '[{"role":"user","content":"hi \\ud83d\\ude00"}]'
    return '{{"messages":{},"metadata":{{"{}":[{}]}}}}'.format(said, "k" * 1_000_000, empty)


def known() -> Iterator[Costly]:
    """Yield what has stopped a server: a list of all errors, and a path for each string."""
    for path in (CHAT, MESSAGES, RESPONSES, *LEGACY):
        yield Costly(path, "a path for each string", _surrogate().encode())
    for field in ("messages", "tools", "functions", "input", "history", "tokens", "prompt", "stop"):
        for path in (CHAT, COMPLETIONS, RESPONSES, MESSAGES, TOKENIZE, DETOKENIZE, EMBEDDINGS, "/chatglm"):
            if path in (CHAT, MESSAGES) or field in PLAIN[path]:
                yield _with(path, field, "zeros", _array("0", 0))
    of_one = (*((path, "documents") for path in RERANK), (SCORE, "text_2"), (JUDGE, "answers"), (BATCHES, "metadata"))
    for path, field in of_one:
        yield _with(path, field, "zeros", _array("0", 0))
    yield _with(JUDGE, "answers", "texts", _array('"hi"', 0))


def valid(documents: int = 10_000) -> Iterator[Costly]:
    """Yield bodies that are requests, of as many parts as may be; ``documents``, which a model reads, of a reranker."""
    message = '{"role":"user","content":""}'
    for path in (CHAT, MESSAGES, COUNT_MESSAGES, TOKENIZE):
        yield _with(path, "messages", "messages", _array(message, 34))
    parts = _array('{"type":"text","text":""}', 34)
    for path in (CHAT, MESSAGES, COUNT_MESSAGES):
        yield _with(path, "messages", "parts", f'[{{"role":"user","content":{parts}}}]')
    for path in (RESPONSES, COUNT_RESPONSES):
        yield _with(path, "input", "items", _array(message, 34))
        yield _with(
            path, "input", "parts", '[{{"role":"user","content":{}}}]'.format(parts.replace('"text",', '"input_text",'))
        )
        yield _with(
            path, "input", "calls", _array('{"type":"function_call","call_id":"a","name":"f","arguments":""}', 60)
        )
    yield _with(CHAT, "tools", "tools", _array('{"type":"function","function":{"name":"f"}}', 54))
    yield _with(RESPONSES, "tools", "tools", _array('{"type":"function","name":"f"}', 34))
    yield _with(MESSAGES, "tools", "tools", _array('{"name":"f","input_schema":{}}', 44))
    wide = '{{"type":"object","properties":{}}}'.format(_numbered("p", "{}", 22))
    yield _with(
        CHAT, "tools", "one wide tool", f'[{{"type":"function","function":{{"name":"f","parameters":{wide}}}}}]'
    )
    yield _with(MESSAGES, "tools", "one wide tool", f'[{{"name":"f","input_schema":{wide}}}]')
    yield _with(CHAT, "guided_json", "a wide schema", wide)
    yield _with(CHAT, "guided_choice", "choices", _array('"a"', 2))
    yield _with(CHAT, "logit_bias", "biases", _numbered("", "1", 12))
    yield _with(RESPONSES, "prompt", "variables", '{{"id":"reading","variables":{}}}'.format(_numbered("v", '""', 12)))
    yield _with(RESPONSES, "metadata", "values", _numbered("v", '""', 12))
    for path in (COMPLETIONS, EMBEDDINGS):
        field = "prompt" if path == COMPLETIONS else "input"
        ids = _array("5", 0, 60_000)
        yield _with(path, field, "ids", _array("5", 2))
        yield _with(path, field, "lists of ids", f"[{','.join([ids] * 15)}]")
        count = 32 if path == COMPLETIONS else 2048
        yield _with(path, field, "texts", _array('"' + "字" * 600 + '"', 0, count * 1803))
    yield _with(RERANK[0], "documents", "texts", _array('"mat"', 0, 6 * documents))
    yield _with(TOKENIZE, "prompt", "a text", '"' + "1 " * 16_000 + '", "return_token_strs": true')
    yield _with(DETOKENIZE, "tokens", "ids", _array("5", 0, 260_000))
    for path in LEGACY:
        yield _with(path, "history", "rounds", _array('["a","b"]', 14))
        yield _with(path, "history", "long rounds", _array('["%s","b"]' % ("字" * 200), 14))
