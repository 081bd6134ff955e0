"""Tools and forms that the tests of this folder share, and a grammar's walker."""

import itertools
import random
from collections.abc import Callable, Sequence

import llguidance
import numpy as np
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask

from glmserve.chat.tools.marked_calls import CallFrame, JsonCalls, TaggedCalls
from glmserve.chat.tools.named_formats import ChatGLM3CallFormat, Glm4CallFormat
from glmserve.chat.tools.plain_text import TextCallFormat
from glmserve.chat.tools.types import (
    AnswerParser,
    AnswerPiece,
    CallFormat,
    Tool,
    ToolCall,
    ToolChoice,
    ToolConfig,
    gather_calls,
)
from glmserve.engine.params import Grammar

WEATHER = Tool(
    "get_weather",
    "查询一个城市的天气",
    {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "the city"},
            "code": {"type": "string", "maxLength": 6},
            "unit": {"type": "string", "enum": ["celsius", "华氏'\"\\"]},
            "days": {"type": "integer", "minimum": 1, "maximum": 7},
            "hourly": {"type": "boolean"},
            "note": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/note"}]},
        },
        "required": ["city", "days"],
        "$defs": {
            "note": {
                "type": "object",
                "properties": {"x": {"type": "integer", "minimum": -9, "maximum": 99}},
                "required": ["x"],
            }
        },
    },
)
CLOCK = Tool("now")
FORMS: dict[str, CallFormat] = {
    "text": TextCallFormat(),
    "chatglm3": ChatGLM3CallFormat(),
    "glm4": Glm4CallFormat(),
    "hermes": JsonCalls(CallFrame('<tool_call>\n{"name": "', "}\n</tool_call>", "\n"), '", "arguments": '),
    "llama3": JsonCalls(CallFrame('{"name": "', "}"), '", "parameters": '),
    "glm4.5": TaggedCalls(
        CallFrame("<tool_call>", "\n</tool_call>", "\n"), "\n<arg_key>", "</arg_key>\n<arg_value>", "</arg_value>"
    ),
    "qwen3-coder": TaggedCalls(
        CallFrame("<tool_call>\n<function=", ">\n</function>\n</tool_call>", "\n"),
        ">\n<parameter=",
        ">\n",
        "\n</parameter",
    ),
}
AUTO = ToolConfig((WEATHER, CLOCK))
REQUIRED = ToolConfig((WEATHER, CLOCK), ToolChoice.REQUIRED)


def ids() -> Callable[[], str]:
    count = itertools.count()
    return lambda: f"call_{next(count)}"


def read(parser: AnswerParser, pieces: Sequence[str]) -> tuple[str, tuple[ToolCall, ...]]:
    """What an answer is that comes in ``pieces``."""
    answer = sum((parser.feed(piece) for piece in pieces), AnswerPiece()) + parser.finish()
    return answer.text, gather_calls(answer.calls)


_TOKENIZER = llguidance.LLTokenizer("byte")


def matcher(grammar: Grammar) -> llguidance.LLMatcher:
    found = llguidance.LLMatcher(_TOKENIZER, grammar.source)
    assert not found.is_error(), found.get_error()
    return found


def takes(grammar: Grammar, text: str) -> bool:
    """Whether ``text`` is a whole answer."""
    walk = matcher(grammar)
    tokens = _TOKENIZER.tokenize_str(text)
    return bool(walk.validate_tokens(tokens) == len(tokens) and walk.consume_tokens(tokens) and walk.is_accepting())


def stubborn(grammar: Grammar, byte: int, most: int = 300) -> str:
    """What a model writes that picks the same byte wherever the grammar lets it; it ends as soon as it may."""
    walk, mask, data = matcher(grammar), allocate_token_bitmask(1, _TOKENIZER.vocab_size), bytearray()
    while len(data) < most:
        fill_next_token_bitmask(walk, mask)
        allowed = np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little")[: _TOKENIZER.vocab_size])
        if _TOKENIZER.eos_token in allowed:
            return data.decode()
        token = byte if byte in allowed else int(allowed[0])
        walk.consume_token(token)
        data.append(token)
    raise AssertionError(f"no end after {most} bytes: {bytes(data[:200])!r}")


def babble(grammar: Grammar, seed: int, most: int = 3000) -> str:
    """What a model writes that picks any byte that the grammar leaves; it ends where it may and luck will."""
    pick = random.Random(seed)
    walk, mask, data = matcher(grammar), allocate_token_bitmask(1, _TOKENIZER.vocab_size), bytearray()
    for _ in range(most):
        fill_next_token_bitmask(walk, mask)
        allowed = np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little")[: _TOKENIZER.vocab_size])
        token = int(pick.choice(allowed))
        if _TOKENIZER.eos_token in allowed and pick.random() < 0.3:
            return data.decode()
        if token == _TOKENIZER.eos_token:
            return data.decode()
        walk.consume_token(token)
        data.append(token)
    raise AssertionError(f"no end after {most} bytes: {bytes(data[:200])!r}")
