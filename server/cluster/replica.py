"""One engine of a model on one machine of the cluster: the host of that model, as in a server, and its answers."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from glmserve.bootstrap.build import EngineFactory, local_engine, served_models
from glmserve.bootstrap.engine_config import ModelPlan
from glmserve.cluster.files import plan_one
from glmserve.cluster.messages import Answer, Begun, Ended, Outputs, ReplicaCall, Report
from glmserve.config.schema import ModelSettings, Settings
from glmserve.engine.client.client import EngineClient
from glmserve.engine.client.output_stream import Outcome, RequestOutputQueue
from glmserve.engine.config import EngineConfig
from glmserve.engine.errors import EngineError, EngineUnavailable
from glmserve.engine.interface import Engine, EngineState
from glmserve.engine.messages import EngineInfo, Pin, StepOutput, Submit
from glmserve.model_pool.host import ModelHost
from glmserve.observability.logging import configure_logging

log = logging.getLogger(__name__)


class AdoptingEngine(Engine, Protocol):
    """An engine that takes requests which were admitted elsewhere: one process, or a group of them."""

    def adopt(self, outcomes: RequestOutputQueue) -> bool:
        """Compute a request however many wait; False where none is taken now."""


class GivenBack(EngineError):
    """The engine process ended, and another replica is to continue the request."""


class Elsewhere:
    """The other replicas, as the engine of this one knows them: they continue the requests that it has lost."""

    def __init__(self) -> None:
        """No request says that there are others."""
        self.others = False

    def emptied(self) -> None:
        """Do nothing: the API is told with each request."""

    def take_over(self, outcomes: RequestOutputQueue) -> bool:
        """Give a request back where there are others."""
        if self.others:
            outcomes.put(GivenBack("the engine process of this replica ended"))
        return self.others

    def finished(self, request: Submit, token_ids: Sequence[int]) -> None:
        """Do nothing: the router of the API keeps account of prompts."""


class EngineReplica:
    """A replica of a model: its host with an engine. Belongs to one event loop."""

    def __init__(self, settings: Settings, model: ModelSettings, name: str) -> None:
        """Nothing is loaded yet.

        Args:
            settings: all of them.
            model: the one of them that is to be loaded.
            name: of this replica, unique in the cluster.
        """
        configure_logging(settings.log_level, settings.log_format, with_texts=settings.log_prompts)
        self._settings = settings
        self._model = model
        self._name = name
        self._elsewhere = Elsewhere()
        self._wait = model.restart_wait
        self._host: ModelHost | None = None

    async def load(self) -> None:
        """Find, convert and load the model. Raises EngineError, or the error of files that cannot be served."""
        plan = await asyncio.to_thread(plan_one, self._settings, self._model)
        turn = asyncio.Lock()
        models = await asyncio.to_thread(lambda: list(served_models(self._settings, plan, turn, self._factory())))
        self._host = models[0].host
        await self._host.start()
        log.info("replica %s is ready: %s", self._name, self.info.device)

    def _factory(self) -> EngineFactory:
        def make(config: EngineConfig, plan: ModelPlan) -> Engine:
            if plan.settings.engines == "1":
                return EngineClient(config, siblings=self._elsewhere)
            return local_engine(config, plan)

        return make

    @property
    def _engine(self) -> AdoptingEngine:
        assert self._host is not None, "load comes first"
        engine: AdoptingEngine = self._host.engine  # type: ignore[assignment]  # made by the factory
        return engine

    @property
    def info(self) -> EngineInfo:
        """Capabilities of the engine."""
        return self._engine.info

    async def answer(self, call: ReplicaCall) -> AsyncGenerator[Answer, None]:
        """Compute a request; closing the generator aborts it."""
        yield Begun(self._name)
        self._elsewhere.others = call.others
        outcomes = RequestOutputQueue(call.request)
        if not await self._adopt(outcomes, call.others):
            reason = f"the engine accepts no requests now: {self._engine.status.reason}"
            yield Ended(reason, elsewhere=call.others, rejected=True)
            return
        finished = False
        try:
            while not finished:
                batch = [await outcomes.get(), *outcomes.ready()]
                answers = _answers(batch)
                finished = isinstance(answers[-1], Ended) or _is_last(batch[-1])
                for answer in answers:
                    yield answer
        finally:
            outcomes.on_end(finished)

    async def _adopt(self, outcomes: RequestOutputQueue, others: bool) -> bool:
        """Hand a request to the engine; wait for one that restarts only where there are no ``others``."""
        if self._engine.adopt(outcomes):
            return True
        if others:
            return False
        try:
            await self._engine.wait_ready(self._wait)
        except EngineError:
            return False
        return self._engine.adopt(outcomes)

    def report(self) -> Report:
        """Return how the replica is."""
        engine = self._engine
        return Report(
            self._name,
            engine.status.state,
            engine.status.reason,
            engine.info,
            engine.stats,
            engine.restarts_total,
            engine.resumed_total,
        )

    def pin(self, pins: Sequence[Pin]) -> None:
        """Keep these beginnings of prompts in the cache."""
        for pin in pins:
            self._engine.pin(pin)

    def check_health(self) -> None:
        """Raise EngineUnavailable where the engine has given up, so that the cluster replaces this replica."""
        status = self._engine.status
        if status.state is EngineState.FAILED:
            raise EngineUnavailable(f"the engine has given up: {status.reason}")

    async def stop(self) -> None:
        """End the engine process."""
        if self._host is not None:
            await self._host.stop()


def _answers(batch: Sequence[Outcome]) -> Sequence[Answer]:
    """Return the answers that tell ``batch``: an error ends it."""
    answers: list[Answer] = []
    outputs = tuple(outcome for outcome in batch if not isinstance(outcome, EngineError))
    if outputs:
        answers.append(Outputs(outputs))
    if error := next((outcome for outcome in batch if isinstance(outcome, EngineError)), None):
        answers.append(Ended(str(error), elsewhere=isinstance(error, GivenBack)))
    return answers


def _is_last(outcome: Outcome) -> bool:
    return not isinstance(outcome, StepOutput) or outcome.finish_reason is not None
