"""A model that an upstream runs, under the names of this server."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn, cast

from glmserve.chat.prompts.formats import prompt_format
from glmserve.chat.prompts.messages import Message, check_results
from glmserve.chat.tools.types import Tool
from glmserve.http.errors import TextNotHere
from glmserve.http.request_context import RequestContext
from glmserve.model_pool.host import ModelHost, Tokenizer
from glmserve.model_pool.served_model import CHARACTERS_PER_TOKEN, NO_OPTIONS, EncodedPrompt, ModelCard, ServedModel
from glmserve.upstream.chat import RemotePrompt

if TYPE_CHECKING:
    from glmserve.upstream.engine import Upstream

_CHOICES_AT_MOST = 128
_UNUSED = "chatglm2"
"""The upstream writes the prompts."""


class UpstreamModel(ServedModel):
    """A model that another server runs.

    Requests in the form of that server are passed on (``server/api/common/passing.py``). The other dialects and the
    tasks have their prompts made there, too.
    """

    does = "is on another server, whose kind of model is not known here,"

    def __init__(self, card: ModelCard, upstream: "Upstream") -> None:
        """Serve the model of ``upstream`` as ``card`` says; its prompt format tells the legacy address it answers."""
        super().__init__(card, ModelHost(upstream, _no_tokenizer), prompt_format(_UNUSED))
        self._upstream = upstream

    @property
    def upstream(self) -> "Upstream":
        """The server that runs it."""
        return self._upstream

    @property
    def most_characters(self) -> int:
        """No text of more characters fits into the context, as far as that is known."""
        return self.context_length * CHARACTERS_PER_TOKEN

    @property
    def max_choices(self) -> int:
        """How many answers one request may ask for."""
        return _CHOICES_AT_MOST

    async def encode(
        self,
        messages: Sequence[Message],
        context: RequestContext,  # noqa: ARG002 - nothing is tokenised here
        tools: Sequence[Tool] = (),  # noqa: ARG002 - they are a field of the request
        *,
        continued: bool = False,
        options: Mapping[str, object] = NO_OPTIONS,
    ) -> EncodedPrompt:
        """Return the conversation for the upstream. Raises PromptError where a result belongs to no call."""
        check_results(messages)
        return EncodedPrompt((), remote=RemotePrompt(tuple(messages), continued, options))


class _NotHere:
    """Stands for a tokenizer: each of its methods raises TextNotHere."""

    def __getattr__(self, name: str) -> NoReturn:
        raise TextNotHere


def _no_tokenizer() -> Tokenizer:
    return cast(Tokenizer, _NotHere())
