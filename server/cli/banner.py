"""The lines that ``glmserve serve`` prints once it answers: address, models, a command for each kind of caller."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from glmserve.cli.texts.chinese import say
from glmserve.cli.texts.chinese_errors import told
from glmserve.compat.legacy import BAICHUAN, CHATGLM, Contract
from glmserve.engine.interface import EngineState
from glmserve.engine.messages import EngineInfo
from glmserve.model_pool.served_model import NamedModel, RerankModel
from glmserve.model_pool.upstream_model import UpstreamModel

_GREETING = "你好"
KEY_PLACEHOLDER = "YOUR_API_KEY"
_LEGACY: tuple[tuple[Contract, Mapping[str, object]], ...] = (
    (CHATGLM, {"prompt": _GREETING, "history": []}),
    (BAICHUAN, {"prompt": _GREETING}),
)


@dataclass(frozen=True, slots=True)
class Access:
    """How the server can be called."""

    needs_key: bool = False
    lan_url: str = ""
    """Its address for other machines, where it listens on all of its own."""


OPEN = Access()
_ANY_FORMAT = "upstream"
"""In place of the prompt format of a model that an upstream runs, which answers at all legacy addresses."""


@dataclass(frozen=True, slots=True)
class Announced:
    """A line about a model."""

    name: str
    prompt_format: str
    """Empty of an embedding model or a reranker."""
    note: str
    ranks: bool = False
    """Whether it is a reranker."""


def announced(model: NamedModel) -> Announced:
    """Return the banner's lines about ``model``."""
    card, status, ranks = model.card, model.status, isinstance(model, RerankModel)
    if isinstance(model, UpstreamModel):
        state = status.reason or say("it answers")
        return Announced(card.name, _ANY_FORMAT, f"{model.upstream.place.url}; {state}")
    if status.state is EngineState.READY:
        info = model.host.info
        note = say("{device}; {work}", device=told(info.device), work=_work(info, model.context_length))
    elif status.state is EngineState.IDLE:
        note = say("is loaded by the first request for it")
    else:
        note = say("cannot be served: {reason}", reason=told(status.reason))
    if card.parent:
        note = f"{note} ({say('an adapter of {parent}', parent=card.parent)})"
    return Announced(card.name, card.prompt_format, note, ranks)


def _work(info: EngineInfo, tokens: int) -> str:
    """Return the current work of an engine, in words."""
    if info.ranks:
        return say("scores of pairs of texts, of {tokens} tokens at most", tokens=tokens)
    if info.embedding_size:
        numbers = info.embedding_size
        return say("vectors of {numbers} numbers, of texts of {tokens} tokens at most", numbers=numbers, tokens=tokens)
    return say("up to {answers} answers at once, {tokens} tokens each", answers=info.parallel, tokens=tokens)


def ready_banner(url: str, models: Sequence[Announced], access: Access = OPEN, *, page: bool = True) -> str:
    """Return the address, a line for each model, and one to try for each kind of caller; ``page``: there is one."""
    browser = (say("In a browser:"), f"  {url}/") if page else ()
    head = (*_head(url, models), *_lan(access))
    return "\n".join((*head, "", *browser, *_examples(url, models, access), "", say("Ctrl-C stops the server.")))


def _lan(access: Access) -> Iterator[str]:
    if access.lan_url:
        address = say("Other machines reach it on {url}", url=access.lan_url)
        everybody = "{address}, for everybody who can reach it: there are no API keys (--api-key-file)"
        yield address if access.needs_key else say(everybody, address=address)


def _head(url: str, models: Sequence[Announced]) -> Iterator[str]:
    if len(models) == 1:
        yield say("{name} is ready on {url}", name=models[0].name, url=url)
        yield models[0].note
        return
    several = "glmserve is ready on {url} with {count} models, the first one for requests that name none:"
    yield say(several, url=url, count=len(models))
    width = max(len(model.name) for model in models)
    yield from (f"  {model.name:{width}}  {model.note}" for model in models)


def _examples(url: str, models: Sequence[Announced], access: Access) -> Iterator[str]:
    curl = partial(_curl, needs_key=access.needs_key)
    any_key = "OpenAI clients (base_url {url}/v1, any api_key):"
    yield say("OpenAI clients (base_url {url}/v1, an api_key):" if access.needs_key else any_key, url=url)
    answering = [model for model in models if model.prompt_format]
    if answering:
        chat = {"model": answering[0].name, "messages": [{"role": "user", "content": _GREETING}]}
        yield "  " + curl(f"{url}/v1/chat/completions", chat)
        yield say("The same, streamed:")
        yield "  " + curl(f"{url}/v1/chat/completions", {**chat, "stream": True}, "-N")
    for ranks in (False, True):
        encoders = [model.name for model in models if not model.prompt_format and model.ranks is ranks]
        if encoders and ranks:
            pair = {"query": _GREETING, "documents": [_GREETING]}
            yield "  " + curl(f"{url}/v1/rerank", {"model": encoders[0], **pair})
        elif encoders:
            yield "  " + curl(f"{url}/v1/embeddings", {"model": encoders[0], "input": _GREETING})
    formats = {model.prompt_format for model in models}
    legacy = [(contract, body) for contract, body in _LEGACY if formats & {*contract.formats, _ANY_FORMAT}]
    if legacy:
        yield say("Programs written for the original api.py:")
    yield from ("  " + curl(url + contract.paths[0], body) for contract, body in legacy)


def _curl(url: str, body: Mapping[str, object], *flags: str, needs_key: bool) -> str:
    """Return a shell command that posts ``body``; a key is to be filled in."""
    data = json.dumps(body, ensure_ascii=False)
    key = ("-H", f"Authorization: Bearer {KEY_PLACEHOLDER}") if needs_key else ()
    return shlex.join(["curl", *flags, url, "-H", "Content-Type: application/json", *key, "-d", data])
