"""The body of the original ``api.py`` as its callers send it: every value may be absent, null, 0, "" or a string."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import NotRequired, TypedDict

from glmserve.chat.prompts.messages import Message, Role
from glmserve.chat.tools.python_call import PythonArguments
from glmserve.chat.tools.types import ToolCall
from glmserve.http.errors import InvalidRequest

_LARGEST_TEMPERATURE = 2.0

_MOST_TURNS = 20_000
"""More rounds than any context holds; reading a million of them would keep all other callers waiting."""

_Empty = (
    Literal[False]
    | Literal[0]
    | Literal[""]
    | Annotated[list[object], Field(max_length=0)]
    | Annotated[dict[str, object], Field(max_length=0)]
    | None
)
"""Values that Python takes for false: the original read each of them as absent."""
_Number = float | Annotated[str, Field(pattern=r"^\s*([+-]?[0-9]+([.][0-9]+)?)?\s*$")] | _Empty
_Positive = Annotated[float, Field(ge=0)] | Annotated[str, Field(pattern=r"^\s*([0-9]+([.][0-9]+)?)?\s*$")] | _Empty


class LegacyBody(TypedDict):
    """The body as callers may send it; other fields have no effect."""

    prompt: Annotated[str, Field(description="The question.")]
    history: NotRequired[
        Annotated[
            list[list[object] | dict[str, object]] | _Empty,
            Field(description="Earlier rounds: [question, answer] pairs, or messages with role and content."),
        ]
    ]
    max_length: NotRequired[
        Annotated[_Number, Field(description="Token limit of prompt and answer together. 0 and null: the default.")]
    ]
    top_p: NotRequired[
        Annotated[
            _Positive,
            Field(
                description="Sample from the most likely tokens with this total probability. 0 and null: the default."
            ),
        ]
    ]
    temperature: NotRequired[Annotated[_Positive, Field(description="Sampling temperature. 0 and null: the default.")]]


@dataclass(frozen=True, slots=True)
class LegacyRequest:
    """One question after some finished rounds. A number that was not given, or 0, is None: the contract's default."""

    prompt: str
    history: tuple[object, ...]
    """As it was sent, to be sent back."""
    system: tuple[Message, ...]
    """Messages before the first round, such as the system message."""
    rounds: tuple[tuple[Message, ...], ...]
    """The latest of the history, each from a question on."""
    max_length: int | None
    """Tokens of prompt and answer together."""
    top_p: float | None
    temperature: float | None

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation."""
        return (*self.system, *chain.from_iterable(self.rounds), Message(Role.USER, self.prompt))

    def grown(self, answer: str) -> tuple[object, ...]:
        """Return the history with the new round, in the shape in which it was sent."""
        if self.history and isinstance(self.history[-1], dict):
            question = {"role": "user", "content": self.prompt}
            return (*self.history, question, {"role": "assistant", "metadata": "", "content": answer})
        return (*self.history, [self.prompt, answer])


def parse_legacy_request(body: Mapping[str, object]) -> LegacyRequest:
    """Return the body as a checked request. Numbers that the original took are cut to sensible bounds.

    Raises:
        InvalidRequest: the original would have failed with a bare 500.
    """
    prompt = body.get("prompt")
    if not isinstance(prompt, str):
        raise InvalidRequest("prompt must be a string", param="prompt")
    history = _history(body.get("history"))
    left_out = max(0, len(history) - _MOST_TURNS)
    system, rounds = _rounds(history[left_out:], left_out)
    return LegacyRequest(
        prompt=prompt,
        history=tuple(history),
        system=system,
        rounds=rounds,
        max_length=_whole(body, "max_length"),
        top_p=_positive(body, "top_p", 1.0),
        temperature=_positive(body, "temperature", _LARGEST_TEMPERATURE),
    )


def _history(value: object) -> Sequence[object]:
    if not value:
        return ()
    if not isinstance(value, list):
        raise InvalidRequest(
            "history must be a list of [question, answer] pairs, or of messages with role and content", param="history"
        )
    return value


def _rounds(history: Sequence[object], first: int) -> tuple[tuple[Message, ...], tuple[tuple[Message, ...], ...]]:
    """Return the messages before the first question of ``history``, and the rounds; paths count from ``first``.

    ChatGLM2's histories have pairs. ChatGLM3's have messages, a result of a tool after the call of it.
    """
    if not history or not isinstance(history[0], dict):
        return (), tuple(_turn(pair, index) for index, pair in enumerate(history, first))
    system: list[Message] = []
    rounds: list[list[Message]] = []
    called = ""
    for index, turn in enumerate(history, first):
        message = _message(turn, index, called)
        called = message.tool_calls[0].id if message.tool_calls else called
        if message.role is Role.USER:
            rounds.append([message])
        elif rounds:
            rounds[-1].append(message)
        else:
            system.append(message)
    return tuple(system), tuple(map(tuple, rounds))


_ROLES = {"system": Role.SYSTEM, "user": Role.USER, "assistant": Role.ASSISTANT, "observation": Role.TOOL}


def _message(turn: object, index: int, called: str) -> Message:
    """Return one message of ChatGLM3's; ``called`` is the id of the last call before it, or empty."""
    path = f"history[{index}]"
    role = _ROLES.get(str(turn.get("role"))) if isinstance(turn, dict) else None
    if not isinstance(turn, dict) or role is None:
        raise InvalidRequest(
            f"{path} must be a message with the role system, user, assistant or observation, as the first one is",
            param=path,
        )
    content, name = turn.get("content"), turn.get("metadata")
    if role is Role.ASSISTANT and isinstance(name, str) and name:
        return _call(name, content, index)
    text = json.dumps(content, ensure_ascii=False) if isinstance(content, dict) else _text(content, f"{path}.content")
    if role is Role.TOOL:
        return Message(role, text, tool_call_id=called) if called else Message(Role.USER, text)
    return Message(role, text)


def _call(name: str, content: object, index: int) -> Message:
    """Return a tool call from a message that names a tool, whether its arguments are raw text or already parsed."""
    arguments = content.get("parameters") if isinstance(content, dict) else None
    written = content if isinstance(content, str) else ""
    text = json.dumps(arguments, ensure_ascii=False) if arguments else PythonArguments().feed(written)
    call = ToolCall(f"call_{index}", name, text)
    if call.parsed() is None or not text:
        return Message(Role.ASSISTANT, f"{name}\n{written}")
    return Message(Role.ASSISTANT, "", (call,))


def _turn(pair: object, index: int) -> tuple[Message, Message]:
    """Return one round; an answer that is missing is empty."""
    path = f"history[{index}]"
    if not isinstance(pair, list) or len(pair) not in (1, 2):
        raise InvalidRequest(f"{path} must be a [question, answer] pair", param=path)
    question, answer = (*pair, "")[:2]
    user_text, answer_text = _text(question, f"{path}[0]"), _text(answer, f"{path}[1]")
    return Message(Role.USER, user_text), Message(Role.ASSISTANT, answer_text)


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
    """Return a number; a false value or a string for zero is none."""
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
