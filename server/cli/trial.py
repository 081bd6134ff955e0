"""A model file tried out in llama.cpp, in a process of its own: its prompt, its end tokens, and how well it reads."""

import logging
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import TypeVar

from glmserve.bootstrap.engine_config import ModelPlan
from glmserve.chat.prompts.formats import prefix_ids
from glmserve.chat.prompts.messages import Message, Role
from glmserve.engine.client.compute_modes import ComputeFallback, Failure
from glmserve.engine.config import ComputeMode, EngineConfig
from glmserve.engine.errors import SEE_LOG, EngineError, SelfTestFailed
from glmserve.engine.gguf.chat_template import is_marker
from glmserve.engine.gguf.soundness import ParagraphScore

_Given = TypeVar("_Given")
_Result = TypeVar("_Result")
_TEST_CONTEXT = 512
_LOAD_ERROR = "error loading model: "
"""Before the reason in llama.cpp's message."""
GREETING = "你好"


@dataclass(frozen=True, slots=True)
class Token:
    """A token of the vocabulary."""

    id: int
    text: str
    """Its name in the vocabulary if it is a special token or a part of a character, else its text."""


@dataclass(frozen=True, slots=True)
class PromptTrial:
    """How a question is put to a model, and where its answer ends."""

    text: str = ""
    """With the names of special tokens."""
    prompt: tuple[Token, ...] = ()
    stops: tuple[Token, ...] = ()
    ordinary_stops: tuple[Token, ...] = ()
    """Ends among ``stops`` that are text, and no marks."""
    wanted_stops: tuple[str, ...] = ()
    """End tokens of the prompt format, whether the vocabulary has them or not."""


class TrialFault(Exception):
    """The file cannot be used; one line."""


class ModeFault(TrialFault):
    """llama.cpp crashed or computed wrong results, which it may not do in another compute mode."""


class CrashFault(ModeFault):
    """llama.cpp ended the process."""


@dataclass(frozen=True, slots=True)
class ModeTrial:
    """Outcome of the self-test in the compute modes that the server would try in turn."""

    mode: ComputeMode
    """The first one that passed, or the last one."""
    fault: str = ""
    """Of the last mode; empty where it passed."""
    failures: tuple[Failure, ...] = ()
    """Of the modes before."""


def try_prompt(plan: ModelPlan) -> PromptTrial:
    """Return the prompt of a greeting, and the end tokens. Raises TrialFault."""
    return _apart(_try_prompt, plan)


def try_reading(plan: ModelPlan) -> tuple[ParagraphScore, ...]:
    """Return the perplexity of a paragraph in each language. Raises TrialFault."""
    return _apart(_try_reading, plan)


def self_test(config: EngineConfig) -> ModeTrial:
    """Load a model and have the engine's self-test check its outputs, in modes as safe as it needs."""
    small = replace(config, parallel=1, context_length=_TEST_CONTEXT, cache_cells=2 * _TEST_CONTEXT, adapters=())
    fallback = ComputeFallback(config.compute_mode)
    while True:
        mode, before = fallback.mode, fallback.failures
        try:
            _apart(_self_test, replace(small, compute_mode=mode))
        except TrialFault as fault:
            how = "ended the process" if isinstance(fault, CrashFault) else f"computed wrong results: {fault}"
            if not isinstance(fault, ModeFault) or not fallback.failed(how):
                return ModeTrial(mode, str(fault), before)
        else:
            return ModeTrial(mode, "", before)


def _apart(work: Callable[[_Given], _Result], given: _Given) -> _Result:
    """Run ``work`` in a process of its own, as llama.cpp ends that on many bad files."""
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(_as_trial_fault, work, given).result()
        except BrokenProcessPool:
            raise CrashFault("llama.cpp ends the process that loads the file; convert the model again") from None
        except (ImportError, OSError, RuntimeError) as error:
            raise TrialFault(f"llama.cpp cannot be used: {error}") from None


class _LoadErrors(logging.Handler):
    """Keeps why llama.cpp did not load a file; its other messages are not for the report."""

    def __init__(self) -> None:
        super().__init__()
        self.reason = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.reason = record.getMessage().partition(_LOAD_ERROR)[2] or self.reason


def _as_trial_fault(work: Callable[[_Given], _Result], given: _Given) -> _Result:
    errors = _LoadErrors()
    logging.basicConfig(handlers=[errors])
    try:
        return work(given)
    except SelfTestFailed as error:
        raise ModeFault(str(error)) from None
    except (EngineError, ValueError) as error:
        said = str(error).removesuffix(SEE_LOG) if errors.reason else str(error)
        raise TrialFault(": ".join(filter(None, (said, errors.reason)))) from None


def _self_test(config: EngineConfig) -> None:
    from glmserve.engine.worker.entry import load_llama  # noqa: PLC0415

    runner = load_llama(config)
    try:
        runner.self_test()
    finally:
        runner.close()


# Imported in the child process alone: the parent must survive a library that cannot be loaded.
def _try_prompt(plan: ModelPlan) -> PromptTrial:
    from glmserve.bootstrap.build import load_fitting, make_prompt_format  # noqa: PLC0415

    prompt_format = make_prompt_format(plan)
    tokenizer = load_fitting(plan.facts.path, prompt_format, plan.prompt_format)

    def token(i: int) -> Token:
        text = tokenizer.piece(i).decode("utf-8", "replace")
        return Token(i, tokenizer.name(i) if not text or "\N{REPLACEMENT CHARACTER}" in text else text)

    ids = prompt_format.encode((Message(Role.USER, GREETING),), tokenizer)
    text = b"".join(tokenizer.piece(i) or tokenizer.name(i).encode() for i in ids).decode("utf-8", "replace")
    stops = tuple(token(i) for i in sorted(tokenizer.stop_ids(prompt_format.end_tokens)))
    ordinary = tuple(stop for stop in stops if tokenizer.piece(stop.id) and not is_marker(tokenizer.name(stop.id)))
    return PromptTrial(text, tuple(map(token, ids)), stops, ordinary, prompt_format.end_tokens)


def _try_reading(plan: ModelPlan) -> tuple[ParagraphScore, ...]:
    from glmserve.bootstrap.build import make_prompt_format  # noqa: PLC0415
    from glmserve.chat.tokenizer.llama_tokenizer import load_tokenizer  # noqa: PLC0415
    from glmserve.engine.llama.perplexity import score_paragraphs  # noqa: PLC0415

    tokenizer = load_tokenizer(plan.facts.path)
    return score_paragraphs(plan.facts.path, tokenizer.encode, prefix_ids(make_prompt_format(plan), tokenizer))
