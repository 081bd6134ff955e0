"""The kinds of served models: their cards, and the tokens of their prompts."""

import asyncio
import struct
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from glmserve.chat.prompts.formats import PromptFormat, prefix_ids, prompt_format
from glmserve.chat.prompts.messages import Message, PromptError, check_results
from glmserve.chat.prompts.template.format import TemplateFormat
from glmserve.chat.tasks.task import OutputConstraint
from glmserve.chat.tools.types import Tool, ToolConfig
from glmserve.engine.interface import Caller, EngineStatus
from glmserve.engine.params import Grammar
from glmserve.http.errors import InvalidRequest, TextNotHere, TextTooLong
from glmserve.http.offload import INLINE_BYTES, off_loop
from glmserve.http.request_context import RequestContext
from glmserve.model_pool.host import ModelHost, Tokenizer
from glmserve.model_pool.prefixes import SystemLengths
from glmserve.models.catalog import SamplingDefaults
from glmserve.upstream.chat import RemotePrompt

if TYPE_CHECKING:
    from glmserve.upstream.engine import Upstream

_INLINE_CHARACTERS = 2000
"""Below this, tokenising is quicker than going to a thread and back."""

_CHOICES_AT_MOST = 128
"""OpenAI's bound of ``n``."""

CHARACTERS_PER_TOKEN = 64
"""A text of more characters for each token of the context is not tokenised: it is far too long in any language."""

NO_OPTIONS: Mapping[str, object] = MappingProxyType({})

_SWITCHES = frozenset({"enable_thinking", "thinking", "reasoning_effort"})
"""Variables that programs set for each model, whether it can think or not."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ModelCard:
    """Name and sampling defaults of a served model."""

    name: str
    created: int
    """Seconds since the epoch, for ``GET /v1/models``."""
    aliases: tuple[str, ...] = ()
    prompt_format: str = "chatglm2"
    defaults: SamplingDefaults = field(default_factory=SamplingDefaults)
    default_max_tokens: int = 2048
    max_output_tokens: int = 0
    """Upper bound of an answer's tokens; 0 is the rest of the context."""
    fingerprint: str = ""
    """``system_fingerprint``: changes with the content of the model file and with the build that computes."""
    parent: str = ""
    """Of an adapter: its base model. Of a task: the model or adapter that runs it."""


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """A conversation as a model gets it."""

    ids: tuple[int, ...]
    common_tokens: int = 0
    """Length of the system message and tools at its beginning, where callers share nothing else in the prefix cache."""
    remote: RemotePrompt | None = None
    """In place of ids, where an upstream makes the prompt."""

    @property
    def told_ids(self) -> tuple[int, ...]:
        """The ids, for a client that asks for them. Raises TextNotHere where an upstream makes the prompt."""
        if self.remote is not None:
            raise TextNotHere
        return self.ids


class NamedModel:
    """A name that requests use, on the host that loads its model."""

    does = "generates text"
    """Its kind, for people."""

    def __init__(self, card: ModelCard, host: ModelHost) -> None:
        """Serve the model of ``host`` as ``card`` says."""
        self.card = card
        self.host = host

    @property
    def status(self) -> EngineStatus:
        """Whether requests are taken now, and why not."""
        return self.host.status

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer. Raises EngineUnavailable where it is not loaded."""
        return self.host.tokenizer

    @property
    def context_length(self) -> int:
        """Tokens that a request may have. Raises EngineUnavailable before the first load."""
        return self.host.info.context_length

    def in_use(self) -> AbstractAsyncContextManager[None]:
        """Have the model loaded while a block runs; see ``ModelHost.in_use``."""
        return self.host.in_use()

    def keep_loaded(self) -> AbstractContextManager[None]:
        """Keep the loaded model while a block runs; see ``ModelHost.keep_loaded``."""
        return self.host.keep_loaded()


class EmbeddingModel(NamedModel):
    """An embedding model."""

    does = "makes embeddings"

    async def encode(self, texts: Sequence[str], context: RequestContext) -> list[tuple[int, ...]]:
        """Return texts as ids, with the special tokens that the model's tokenizer adds.

        Raises:
            TextTooLong: one is so long that it was not tokenised.
            EngineUnavailable: the model is not ready.
        """
        tokenizer = self.tokenizer
        longest = max(map(len, texts), default=0)
        if longest > self.context_length * CHARACTERS_PER_TOKEN:
            raise TextTooLong(longest, self.context_length)
        return await _tokenised(sum(map(len, texts)), lambda: list(map(tokenizer.encode_framed, texts)), context)

    async def embed(self, inputs: tuple[tuple[int, ...], ...], caller: Caller) -> tuple[bytes, ...]:
        """Return a vector for each input, as float32 and as the model computes it; see ``Engine.embed``."""
        return await self.host.engine.embed(inputs, caller)


class RerankModel(NamedModel):
    """A reranker, which scores pairs of texts."""

    does = "scores pairs of texts"

    async def encode(self, texts: Sequence[str], context: RequestContext) -> list[tuple[int, ...]]:
        """Return texts as ids, without special tokens. Raises EngineUnavailable."""
        tokenizer = self.tokenizer
        return await _tokenised(sum(map(len, texts)), lambda: list(map(tokenizer.encode, texts)), context)

    async def score(self, pairs: tuple[tuple[int, ...], ...], caller: Caller) -> tuple[float, ...]:
        """Return the output of the model's head for each pair, framed by ``Tokenizer.framed``; see ``Engine.embed``."""
        scores = await self.host.engine.embed(pairs, caller)
        return tuple(struct.unpack("=f", score[:4])[0] for score in scores)


class ServedModel(NamedModel):
    """A model that answers. It and its adapters share one host."""

    def __init__(self, card: ModelCard, host: ModelHost, own_format: PromptFormat | None = None) -> None:
        """Serve the model of ``host`` as ``card`` says; a card with a parent means the host's adapter of its name.

        Without an ``own_format``, the prompt format is the family's that the card names.

        Raises:
            ValueError: no prompt format has the card's name.
        """
        super().__init__(card, host)
        self.prompt_format = own_format or prompt_format(card.prompt_format)
        self._system_lengths = SystemLengths(self.prompt_format)

    @property
    def adapter(self) -> str:
        """The engine's name of it: empty for the base model."""
        return self.card.name if self.card.parent else ""

    @property
    def upstream(self) -> "Upstream | None":
        """The server that runs the model; None where this one does."""
        return None

    @property
    def context_length(self) -> int:
        """Tokens that prompt and answer may have together. Raises EngineUnavailable before the first load."""
        info = self.host.info
        return info.context_length - info.prefix_tokens.get(self.adapter, 0)

    @property
    def most_characters(self) -> int:
        """No text of more characters fits into the context. Raises EngineUnavailable where the model is not loaded."""
        return self.context_length * self.tokenizer.max_piece_chars

    @property
    def max_choices(self) -> int:
        """How many answers one request may ask for: no more than run and wait at once."""
        return min(self.host.info.parallel + self.host.info.max_waiting, _CHOICES_AT_MOST)

    async def encode(
        self,
        messages: Sequence[Message],
        context: RequestContext,
        tools: Sequence[Tool] = (),
        *,
        continued: bool = False,
        options: Mapping[str, object] = NO_OPTIONS,
    ) -> EncodedPrompt:
        """Return the prompt of a conversation; see ``PromptFormat``. ``options`` are variables of a chat template.

        Raises:
            PromptError: it contradicts itself, or the model's prompt format cannot express it.
            TextTooLong: it is so long that it was not tokenised.
            EngineUnavailable: the model is not ready.
        """
        tokenizer, prompt_format = self.tokenizer, self._format_with(options)
        characters = await off_loop(partial(_characters, messages, tools), context.body_bytes)
        ids = await self._encoded(
            characters,
            lambda: prompt_format.encode(messages, tokenizer, tools, continued=continued),
            context,
            waits=prompt_format.waits,
        )
        if not context.prefix_owner or options:
            return EncodedPrompt(ids)
        lengths = self._system_lengths
        common = await self._encoded(
            characters, lambda: lengths.of(messages, tools, tokenizer), context, waits=prompt_format.waits
        )
        return EncodedPrompt(ids, common)

    def _format_with(self, options: Mapping[str, object]) -> PromptFormat:
        """Return the prompt format with variables of its template. Raises InvalidRequest where it has none."""
        if isinstance(self.prompt_format, TemplateFormat):
            return self.prompt_format.with_options(options) if options else self.prompt_format
        if any(value for name, value in options.items() if name not in _SWITCHES):
            raise InvalidRequest(
                f"chat_template_kwargs is not supported by the model {self.card.name}: its prompts are made without a "
                "chat template; leave it out",
                param="chat_template_kwargs",
                code="unsupported_parameter",
            )
        return self.prompt_format

    def output_constraint(self, messages: Sequence[Message]) -> OutputConstraint:  # noqa: ARG002 - a task needs them
        """Return the constraint of an answer to ``messages``, unless the request has its own."""
        return OutputConstraint()

    @property
    def text_prefix(self) -> tuple[int, ...]:
        """The special ids that the model's own tokenizer puts in front of every text."""
        return prefix_ids(self.prompt_format, self.tokenizer)

    async def encode_text(self, text: str, context: RequestContext) -> tuple[int, ...]:
        """Return a text that is no conversation as ids, without ``text_prefix``.

        Raises:
            TextTooLong: it is so long that it was not tokenised.
            EngineUnavailable: the model is not ready.
        """
        tokenizer = self.tokenizer
        return await self._encoded(len(text), lambda: tokenizer.encode(text), context)

    async def _encoded(
        self, characters: int, encode: Callable[[], _T], context: RequestContext, *, waits: bool = False
    ) -> _T:
        if characters > self.most_characters:
            raise TextTooLong(characters, self.context_length)
        return await _tokenised(characters, encode, context, waits=waits)

    def tool_grammar(self, config: ToolConfig) -> Grammar:
        """Return the grammar of an answer that may call the tools of ``config``.

        Raises:
            PromptError: the model can be told of no tools.
        """
        tool_format = self.prompt_format.tool_format
        if tool_format is None:
            raise PromptError(f"the model {self.card.name} does not support tools")
        trusted = config.text_format is not None and config.text_format.trusted
        return replace(tool_format.grammar(config), trusted=trusted)


def _characters(messages: Sequence[Message], tools: Sequence[Tool]) -> int:
    """Return how much text a prompt has, about. Raises PromptError where a result belongs to no call."""
    check_results(messages)
    return sum(message.characters + 1 for message in messages) + sum(tool.characters for tool in tools)


async def _tokenised(characters: int, encode: Callable[[], _T], context: RequestContext, *, waits: bool = False) -> _T:
    """Return the result of ``encode``, from a thread where it ``waits`` or that is worth the way there.

    A large body may have many short texts.
    """
    if not waits and characters < _INLINE_CHARACTERS and context.body_bytes <= INLINE_BYTES:
        return encode()
    return await asyncio.to_thread(encode)
