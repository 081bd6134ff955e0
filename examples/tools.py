"""A call of a tool, and facts of a sentence as an object."""

import json
import os
from typing import Literal

from openai import OpenAI
from pydantic import BaseModel

client = OpenAI(base_url=f"{os.environ.get('GLMSERVE_URL', 'http://127.0.0.1:8000')}/v1", api_key="none")
model = client.models.list().data[0].id

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "查询一个城市的天气",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["北京", "上海"]}},
            "required": ["city"],
        },
    },
}


class Review(BaseModel):
    """The schema of the answer."""

    verdict: Literal["正面", "负面"]


# "required": the model must call a tool; "auto" leaves it the choice.
asked = [{"role": "user", "content": "北京的天气怎么样？"}]
reply = client.chat.completions.create(model=model, messages=asked, tools=[WEATHER], tool_choice="required")
call = reply.choices[0].message.tool_calls[0].function
print(call.name, json.loads(call.arguments)["city"])

asked = [{"role": "user", "content": "请判断是正面还是负面：很好看，推荐！"}]
parsed = client.chat.completions.parse(model=model, messages=asked, response_format=Review)
print(parsed.choices[0].message.parsed)
