"""What a reply says, whatever its dialect and whether it came as a stream: texts, ends, tokens."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Told:
    """What is the same each time that a greedy request is answered, and how many tokens it took."""

    answers: object
    """Texts, calls and why they ended."""
    usage: tuple[int, int] | None = None
    """Tokens of prompt and answers, where they are told."""
    cached: int = 0
    """Of the prompt."""


def read(kind: str, body: bytes) -> Told:
    """Read a reply of status 200. Raises ValueError or KeyError where it is not whole."""
    return _READERS[kind](body)


def events(body: bytes) -> list[Json]:
    """Return the data of a stream's events; its last one is left out where it is no data."""
    blocks = body.decode().strip().split("\n\n")
    data = [block[block.index("data: ") + 6 :] for block in blocks if not block.startswith(":")]
    return [json.loads(one) for one in data if one != "[DONE]"]


def _chat(body: bytes) -> Told:
    reply = json.loads(body)
    answers = [
        (c["message"]["content"], _calls(c["message"].get("tool_calls") or ()), c["finish_reason"])
        for c in reply["choices"]
    ]
    return Told(answers, *_openai_usage(reply))


def _chat_stream(body: bytes) -> Told:
    _check_done(body)
    return _gathered(events(body), lambda choice: choice["delta"].get("content") or "", _chat_answer)


def _chat_answer(text: str, choices: list[Json]) -> object:
    calls: dict[int, Json] = {}
    for choice in choices:
        for call in choice["delta"].get("tool_calls") or ():
            if call["index"] in calls:
                calls[call["index"]]["function"]["arguments"] += call["function"]["arguments"]
            else:
                calls[call["index"]] = call
    return (text or None if calls else text, _calls(calls.values()), choices[-1]["finish_reason"])


def _calls(calls: Iterable[Json]) -> list[tuple[str, str]]:
    return [(call["function"]["name"], call["function"]["arguments"]) for call in calls]


def _completion(body: bytes) -> Told:
    reply = json.loads(body)
    return Told([(c["text"], c["finish_reason"]) for c in reply["choices"]], *_openai_usage(reply))


def _completion_stream(body: bytes) -> Told:
    _check_done(body)
    return _gathered(events(body), lambda c: c["text"], lambda text, choices: (text, choices[-1]["finish_reason"]))


def _gathered(chunks: list[Json], text_of: Callable[[Json], str], answer: Callable[[str, list[Json]], object]) -> Told:
    choices: dict[int, list[Json]] = {}
    usage: Json = {}
    for chunk in chunks:
        if "error" in chunk:
            raise ValueError(f"an error in a stream: {chunk}")
        usage = chunk if chunk.get("usage") else usage
        for choice in chunk["choices"]:
            choices.setdefault(choice["index"], []).append(choice)
    answers = [answer("".join(map(text_of, choices[index])), choices[index]) for index in sorted(choices)]
    return Told(answers, *_openai_usage(usage))


def _openai_usage(reply: Json) -> tuple[tuple[int, int] | None, int]:
    usage = reply.get("usage")
    if not usage:
        return None, 0
    return (usage["prompt_tokens"], usage["completion_tokens"]), usage["prompt_tokens_details"]["cached_tokens"]


def _response(body: bytes) -> Told:
    return _response_told(json.loads(body))


def _response_stream(body: bytes) -> Told:
    return _response_told(events(body)[-1]["response"])


def _response_told(response: Json) -> Told:
    answers = [
        (item["name"], item["arguments"]) if item["type"] == "function_call" else item["content"][0]["text"]
        for item in response["output"]
    ]
    usage = response["usage"]
    tokens = usage["input_tokens"], usage["output_tokens"]
    return Told((answers, response["status"]), tokens, usage["input_tokens_details"]["cached_tokens"])


def _message(body: bytes) -> Told:
    reply = json.loads(body)
    answers = [(part.get("text"), part.get("input")) for part in reply["content"]]
    return _message_told(answers, reply["stop_reason"], reply["usage"])


def _message_stream(body: bytes) -> Told:
    answers: list[tuple[str | None, object]] = []
    reason, usage = "", {}
    for event in events(body):
        if event["type"] == "message_start":
            usage = event["message"]["usage"]
        elif event["type"] == "content_block_start":
            block, pieces = event["content_block"], [""]
        elif event["type"] == "content_block_delta":
            pieces.append(event["delta"].get("text") or event["delta"].get("partial_json") or "")
        elif event["type"] == "content_block_stop":
            text = "".join(pieces)
            answers.append((text, None) if block["type"] == "text" else (None, json.loads(text or "{}")))
        elif event["type"] == "message_delta":
            reason, usage = event["delta"]["stop_reason"], {**usage, **event["usage"]}
    if event["type"] != "message_stop":
        raise ValueError(f"a stream that ends with {event}")
    return _message_told(answers, reason, usage)


def _message_told(answers: object, reason: str, usage: Json) -> Told:
    cached = usage["cache_read_input_tokens"]
    return Told((answers, reason), (usage["input_tokens"] + cached, usage["output_tokens"]), cached)


def _legacy(body: bytes) -> Told:
    reply = json.loads(body)
    return Told((reply["response"], reply["history"], reply["status"]))


def _embedding(body: bytes) -> Told:
    reply = json.loads(body)
    vectors = [item["embedding"] for item in reply["data"]]
    return Told(vectors, (reply["usage"]["prompt_tokens"], 0))


def _refused(body: bytes) -> Told:
    reply = json.loads(body)
    for name in ("request_id", "time"):
        reply.pop(name, None)
    return Told(reply)


def _check_done(body: bytes) -> None:
    if not body.endswith(b"data: [DONE]\n\n"):
        raise ValueError(f"a stream that ends with {body[-200:]!r}")


_READERS: Mapping[str, Callable[[bytes], Told]] = MappingProxyType(
    {
        "chat": _chat,
        "chat_stream": _chat_stream,
        "completion": _completion,
        "completion_stream": _completion_stream,
        "response": _response,
        "response_stream": _response_stream,
        "message": _message,
        "message_stream": _message_stream,
        "legacy": _legacy,
        "embedding": _embedding,
        "plain": lambda body: Told(json.loads(body)),
        "refused": _refused,
    }
)
