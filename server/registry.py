"""The models that are served: each an engine, a tokenizer, a prompt format and its defaults."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from models.catalog import SamplingDefaults
from server.engine.errors import EngineError, EngineUnavailable
from server.engine.interface import Engine, EngineState, EngineStatus
from server.errors import ModelNotFound, TextTooLong
from server.prompts.format import Encoder, PromptFormat
from server.prompts.message import Message

log = logging.getLogger(__name__)

_INLINE_CHARACTERS = 2000
"""Below this, tokenising is quicker than going to a thread and back."""
_CHOICES_AT_MOST = 8
_LOAD_PATIENCE_S = 60.0


class Tokenizer(Encoder, Protocol):
    """Text to ids and ids to bytes, of one vocabulary."""

    @property
    def strips_leading_space(self) -> bool:
        """Whether the vocabulary has a dummy prefix, whose space decoding takes off again."""

    @property
    def max_piece_chars(self) -> int:
        """How many characters the longest token has: no text of more than n times this fits into n tokens."""

    def piece(self, token_id: int) -> bytes:
        """Return the bytes of a token; none for a control token."""


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a served model is called and what its requests get that do not say."""

    name: str
    created: int
    """Seconds since the epoch, for ``GET /v1/models``."""
    aliases: tuple[str, ...] = ()
    defaults: SamplingDefaults = field(default_factory=SamplingDefaults)
    default_max_tokens: int = 2048


class ServedModel:
    """One model, from loading to its last answer.

    The tokenizer is loaded only once the engine is ready: a bad file aborts the process that opens it, and that
    must be the engine's.
    """

    def __init__(
        self,
        card: ModelCard,
        engine: Engine,
        prompt_format: PromptFormat,
        load_tokenizer: Callable[[], Tokenizer],
    ) -> None:
        """``load_tokenizer`` runs in a thread, after the engine has loaded the same file."""
        self.card = card
        self.engine = engine
        self._format = prompt_format
        self._load_tokenizer = load_tokenizer
        self._tokenizer: Tokenizer | None = None
        self._failure = ""

    @property
    def status(self) -> EngineStatus:
        """Whether requests are taken now, and why not."""
        if self._failure:
            return EngineStatus(EngineState.FAILED, self._failure)
        status = self.engine.status
        if status.state is EngineState.READY and self._tokenizer is None:
            return EngineStatus(EngineState.LOADING, "the tokenizer is loading")
        return status

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer.

        Raises:
            EngineUnavailable: it is not loaded yet.
        """
        if self._tokenizer is None:
            status = self.status
            raise EngineUnavailable(f"the model is not ready: {status.reason or status.state.value}")
        return self._tokenizer

    @property
    def context_length(self) -> int:
        """Tokens that prompt and answer may have together. Raises EngineUnavailable before the first load."""
        return self.engine.info.context_length

    @property
    def max_choices(self) -> int:
        """How many answers one request may ask for."""
        return min(self.engine.info.parallel, _CHOICES_AT_MOST)

    async def start(self) -> None:
        """Load the model; returns when it takes requests.

        Raises:
            EngineError: it cannot be loaded; ``status`` has the reason from then on.
        """
        try:
            await self.engine.start()
            await self._wait_ready()
            self._tokenizer = await asyncio.to_thread(self._load_tokenizer)
        except EngineError:
            raise
        except Exception as error:
            self._failure = f"the tokenizer could not be loaded: {error}"
            raise

    async def _wait_ready(self) -> None:
        """Wait as long as the engine keeps trying; a large model on a slow disk takes minutes."""
        while True:
            try:
                return await self.engine.wait_ready(_LOAD_PATIENCE_S)
            except EngineUnavailable:
                if self.engine.status.state in (EngineState.FAILED, EngineState.STOPPED):
                    raise

    async def encode(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Return the prompt of a conversation.

        Raises:
            PromptError: the model's prompt format cannot express it.
            TextTooLong: it is so long that it was not tokenised.
            EngineUnavailable: the model is not ready.
        """
        tokenizer, context_length = self.tokenizer, self.context_length
        characters = sum(len(message.content) for message in messages)
        if characters > context_length * tokenizer.max_piece_chars:
            raise TextTooLong(characters, context_length)
        if characters < _INLINE_CHARACTERS:
            return self._format.encode(messages, tokenizer)
        return await asyncio.to_thread(self._format.encode, messages, tokenizer)


class ModelRegistry:
    """The served models by name and alias; the first one is what a request gets that names none."""

    def __init__(self, models: Sequence[ServedModel]) -> None:
        """Register ``models``.

        Raises:
            ValueError: there is none, or two share a name.
        """
        if not models:
            raise ValueError("at least one model must be served")
        self._models = tuple(models)
        self._by_name: dict[str, ServedModel] = {}
        for model in models:
            for name in (model.card.name, *model.card.aliases):
                if name in self._by_name:
                    raise ValueError(f"two served models are called {name!r}")
                self._by_name[name] = model

    @property
    def models(self) -> tuple[ServedModel, ...]:
        """All of them, the default one first."""
        return self._models

    def get(self, name: str | None) -> ServedModel:
        """Return the model called ``name``, or the default one for None.

        Raises:
            ModelNotFound: none is called that.
        """
        if name is None:
            return self._models[0]
        if name not in self._by_name:
            raise ModelNotFound(name, tuple(model.card.name for model in self._models))
        return self._by_name[name]

    async def start(self) -> None:
        """Load all models, one after the other: loading is bound by the disk. A failure leaves the others."""
        for model in self._models:
            try:
                await model.start()
            except Exception as error:
                # The reason stays in the model's status; the server keeps answering /health with it.
                unexpected = not isinstance(error, EngineError)
                log.error("model %s cannot be served: %s", model.card.name, error, exc_info=unexpected)

    async def stop(self) -> None:
        """Stop all engines."""
        await asyncio.gather(*(model.engine.stop() for model in self._models))
