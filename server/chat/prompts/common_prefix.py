"""The ids shared by all prompts with the same beginning. Pure."""

from collections.abc import Sequence

from glmserve.chat.prompts.formats import Encoder, PromptFormat
from glmserve.chat.prompts.message import Message, Role
from glmserve.chat.tools.types import Tool

_FILLINGS = ("一", "7", "x", " x")
"""Possible continuations: tokens merge across the seam with some of them and not with others."""


def common_beginning(
    messages: Sequence[Message],
    prompt_format: PromptFormat,
    encoder: Encoder,
    tools: Sequence[Tool] = (),
    fillings: Sequence[str] = _FILLINGS,
) -> tuple[int, ...]:
    """Return the ids that all prompts share which tell of ``tools`` and begin with ``messages``.

    A last message of the user's is one that goes on; after any other, the user's comes. The last ids stay out where
    they depend on what follows: a piece of a vocabulary may reach across the seam.

    Raises:
        PromptError: the messages cannot be put that way.
    """
    prompts = [prompt_format.encode(_filled(messages, filling), encoder, tools) for filling in fillings]
    shortest = min(map(len, prompts))
    alike = (len({prompt[place] for prompt in prompts}) == 1 for place in range(shortest))
    length = next((place for place, same in enumerate(alike) if not same), shortest)
    return prompts[0][:length]


def _filled(messages: Sequence[Message], filling: str) -> tuple[Message, ...]:
    if not messages or messages[-1].role is not Role.USER:
        return (*messages, Message(Role.USER, filling))
    return (*messages[:-1], Message(Role.USER, messages[-1].content + filling))
