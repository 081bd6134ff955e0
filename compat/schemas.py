"""The body of the original ``api.py`` as its callers send it: every value may be absent, null, 0, "" or a string."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from typing_extensions import NotRequired, TypedDict

from server.errors import InvalidRequest
from server.prompts.message import Message, Role

_LARGEST_TEMPERATURE = 2.0

_MOST_TURNS = 20_000
"""More rounds than any context holds; reading a million of them would keep all other callers waiting."""

_Number = float | str | bool | None


class LegacyBody(TypedDict):
    """The body as callers may send it; other fields have no effect."""

    prompt: str
    history: NotRequired[list[list[object]] | None]
    max_length: NotRequired[_Number]
    top_p: NotRequired[_Number]
    temperature: NotRequired[_Number]


@dataclass(frozen=True, slots=True)
class LegacyRequest:
    """One question after some finished rounds. A number that was not given, or 0, is None: the contract's default."""

    prompt: str
    history: tuple[object, ...]
    """As it was sent, to be sent back."""
    turns: tuple[tuple[str, str], ...]
    """The latest of it as text."""
    max_length: int | None
    """Tokens of prompt and answer together."""
    top_p: float | None
    temperature: float | None

    def messages(self, first_turn: int = 0) -> tuple[Message, ...]:
        """Return the conversation from round ``first_turn`` on."""
        earlier = [
            message
            for question, answer in self.turns[first_turn:]
            for message in (Message(Role.USER, question), Message(Role.ASSISTANT, answer))
        ]
        return (*earlier, Message(Role.USER, self.prompt))


def parse_legacy_request(body: Mapping[str, object]) -> LegacyRequest:
    """Return the body as a checked request. Numbers that the original took are cut to what is sensible.

    Raises:
        InvalidRequest: the original would have failed with a bare 500.
    """
    prompt = body.get("prompt")
    if not isinstance(prompt, str):
        raise InvalidRequest("prompt must be a string", param="prompt")
    history = _history(body.get("history"))
    left_out = max(0, len(history) - _MOST_TURNS)
    return LegacyRequest(
        prompt=prompt,
        history=tuple(history),
        turns=tuple(_turn(pair, index) for index, pair in enumerate(history[left_out:], left_out)),
        max_length=_whole(body, "max_length"),
        top_p=_positive(body, "top_p", 1.0),
        temperature=_positive(body, "temperature", _LARGEST_TEMPERATURE),
    )


def _history(value: object) -> Sequence[object]:
    if not value:
        return ()
    if not isinstance(value, list):
        raise InvalidRequest("history must be a list of [question, answer] pairs", param="history")
    return value


def _turn(pair: object, index: int) -> tuple[str, str]:
    """Return one round as text; an answer that is missing is empty."""
    path = f"history[{index}]"
    if not isinstance(pair, list) or len(pair) not in (1, 2):
        raise InvalidRequest(f"{path} must be a [question, answer] pair", param=path)
    question, answer = (*pair, "")[:2]
    return _text(question, f"{path}[0]"), _text(answer, f"{path}[1]")


def _text(value: object, path: str) -> str:
    """Return ``value`` as the original's prompt had it: null is the text "None"."""
    if isinstance(value, list | dict) or (isinstance(value, float) and not math.isfinite(value)):
        raise InvalidRequest(f"{path} must be a string or null", param=path)
    return str(value)


def _whole(body: Mapping[str, object], name: str) -> int | None:
    value = _number(body, name)
    # What is left of a fraction may be 0, which is a number here and not the absence of one.
    return None if value is None else int(value)


def _positive(body: Mapping[str, object], name: str, most: float) -> float | None:
    value = _number(body, name)
    if value is not None and value < 0:
        raise InvalidRequest(f"{name} must not be negative, but is {value}", param=name)
    return None if value is None else min(value, most)


def _number(body: Mapping[str, object], name: str) -> float | None:
    """Return a number; whatever Python takes for false is none, as is a string for zero."""
    value = body.get(name)
    if isinstance(value, str):
        value = _parse(value.strip(), name)
    if not value:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidRequest(f"{name} must be a number", param=name)
    # A larger integer is no float; nothing that large means anything but "as much as there is".
    number = float(max(min(value, 2**53), -(2**53)))
    if not math.isfinite(number):
        raise InvalidRequest(f"{name} must be a finite number", param=name)
    return number


def _parse(text: str, name: str) -> float:
    try:
        return float(text) if text else 0.0
    except ValueError:
        raise InvalidRequest(f"{name} must be a number", param=name) from None
