"""Pinned prefixes: in the cache for ever, and on the disk from one start to the next."""

import itertools
import logging
from typing import Protocol

from glmserve.engine.kv_cache.prefix_keys import PLAIN, PrefixKeys
from glmserve.engine.kv_cache.state_store import Fingerprint, fingerprint
from glmserve.engine.messages import FinishReason, Pin
from glmserve.engine.model_runner import ModelRunner
from glmserve.engine.params import SamplingParams
from glmserve.engine.scheduler.batch import Batch
from glmserve.engine.scheduler.scheduler import Scheduler
from glmserve.engine.sequence import Sequence, SequenceStatus

log = logging.getLogger(__name__)


class States(Protocol):
    """Keeps sequence states. Neither method raises: a state that is not stored is computed again."""

    def load(self, key: Fingerprint) -> bytearray | None:
        """Return the state of ``key``, or None if no complete one is stored."""

    def save(self, key: Fingerprint, state: bytearray) -> None:
        """Keep ``state``, without making the caller wait for the disk."""


class PinnedPrefixes:
    """Gives each pin its slot: from the disk, or computed and then saved."""

    def __init__(self, runner: ModelRunner, scheduler: Scheduler, states: States | None, keys: PrefixKeys) -> None:
        """``states`` is None if nothing is saved; ``keys`` learns the public prefixes."""
        self._runner = runner
        self._scheduler = scheduler
        self._states = states
        self._prefix_keys = keys
        self._ids = itertools.count(-1, -1)  # requests count upwards
        self.computing: dict[int, Fingerprint] = {}
        """By request id of the sequences that compute a pin: the key of its state."""
        self._pinned: set[tuple[int, ...]] = set()
        self.restored = 0
        self.computed = 0

    def pin(self, message: Pin) -> bool:
        """Keep a prefix for ever. False where it would leave no room for a request, or is not saved and should be."""
        adapter = self._runner.adapters.get(message.adapter, PLAIN)
        tokens = adapter.key(message.prompt_ids)
        self._prefix_keys.declare_public(tokens)
        if tokens in self._pinned:
            return True
        key = fingerprint(self._runner.state_fingerprint(message.adapter), message.prompt_ids)
        if self._restore(key, tokens):
            self._pinned.add(tokens)
            self.restored += 1
            return True
        if message.if_saved:
            return False
        if not self._scheduler.can_pin(len(tokens)):
            log.warning("a prefix of %d tokens is not pinned: it would leave no room for a request", len(tokens))
            return False
        self._pinned.add(tokens)
        request_id = next(self._ids)
        self.computing[request_id] = key
        params, salt = SamplingParams(max_tokens=1), adapter.salt
        self._scheduler.pin_computed(Sequence(request_id, tokens, params, 1, salt, adapter.prefix_length, pinned=True))
        return True

    def after_step(self, batch: Batch) -> None:
        """Save the pinned prefixes that the step has completed."""
        for item in batch.items:
            sequence = item.sequence
            if not sequence.pinned or sequence.status is not SequenceStatus.FINISHED:
                continue
            key = self.computing.pop(sequence.request_id)
            if sequence.finish_reason is FinishReason.ERROR:
                log.warning("a prefix of %d tokens could not be computed and is not pinned", len(sequence.prompt_ids))
                self._pinned.discard(sequence.prompt_ids)
                continue
            self.computed += 1
            log.info("a pinned prefix of %d tokens was computed", len(sequence.prompt_ids))
            if self._states is not None:
                self._states.save(key, self._runner.read_state(sequence.slot))

    def _restore(self, key: Fingerprint, tokens: tuple[int, ...]) -> bool:
        if self._states is None or not self._scheduler.can_pin(len(tokens), now=True):
            return False
        state = self._states.load(key)
        if state is None:
            return False
        slot = self._scheduler.pin_slot(tokens)
        self._apply_ops()
        if self._runner.write_state(slot, state):
            log.info("a pinned prefix of %d tokens was loaded from disk", len(tokens))
            return True
        log.warning("llama.cpp rejected the saved state of a pinned prefix; it is computed again")
        self._scheduler.unpin(slot)
        self._apply_ops()
        return False

    def _apply_ops(self) -> None:
        for op in self._scheduler.take_ops():
            self._runner.apply(op)
