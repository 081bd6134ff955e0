"""The JSON of replies to text completions as types; see ``reply_types.py``."""

from typing import Literal

from typing_extensions import NotRequired, TypedDict

from glmserve.api.openai.response_types import Finish, UsageObject


class LegacyLogprobs(TypedDict):
    """Four lists of the same length, an entry for each token."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


class CompletionChoice(TypedDict):
    """One of the answers, or a piece of it."""

    index: int
    text: str
    logprobs: LegacyLogprobs | None
    finish_reason: Finish | None


class TextCompletion(TypedDict):
    """The reply, or the data of an event."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str | None
    choices: list[CompletionChoice]
    usage: NotRequired[UsageObject | None]
