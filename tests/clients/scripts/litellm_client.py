"""LiteLLM with its provider for servers of OpenAI's API: ADDRESS KEY."""

import asyncio
import json
import sys

import litellm
import openai

address, key = sys.argv[1:]
SERVER = {"api_base": f"{address}/v1", "api_key": key}
HELLO = {"model": "openai/chatglm2-tiny", "messages": [{"role": "user", "content": "你好"}], "temperature": 0, **SERVER}
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["北京", "上海"]}},
            "required": ["city"],
        },
    },
}


def streamed(**settings: object) -> list[dict[str, object]]:
    chunks = litellm.completion(**HELLO, stream=True, max_tokens=40, **settings)
    return [chunk.model_dump(include={"choices", "usage"}) for chunk in chunks]


def refused(**settings: object) -> list[object]:
    try:
        litellm.completion(**{**HELLO, **settings})
    except openai.APIStatusError as error:  # of which all of its own errors are
        return [type(error).__name__, error.status_code]
    return []


called = litellm.completion(**HELLO, tools=[TOOL], tool_choice="required", parallel_tool_calls=False)
text = litellm.text_completion(
    model="text-completion-openai/chatglm2-tiny", prompt="[Round 1]\n\n问：你好\n\n答：", max_tokens=5, **SERVER
)
vectors = litellm.embedding(model="openai/bert", input=["a cat", "a mat"], **SERVER)

print(
    json.dumps(
        {
            "whole": litellm.completion(**HELLO, max_tokens=40).model_dump(),
            "async": asyncio.run(litellm.acompletion(**HELLO, max_tokens=40)).choices[0].message.content,
            "stream": streamed(),
            "stream_with_usage": streamed(stream_options={"include_usage": True}),
            "call": called.choices[0].message.tool_calls[0].function.model_dump(),
            "text": text.choices[0].text,
            "vectors": [item["embedding"] for item in vectors.data],
            "refused": [refused(temperature=9), refused(model="openai/nobody"), refused(api_key="sk-nobody-knows")],
        }
    )
)
