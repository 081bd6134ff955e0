"""Shared beginnings of prompts: pinned prompts, and system messages with their tools."""

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile

from glmserve.chat.prompts.formats import Encoder, PromptFormat, common_beginning
from glmserve.chat.prompts.messages import Message, Role
from glmserve.chat.tasks.task import Task
from glmserve.chat.tools.types import Tool
from glmserve.engine.messages import Pin

_LEAST_TOKENS = 16


@dataclass(frozen=True, slots=True)
class PinnedPrompt:
    """A prefix that many prompts share. Where the last message is the user's, requests go on in it."""

    messages: tuple[Message, ...]
    adapter: str = ""
    """The adapter that is asked; empty is the model as it is."""
    if_saved: bool = False
    """Only where it was pinned before, and its state kept."""

    @property
    def most_tokens(self) -> int:
        """More tokens than it will come to, but for rare scripts: a token is seldom less than a character."""
        return 16 + sum(len(message.content) + 16 for message in self.messages)


def task_prompt(task: Task, adapter: str) -> PinnedPrompt:
    """Return the common prefix of all prompts of ``task``."""
    return PinnedPrompt((Message(Role.USER, task.beginning),), adapter)


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
    return [Pin(ids, prompt.adapter, prompt.if_saved) for prompt, ids in found if len(ids) >= _LEAST_TOKENS]


_FILLINGS = ("一", "x")
"""Fewer fillings than for pinned text: if a token spans the seam after all, the part is only not shared."""
_MOST = 256


class SystemLengths:
    """Tells how many tokens that part has, and remembers it by digest: many requests have the same one."""

    def __init__(self, prompt_format: PromptFormat) -> None:
        """Remember nothing yet."""
        self._format = prompt_format
        self._lengths: OrderedDict[bytes, int] = OrderedDict()

    def of(self, messages: Sequence[Message], tools: Sequence[Tool], encoder: Encoder) -> int:
        """Return the tokens that all prompts share which have these tools and begin with these system messages.

        It depends on nothing else of ``messages``. Without either, it is 0.

        Raises:
            PromptError: the messages cannot be put that way.
        """
        system = tuple(takewhile(lambda message: message.role is Role.SYSTEM, messages))
        if not (system or tools):
            return 0
        digest = hashlib.sha256(repr((system, tuple(tools))).encode("utf-8", "surrogatepass")).digest()
        length = self._lengths.pop(digest, None)
        if length is None:
            length = len(common_beginning(system, self._format, encoder, tools, _FILLINGS))
        self._lengths[digest] = length
        while len(self._lengths) > _MOST:
            self._lengths.popitem(last=False)
        return length
