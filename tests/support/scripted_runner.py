"""A runner without a model: it keeps the cells as llama.cpp would and samples a function of what they hold."""

import json
from collections.abc import Callable

from glmserve.engine.kv_cache.ops import (
    EACH_TOKEN,
    CacheOp,
    CacheSnapshot,
    CacheTraits,
    CopyPrefix,
    Drop,
    Load,
    Offload,
    Truncate,
)
from glmserve.engine.kv_cache.prefix_keys import LoadedAdapter
from glmserve.engine.messages import EngineInfo, SampledToken
from glmserve.engine.model_runner import DecodeError, Preparation
from glmserve.engine.params import SamplingParams
from glmserve.engine.scheduler.batch import BatchItem

STOP_ID = 0


def next_token(tokens: list[int]) -> int:
    """The answer's next token: depends on every token before it, salts and prefixes included, so a wrong cell shows."""
    value = 7
    for token in tokens:
        value = (value * 31 + token + 1) % 1_000_003
    return value % 50  # 0 ends a sequence now and then


def copied_token(tokens: list[int]) -> int:
    """The answer's next token of a model that copies what stood ten tokens before, but for now and then one."""
    value = next_token(tokens)
    return tokens[-10] if len(tokens) >= 10 and value < 45 else value


Rule = Callable[[list[int]], int]


def lone_run(prompt: tuple[int, ...], max_tokens: int, rule: Rule = next_token) -> list[int]:
    """What a request gets when nobody else is there."""
    tokens = list(prompt)
    for _ in range(max_tokens):
        tokens.append(rule(tokens))
        if tokens[-1] == STOP_ID:
            break
    return tokens[len(prompt) :]


class ScriptedRunner:
    """Cells are objects, shared by slots as ``seq_cp`` shares them; breaking a rule of llama.cpp is an assertion."""

    def __init__(
        self,
        cells: int = 256,
        slots: int = 12,
        parallel: int = 4,
        context_length: int = 128,
        rule: Rule = next_token,
        *,
        traits: CacheTraits = EACH_TOKEN,
    ) -> None:
        self.slots = slots
        self.cache_traits = traits
        self.rule = rule
        self.stop_ids = frozenset({STOP_ID})
        self.attention_tile = 0
        self.repeats = True
        self.decoding_limit = slots
        self.adapters: dict[str, LoadedAdapter] = {}
        self.info = EngineInfo(context_length, cells, parallel, 50, "scripted", 0.0)
        self.lanes: dict[int, list[list[int]]] = {slot: [] for slot in range(slots)}
        self.samplers: set[int] = set()
        self.copies: dict[int, list[int]] = {}
        self.computed = 0
        self.batches: list[int] = []
        self.poison: int | None = None
        self.takes_states = True

    @property
    def cells_used(self) -> int:
        return len({id(cell) for lane in self.lanes.values() for cell in lane})

    def _check_room(self) -> None:
        if sum(map(len, self.lanes.values())) > self.info.cache_cells:  # which counts shared cells more than once
            assert self.cells_used <= self.info.cache_cells, "no free cells"

    def self_test(self) -> None:
        pass

    def load_prefix(self, adapter: str, slot: int) -> None:
        self.lanes[slot] = [[token] for token in self.adapters[adapter].prefix_tokens]

    def state_fingerprint(self, adapter: str) -> str:
        return f"scripted {adapter}"

    def read_state(self, slot: int) -> bytearray:
        return bytearray(json.dumps([cell[0] for cell in self.lanes[slot]]).encode())

    def write_state(self, slot: int, state: bytearray) -> bool:
        assert not self.lanes[slot], "restored into a slot that is not empty"
        if not self.takes_states:
            return False
        self.lanes[slot] = [[token] for token in json.loads(state)]
        self._check_room()
        return True

    def read_copy(self, key: int) -> bytearray:
        return bytearray(json.dumps(self.copies[key]).encode())

    def put_copy(self, key: int, state: bytearray) -> None:
        self.copies[key] = json.loads(state)

    def apply(self, op: CacheOp) -> None:
        if isinstance(op, CopyPrefix):
            assert not self.lanes[op.target], "copied into a slot that is not empty"
            held = len(self.lanes[op.source])
            assert held == op.length if not self.cache_traits.cuts else held >= op.length, "copied what there is not"
            self.lanes[op.target] = self.lanes[op.source][: op.length]
        elif isinstance(op, Offload):
            assert self.lanes[op.slot], "nothing to park"
            self.copies[op.key] = [cell[0] for cell in self.lanes[op.slot]]
        elif isinstance(op, Load):
            assert not self.lanes[op.slot], "put back into a slot that is not empty"
            self.lanes[op.slot] = [[token] for token in self.copies.pop(op.key)]
            self._check_room()
        elif isinstance(op, Drop):
            del self.copies[op.key]
        else:
            assert self.cache_traits.undoes or not isinstance(op, Truncate), "took back what cannot be"
            self.lanes[op.slot] = self.lanes[op.slot][: op.length] if isinstance(op, Truncate) else []

    def prepare(self, request_id: int, params: SamplingParams, answer_ids: tuple[int, ...] = ()) -> Preparation:
        raise NotImplementedError("a script has no grammar")

    def open_sampler(
        self, request_id: int, params: SamplingParams, prompt_ids: tuple[int, ...], answered: int = 0
    ) -> None:
        assert request_id not in self.samplers
        self.samplers.add(request_id)

    def close_sampler(self, request_id: int) -> None:
        self.samplers.discard(request_id)

    def decode(self, items: tuple[BatchItem, ...]) -> None:
        assert len({item.sequence.salt for item in items}) <= 1, "two adapters in one batch"
        if any(self.poison in item.tokens for item in items):
            raise DecodeError("poisoned")
        self.batches.append(sum(len(item.tokens) + len(item.drafts) for item in items))
        for item in items:
            assert item.start == len(self.lanes[item.slot]), "a gap in the positions"
            self.lanes[item.slot] = self.lanes[item.slot] + [[token] for token in item.tokens + item.drafts]
            self.computed += len(item.tokens) + len(item.drafts)
        self._check_room()

    def sample(self, item: BatchItem, draft: int = 0) -> SampledToken:
        assert item.sequence.request_id in self.samplers
        known = item.start + len(item.tokens) + draft
        return SampledToken(self.rule([cell[0] for cell in self.lanes[item.slot][:known]]))

    def score_prompt(self, item: BatchItem) -> tuple[SampledToken, ...]:
        return tuple(SampledToken(token, -1.0) for token in item.following_prompt_ids)

    def kept(self) -> CacheSnapshot:
        tokens = {slot: len(lane) for slot, lane in self.lanes.items() if lane}
        return CacheSnapshot(tokens, frozenset(self.copies), frozenset(self.samplers), frozenset())

    def close(self) -> None:
        pass
