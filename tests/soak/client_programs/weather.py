"""What the programs share: a tool, the format of the answer, and one line of JSON at the end."""

import json
import sys
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel

ADDRESS = sys.argv[1]
SERVER = {"base_url": f"{ADDRESS}/v1", "api_key": "none"}
MODEL = "chatglm2-tiny"
QUESTION = "北京现在多少度？"
USER = {"role": "user", "content": QUESTION}
called: list[str] = []


class Weather(BaseModel):
    """The weather of a city."""

    city: str
    celsius: int


def get_weather(city: str) -> str:
    """Tell the weather of a city.

    Args:
        city: its name
    """
    called.append(city)
    return f"{city}：21 度"


def strict_tool() -> dict[str, Any]:
    """The tool as OpenAI's API describes it."""
    city = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    parameters = {**city, "additionalProperties": False}
    return {"type": "function", "function": {"name": "get_weather", "parameters": parameters, "strict": True}}


def tell(package: str, **answers: object) -> None:
    """Print the answers, each by the way it was asked for."""
    told = {way: one.model_dump() if isinstance(one, BaseModel) else one for way, one in answers.items()}
    print(json.dumps({"version": version(package), "answers": told, "called": called}))
