"""The banner of ``glmserve serve``, printed once its models take requests."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from glmserve.compat.legacy import BAICHUAN, CHATGLM, Contract
from glmserve.engine.interface import EngineState
from glmserve.model_pool.registry import NamedModel

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


@dataclass(frozen=True, slots=True)
class Announced:
    """A line about a model."""

    name: str
    prompt_format: str
    """Empty of an embedding model."""
    note: str


def announced(model: NamedModel) -> Announced:
    """Return the banner's lines about ``model``."""
    card, status = model.card, model.status
    if status.state is EngineState.READY:
        info = model.host.info
        answers = f"up to {info.parallel} answers at once, {model.context_length} tokens each"
        vectors = f"vectors of {info.embedding_size} numbers, of texts of {model.context_length} tokens at most"
        note = f"{info.device}; {vectors if info.embedding_size else answers}"
    elif status.state is EngineState.IDLE:
        note = "is loaded by the first request for it"
    else:
        note = f"cannot be served: {status.reason}"
    return Announced(card.name, card.prompt_format, f"{note} (a variant of {card.parent})" if card.parent else note)


def ready_banner(url: str, models: Sequence[Announced], access: Access = OPEN, *, page: bool = True) -> str:
    """Return the address, a line for each model, and one to try for each kind of caller; ``page``: there is one."""
    browser = ("In a browser:", f"  {url}/") if page else ()
    head = (*_head(url, models), *_lan(access))
    return "\n".join((*head, "", *browser, *_examples(url, models, access), "", "Ctrl-C stops the server."))


def _lan(access: Access) -> Iterator[str]:
    if access.lan_url:
        who = "" if access.needs_key else ", for everybody who can reach it: there are no API keys (--api-key-file)"
        yield f"Other machines reach it on {access.lan_url}{who}"


def _head(url: str, models: Sequence[Announced]) -> Iterator[str]:
    if len(models) == 1:
        yield f"{models[0].name} is ready on {url}"
        yield models[0].note
        return
    yield f"glmserve is ready on {url} with {len(models)} models, the first one for requests that name none:"
    width = max(len(model.name) for model in models)
    yield from (f"  {model.name:{width}}  {model.note}" for model in models)


def _examples(url: str, models: Sequence[Announced], access: Access) -> Iterator[str]:
    curl = partial(_curl, needs_key=access.needs_key)
    yield f"OpenAI clients (base_url {url}/v1, {'an' if access.needs_key else 'any'} api_key):"
    answering = [model for model in models if model.prompt_format]
    if answering:
        chat = {"model": answering[0].name, "messages": [{"role": "user", "content": _GREETING}]}
        yield "  " + curl(f"{url}/v1/chat/completions", chat)
        yield "The same, streamed:"
        yield "  " + curl(f"{url}/v1/chat/completions", {**chat, "stream": True}, "-N")
    embedding = [model for model in models if not model.prompt_format]
    if embedding:
        yield "  " + curl(f"{url}/v1/embeddings", {"model": embedding[0].name, "input": _GREETING})
    formats = {model.prompt_format for model in models}
    legacy = [(contract, body) for contract, body in _LEGACY if formats & contract.formats]
    if legacy:
        yield "Programs written for the original api.py:"
    yield from ("  " + curl(url + contract.paths[0], body) for contract, body in legacy)


def _curl(url: str, body: Mapping[str, object], *flags: str, needs_key: bool) -> str:
    """Return a shell command that posts ``body``; a key is to be filled in."""
    data = json.dumps(body, ensure_ascii=False)
    key = ("-H", f"Authorization: Bearer {KEY_PLACEHOLDER}") if needs_key else ()
    return shlex.join(["curl", *flags, url, "-H", "Content-Type: application/json", *key, "-d", data])
