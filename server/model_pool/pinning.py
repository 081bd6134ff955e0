"""Beginnings of prompts that stay cached: from messages to token ids."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from glmserve.chat.prompts.formats import Encoder, PromptFormat, common_beginning
from glmserve.chat.prompts.messages import Message, Role
from glmserve.chat.tasks.task import Task
from glmserve.engine.messages import Pin

_LEAST_TOKENS = 16


@dataclass(frozen=True, slots=True)
class PinnedPrompt:
    """A prefix that many prompts share. Where the last message is the user's, requests go on in it."""

    messages: tuple[Message, ...]
    variant: str = ""
    """The tuned variant that is asked; empty is the model as it is."""
    if_saved: bool = False
    """Only where it was pinned before, and its state kept."""

    @property
    def most_tokens(self) -> int:
        """More tokens than it will come to, but for rare scripts: a token is seldom less than a character."""
        return 16 + sum(len(message.content) + 16 for message in self.messages)


def task_prompt(task: Task, variant: str) -> PinnedPrompt:
    """Return the common prefix of all prompts of ``task``."""
    return PinnedPrompt((Message(Role.USER, task.beginning),), variant)


def pins(prompts: Iterable[PinnedPrompt], prompt_format: PromptFormat, encoder: Encoder) -> Sequence[Pin]:
    """Return the prefixes to pin: long enough that a cache hit is faster than computing them.

    Raises:
        PromptError: a prompt cannot be put that way.
        ValueError: the vocabulary lacks what every prompt of the format needs.
    """
    try:
        prompt_format.encode([Message(Role.USER, "x")], encoder)
    except KeyError as error:
        raise ValueError(f"the model has no token {error}, which every prompt needs; check --prompt-format") from None
    found = ((prompt, common_beginning(prompt.messages, prompt_format, encoder)) for prompt in prompts)
    return [Pin(ids, prompt.variant, prompt.if_saved) for prompt, ids in found if len(ids) >= _LEAST_TOKENS]
