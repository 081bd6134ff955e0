"""The engine replicas of one model behind the interface of one engine. Belongs to one event loop.

A request is admitted here and sent to a replica. When that ends, the request goes to another one: a waiting one from
its beginning, an answer from where it was.
"""

import asyncio
import contextvars
import logging
import math
from collections.abc import AsyncGenerator, Coroutine, Sequence
from dataclasses import fields, replace
from typing import Protocol

from glmserve.cluster.messages import Answer, Begun, Ended, Outputs, ReplicaCall, ReplicaLost, Report
from glmserve.engine.client.frontend import EngineFrontend, Send
from glmserve.engine.config import EngineConfig
from glmserve.engine.errors import EngineDied, EngineUnavailable
from glmserve.engine.interface import EngineState, EngineStatus
from glmserve.engine.messages import Embed, EngineStats, Pin, Submit, ToWorker

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""Between two looks at the replicas."""
_FIGURES = fields(EngineStats)


class Replicas(Protocol):
    """The engine replicas of one model, wherever they are."""

    def ask(self, call: ReplicaCall) -> AsyncGenerator[Answer, None]:
        """Yield the answers of the replica that is chosen for a request. Raises ReplicaLost. Closing it aborts."""

    async def reports(self) -> Sequence[Report] | None:
        """Return a report of each replica that answers; None where that could not be found out."""

    async def failure(self) -> str:
        """Return why no replica can be started; empty where that is still being tried."""

    async def pin(self, pins: Sequence[Pin]) -> None:
        """Have each replica keep these beginnings of prompts in its cache."""


class ClusterEngine(EngineFrontend):
    """Implements ``glmserve.engine.interface.Engine`` over replicas."""

    def __init__(
        self, replicas: Replicas, config: EngineConfig, sharers: int = 1, *, look_seconds: float = LOOK_SECONDS
    ) -> None:
        """Nothing is asked yet.

        Args:
            replicas: of the model.
            config: what each of them gets.
            sharers: how many API replicas send requests to them: each admits its share.
            look_seconds: between two looks at them.
        """
        super().__init__(config)
        self._replicas = replicas
        self._sharers = sharers
        self._look_seconds = look_seconds
        self._reports: dict[str, Report] = {}
        self._running: dict[int, asyncio.Task[None]] = {}
        self._rejected_by: dict[int, set[str]] = {}
        self._lost: set[str] = set()
        self._watching: asyncio.Task[None] | None = None

    @property
    def stats(self) -> EngineStats:
        """The sums of the latest reports."""
        each = [report.stats for report in self._reports.values()]
        return EngineStats(**{field.name: sum(getattr(stats, field.name) for stats in each) for field in _FIGURES})

    @property
    def restarts_total(self) -> int:
        """Number of replicas that were lost while they had requests, and of restarts within the present ones."""
        return len(self._lost) + sum(report.restarts_total for report in self._reports.values())

    @property
    def resumed_total(self) -> int:
        """How many answers another process went on with."""
        return self._requests.resumed_total + sum(report.resumed_total for report in self._reports.values())

    async def start(self) -> None:
        """Begin to look at the replicas; the cluster starts them."""
        if self._life.status.state is EngineState.STOPPED:
            await self._life.set(EngineState.LOADING, "its replicas are starting")
            self._watching = asyncio.create_task(self._watch())

    def _sender(self) -> Send:
        return self._send

    def _send_pin(self, pin: Pin) -> None:
        _detached(self._tell_pins((pin,)))

    async def stop(self) -> None:
        """Stop asking; every open stream ends with EngineUnavailable. The replicas are the cluster's to stop."""
        if self._watching is not None:
            self._watching.cancel()
        await self._end_requests()
        for task in tuple(self._running.values()):
            task.cancel()

    def _send(self, message: ToWorker) -> None:
        assert isinstance(message, Submit | Embed), message
        # Without the context of the HTTP request, whose id Ray would take for that of each of its sequences.
        self._running[message.request_id] = _detached(self._run(message))

    async def _run(self, request: Submit | Embed) -> None:
        """Have a request computed, by the replica that the router chooses."""
        request_id, replica = request.request_id, ""
        rejected_by = self._rejected_by.get(request_id, set())
        answers = self._replicas.ask(
            ReplicaCall(request, frozenset(rejected_by), others=len(self._reports.keys() - rejected_by) > 1)
        )
        try:
            async for answer in answers:
                if isinstance(answer, Begun):
                    replica = answer.replica
                elif isinstance(answer, Ended):
                    return self._ended(request_id, replica, answer)
                else:
                    self._deliver(request_id, answer)
        except ReplicaLost as error:
            self._replica_lost(request_id, replica, str(error))
        except Exception as error:
            log.exception("asking a replica of %s failed", self._config.model_path.name)
            self._requests.end(EngineDied(f"this request could not be computed: {error}"), (request_id,))
        finally:
            await answers.aclose()
        return None

    def _deliver(self, request_id: int, answer: Outputs) -> None:
        for output in answer.outputs:
            if not self._requests.put(output._replace(request_id=request_id)):
                self.forget(request_id, False)

    def _ended(self, request_id: int, replica: str, answer: Ended) -> None:
        error = EngineUnavailable(answer.reason) if answer.rejected else EngineDied(answer.reason)
        if answer.elsewhere:
            self._rejected_by.setdefault(request_id, set()).add(replica)
            self._requests.send_again(request_id, error, self._send, rejected=answer.rejected)
        else:
            self._requests.end(error, (request_id,))

    def _replica_lost(self, request_id: int, replica: str, reason: str) -> None:
        name = self._config.model_path.name
        if replica and replica not in self._lost:
            self._lost.add(replica)
            log.error("the replica %s of %s is lost (%s); its requests go to others", replica, name, reason)
        died = EngineDied(f"the engine of {name} was lost while this request ran ({reason}); try again")
        self._requests.send_again(request_id, died, self._send, rejected=not replica)

    def forget(self, request_id: int, finished: bool) -> None:  # noqa: ARG002 - the signature of ``on_end``
        """Drop a stream without a reader, and abort its sequence if it still runs."""
        self._requests.drop(request_id)
        self._rejected_by.pop(request_id, None)
        task = self._running.pop(request_id, None)
        if task is not None and task is not asyncio.current_task():
            task.cancel()

    async def _tell_pins(self, pins: Sequence[Pin]) -> None:
        try:
            await self._replicas.pin(pins)
        except Exception as error:  # the next new replica has them told again, to all
            log.warning("pinned prefixes could not be told to the replicas: %s", error)

    async def _watch(self) -> None:
        while True:
            try:
                await self._look()
            except Exception:
                log.exception("looking at the replicas of %s failed", self._config.model_path.name)
            await asyncio.sleep(self._look_seconds)

    async def _look(self) -> None:
        reports = await self._replicas.reports()
        if reports is None:
            return
        known = self._reports.keys()
        self._reports = {report.replica: report for report in reports if report.state is EngineState.READY}
        if self._pins and self._reports.keys() - known:
            _detached(self._tell_pins(tuple(self._pins)))
        if self._reports:
            self._take_size()
            await self._turn(EngineState.READY, "")
        elif failure := await self._replicas.failure():
            await self._turn(EngineState.FAILED, failure)
            self._requests.end(EngineDied(f"{failure}; this request was not answered"))
        elif self._info is None:
            await self._turn(EngineState.LOADING, "its replicas are starting")
        else:
            await self._turn(EngineState.RESTARTING, "no replica is left; they are being started again")

    def _take_size(self) -> None:
        each = [report.info for report in self._reports.values()]
        self._info = replace(
            each[0],
            context_length=min(info.context_length for info in each),
            cache_cells=sum(info.cache_cells for info in each),
            parallel=sum(info.parallel for info in each),
            max_waiting=sum(info.max_waiting for info in each),
            device=each[0].device if len(each) == 1 else f"{len(each)} replicas, each on {each[0].device}",
        )
        self._requests.resize(
            math.ceil(self._info.parallel / self._sharers), math.ceil(self._info.max_waiting / self._sharers)
        )

    async def _turn(self, state: EngineState, reason: str) -> None:
        before = self._life.status
        if before.state is EngineState.STOPPED or before == EngineStatus(state, reason):
            return
        if state is not before.state:
            log.info("%s is %s%s", self._config.model_path.name, state.value, f": {reason}" if reason else "")
        await self._life.set(state, reason)
        if state is EngineState.RESTARTING:
            died = EngineDied("no engine of this model is left; try again")
            kept = self._requests.ids
            asyncio.get_running_loop().call_later(self._config.restart_wait, self._end_unsent, kept, died)


def _detached(work: Coroutine[None, None, None]) -> "asyncio.Task[None]":
    """Start ``work`` without the context of the present task."""
    return contextvars.Context().run(asyncio.get_running_loop().create_task, work)
