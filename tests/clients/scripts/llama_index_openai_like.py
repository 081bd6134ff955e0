"""LlamaIndex's OpenAILike, as a text model (its default) and as a chat model: ADDRESS KEY."""

import asyncio
import json
import sys
from typing import Literal

from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike

address, key = sys.argv[1:]
PROMPT = "[Round 1]\n\n问：你好\n\n答："


def get_weather(city: Literal["北京", "上海"]) -> str:
    """查询一个城市的天气。"""
    return f"{city}：晴"


SHORT = {"temperature": 0, "max_tokens": 40}
text = OpenAILike(model="chatglm2-tiny", api_base=f"{address}/v1", api_key=key, **SHORT)
llm = OpenAILike(model="chatglm2-tiny", api_base=f"{address}/v1", api_key=key, is_chat_model=True)
chat = llm.model_copy(update=SHORT)
caller = chat.model_copy(update={"is_function_calling_model": True})
hello = [ChatMessage(role="system", content="简短回答"), ChatMessage(role="user", content="你好")]
asked = caller.chat_with_tools(
    [FunctionTool.from_defaults(get_weather)], user_msg="北京的天气怎么样？", tool_required=True
)

print(
    json.dumps(
        {
            "text": text.complete(PROMPT).text,
            "text_stream": [chunk.text for chunk in text.stream_complete(PROMPT)],
            "text_chat": text.chat(hello).message.content,
            "chat": chat.chat(hello).message.content,
            "chat_usage": chat.chat(hello).raw.usage.model_dump(),
            "chat_stream": [chunk.message.content for chunk in chat.stream_chat(hello)],
            "chat_complete": chat.complete("你好").text,
            "chat_async": asyncio.run(chat.acomplete("你好")).text,
            "calls": [[call.tool_name, call.tool_kwargs] for call in caller.get_tool_calls_from_response(asked)],
        }
    )
)
