"""Constraints that are compiled in a thread while the engine steps on."""

from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor

from glmserve.engine.grammar import Grammar
from glmserve.engine.grammar_backend.constraint import Constraint, ConstraintFactory
from glmserve.engine.params import SamplingParams

_REMEMBERED = 64
"""Compiled grammars that are kept: many requests come with the same one."""


class PreparedConstraints:
    """``prepare`` the constraint of a request, wait until that is done, and ``take`` it."""

    def __init__(self, factory: ConstraintFactory) -> None:
        """No thread is started yet."""
        self._factory = factory
        self._thread = ThreadPoolExecutor(1, "grammars")
        self._compiled: OrderedDict[Grammar, Constraint] = OrderedDict()
        self._prepared: dict[int, Future[Constraint]] = {}

    @property
    def request_ids(self) -> frozenset[int]:
        """Requests with a prepared constraint that they have not taken."""
        return frozenset(self._prepared)

    def prepare(self, request_id: int, params: SamplingParams, answer_ids: tuple[int, ...] = ()) -> Future[Constraint]:
        """Compile the request's grammar and advance it by ``answer_ids``; errors are the future's exception."""
        assert params.grammar is not None, "a request without a grammar"
        future = self._prepared[request_id] = self._thread.submit(self._make, params.grammar, answer_ids)
        return future

    def take(self, request_id: int) -> Constraint | None:
        """Return the prepared constraint of the request, if there is one."""
        future = self._prepared.pop(request_id, None)
        return None if future is None else future.result()

    def drop(self, request_id: int) -> None:
        """Drop the prepared constraint of the request, if there is one."""
        future = self._prepared.pop(request_id, None)
        if future is not None:
            future.cancel()

    def close(self) -> None:
        """Wait for running compilations, after which the vocabulary may be freed."""
        self._thread.shutdown(cancel_futures=True)

    def _make(self, grammar: Grammar, answer_ids: tuple[int, ...]) -> Constraint:
        constraint = self._compiled.get(grammar)
        if constraint is None:
            constraint = self._compiled[grammar] = self._factory.make(grammar)
        self._compiled.move_to_end(grammar)
        while len(self._compiled) > _REMEMBERED:
            self._compiled.popitem(last=False)
        followed = constraint.copy()
        for token in answer_ids:
            followed.accept(token)
        return followed
