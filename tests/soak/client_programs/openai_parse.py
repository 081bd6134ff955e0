"""openai: ``parse`` with tools and a format, by both APIs; the tool's result is sent back."""

import json
from typing import Any

from openai import OpenAI, pydantic_function_tool
from pydantic import BaseModel
from weather import MODEL, QUESTION, SERVER, USER, Weather, get_weather, strict_tool, tell

client = OpenAI(**SERVER)


class City(BaseModel):
    city: str


def chat() -> object:
    messages: list[Any] = [USER]
    tools = [pydantic_function_tool(City, name="get_weather")]
    while True:
        reply = client.chat.completions.parse(model=MODEL, messages=messages, tools=tools, response_format=Weather)
        message = reply.choices[0].message
        if not message.tool_calls:
            return message.parsed
        messages.append(message)
        for call in message.tool_calls:
            city = call.function.parsed_arguments
            assert isinstance(city, City)
            result = get_weather(city.city)
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})


def responses() -> object:
    tool: Any = {"type": "function", **strict_tool()["function"]}
    asked: list[Any] = [{"role": "user", "content": QUESTION}]
    while True:
        reply = client.responses.parse(model=MODEL, input=asked, tools=[tool], text_format=Weather)
        calls = [item for item in reply.output if item.type == "function_call"]
        if not calls:
            return reply.output_parsed
        asked += reply.output
        for call in calls:
            result = get_weather(**json.loads(call.arguments))
            asked.append({"type": "function_call_output", "call_id": call.call_id, "output": result})


tell("openai", chat=chat(), responses=responses())
