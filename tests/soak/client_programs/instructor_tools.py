"""instructor: the answer as arguments of a call, asked for again when wrong (``TOOLS``, ``RESPONSES_TOOLS``)."""

import instructor
from openai import OpenAI
from pydantic import field_validator
from weather import MODEL, QUESTION, SERVER, USER, Weather, called, tell


class Plausible(Weather):
    @field_validator("celsius")
    @classmethod
    def check(cls, celsius: int) -> int:
        if celsius > 60:
            called.append(str(celsius))
            raise ValueError("no city is that hot")
        return celsius


Plausible.__name__ = "Weather"
asked = {"model": MODEL, "response_model": Plausible}
chat = instructor.from_openai(OpenAI(**SERVER), mode=instructor.Mode.TOOLS)
responses = instructor.from_openai(OpenAI(**SERVER), mode=instructor.Mode.RESPONSES_TOOLS)
tell(
    "instructor",
    chat=chat.chat.completions.create(messages=[USER], **asked),
    responses=responses.responses.create(input=QUESTION, **asked),
)
