"""The conversation of Zhipu's two clients, with their own fields."""

import json
from typing import Any

from weather import MODEL, USER, Weather, get_weather, strict_tool

OPTIONS = {
    "tools": [strict_tool()],
    "response_format": {"type": "json_object"},
    "do_sample": False,
    "user_id": "user-1234",
    "extra_body": {"thinking": {"type": "disabled"}},
}


def ask(client: Any, *, stream: bool = False) -> Weather:  # noqa: ANN401 - of either library
    """Run the tool as long as it is called, and read the answer."""
    messages: list[object] = [USER]
    while True:
        reply = client.chat.completions.create(model=MODEL, messages=messages, stream=stream, **OPTIONS)
        content, calls = _gather(reply) if stream else _whole(reply)
        if not calls:
            return Weather.model_validate_json(content)
        messages.append({"role": "assistant", "content": content, "tool_calls": calls})
        for call in calls:
            result = get_weather(**json.loads(call["function"]["arguments"]))
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})


def _whole(reply: Any) -> tuple[str, list[dict[str, Any]]]:  # noqa: ANN401
    message = reply.choices[0].message
    return message.content or "", [call.model_dump() for call in message.tool_calls or ()]


def _gather(chunks: Any) -> tuple[str, list[dict[str, Any]]]:  # noqa: ANN401
    content = ""
    calls: dict[int, dict[str, Any]] = {}
    for delta in (choice.delta for chunk in chunks for choice in chunk.choices):
        content += delta.content or ""
        for part in delta.tool_calls or ():
            call = calls.setdefault(part.index, {**part.model_dump(), "function": {"name": "", "arguments": ""}})
            call["function"]["name"] += part.function.name or ""
            call["function"]["arguments"] += part.function.arguments or ""
    return content, list(calls.values())
