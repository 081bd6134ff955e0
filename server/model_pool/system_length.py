"""How long the part of a prompt is that its system message and its tools make up."""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from itertools import takewhile

from glmserve.chat.prompts.formats import Encoder, PromptFormat, common_beginning
from glmserve.chat.prompts.messages import Message, Role
from glmserve.chat.tools.types import Tool

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
