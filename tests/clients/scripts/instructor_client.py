"""instructor on the official client, by tools and by JSON schema: ADDRESS KEY."""

import json
import sys
from typing import Literal

import instructor
from openai import OpenAI
from pydantic import BaseModel, Field, field_validator

address, key = sys.argv[1:]
openai = OpenAI(base_url=f"{address}/v1", api_key=key)
ASK = {
    "model": "chatglm2-tiny",
    "messages": [{"role": "user", "content": "很好吃，下次还来。"}],
    "temperature": 0,
    "max_tokens": 200,
}


class Review(BaseModel):
    """A judgement of a text."""

    verdict: Literal["good", "bad"]
    stars: int = Field(ge=1, le=5)


attempts: list[int] = []


class Picky(Review):
    """One that is never content with the first answer."""

    @field_validator("stars")
    @classmethod
    def second_time(cls, value: int) -> int:
        attempts.append(value)
        if len(attempts) == 1:
            raise ValueError("think again")
        return value


def by(mode: instructor.Mode) -> dict[str, object]:
    attempts.clear()
    sent: list[list[str]] = []
    client = instructor.from_openai(openai, mode=mode)
    client.on("completion:kwargs", lambda **kwargs: sent.append([message["role"] for message in kwargs["messages"]]))
    review = client.chat.completions.create(response_model=Review, **ASK)
    client.chat.completions.create(response_model=Picky, max_retries=2, **ASK)
    partial = list(client.chat.completions.create_partial(response_model=Review, **ASK))
    return {"review": review.model_dump(), "sent": sent, "attempts": len(attempts), "partial": partial[-1].model_dump()}


print(json.dumps({mode.name: by(mode) for mode in (instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA)}))
