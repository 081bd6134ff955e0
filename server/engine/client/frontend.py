"""The server's side of every engine: admission, checks, and the requests under way."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Iterable

from glmserve.engine.client.admission import check_fit
from glmserve.engine.client.grammar_validator import GrammarValidator
from glmserve.engine.client.output_stream import OutputStream, vectors_of
from glmserve.engine.client.request_tracker import RequestTracker
from glmserve.engine.client.supervision import StatusBoard
from glmserve.engine.config import EngineConfig
from glmserve.engine.errors import EngineError, EngineUnavailable, GrammarRejected
from glmserve.engine.interface import ANYBODY, Caller, EngineState, EngineStatus
from glmserve.engine.messages import Embed, EngineInfo, Pin, StepOutput, Submit, ToWorker
from glmserve.engine.params import Grammar, SamplingParams

Send = Callable[[ToWorker], None]

_SHUTTING_DOWN = "the server is shutting down"


class EngineFrontend(ABC):
    """The part of ``glmserve.engine.interface.Engine`` that is the same for one process and for many replicas."""

    def __init__(self, config: EngineConfig) -> None:
        """Nothing is started yet; ``config`` is of the engine, or of each replica."""
        self._config = config
        self._life = StatusBoard()
        self._info: EngineInfo | None = None
        self._requests = RequestTracker(config.parallel, config.max_waiting, self.forget, resume=config.resume)
        self._pins: dict[Pin, None] = {}
        """In order: each fresh process gets all of them."""
        self._checker: GrammarValidator | None = None

    @abstractmethod
    def forget(self, request_id: int, finished: bool) -> None:
        """Drop a stream without a reader, and abort its sequence if it still runs."""

    @abstractmethod
    def _sender(self) -> Send:
        """Return the function that sends a request to where it is computed. Raises EngineUnavailable."""

    @abstractmethod
    def _send_pin(self, pin: Pin) -> None:
        """Have a new pinned prefix computed."""

    @property
    def status(self) -> EngineStatus:
        """Whether requests are taken now."""
        return self._life.status

    @property
    def info(self) -> EngineInfo:
        """Capabilities of the engine. Raises EngineUnavailable before the first load has ended."""
        if self._info is None:
            raise EngineUnavailable(self._life.unavailable())
        return self._info

    async def wait_ready(self, timeout: float) -> None:
        """Wait until READY, at most ``timeout`` seconds. Raises EngineUnavailable or ModelLoadError."""
        await self._life.wait_ready(timeout)

    async def submit(
        self, prompt_ids: tuple[int, ...], params: SamplingParams, adapter: str = "", caller: Caller = ANYBODY
    ) -> AsyncGenerator[StepOutput, None]:
        """Queue a sequence; see ``Engine.submit``."""
        with self._requests.admitted(caller) as request_id:
            if params.grammar is not None:
                await self.check_grammar(params.grammar, caller)
            send = await self._ready_sender()
            check_fit(self.info, prompt_ids, params, adapter)
            request = Submit(
                request_id, prompt_ids, params, adapter, caller.id, caller.scope, background=caller.background
            )
            outcomes = self._requests.enter(request, send)
        return OutputStream(outcomes)

    async def embed(self, inputs: tuple[tuple[int, ...], ...], caller: Caller = ANYBODY) -> tuple[bytes, ...]:
        """Return a vector for each input; see ``Engine.embed``."""
        with self._requests.admitted(caller) as request_id:
            send = await self._ready_sender()
            outcomes = self._requests.enter(Embed(request_id, inputs, caller.id, caller.background), send)
        return await vectors_of(outcomes)

    def check_room(self, caller: Caller) -> None:
        """Raise QueueFull where a request would be rejected; see ``Engine.check_room``."""
        self._requests.check_room(caller)

    def pin(self, pin: Pin) -> None:
        """Keep a beginning of prompts in the cache; see ``Engine.pin``."""
        if pin.prompt_ids and pin not in self._pins:
            self._pins[pin] = None
            self._send_pin(pin)

    async def check_grammar(self, grammar: Grammar, caller: Caller) -> None:
        """Find out, off the event loop, whether the grammar can be used; see ``Engine.check_grammar``."""
        if self._life.status.state not in (EngineState.READY, EngineState.RESTARTING):
            raise EngineUnavailable(self._life.unavailable())
        if self._checker is None:
            self._checker = GrammarValidator(self._config.model_path, self._config.end_tokens)
        if rejection := await self._checker.rejection(grammar, caller.id):
            raise GrammarRejected(rejection)

    async def _ready_sender(self) -> Send:
        """Return the sender, waiting for an engine that restarts. Raises EngineUnavailable."""
        if self._life.status.state is EngineState.RESTARTING:
            await self.wait_ready(self._config.restart_wait)
        if self._life.status.state is not EngineState.READY:
            raise EngineUnavailable(self._life.unavailable())
        return self._sender()

    async def _end_requests(self) -> None:
        """End every open stream with EngineUnavailable, as the server is being stopped."""
        checker, self._checker = self._checker, None
        if checker is not None:
            checker.close()
        await self._life.set(EngineState.STOPPED, _SHUTTING_DOWN)
        self._requests.end(EngineUnavailable(f"{_SHUTTING_DOWN} and did not finish this request; send it again"))

    def _end_unsent(self, request_ids: Iterable[int], error: EngineError) -> None:
        """End the requests that wait for a new process and have no output yet."""
        if self._life.status.state is not EngineState.READY:
            self._requests.end_unanswered(error, request_ids)
