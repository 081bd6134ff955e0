"""The models that are served: names, each on an engine, and which one a request means."""

import asyncio
import logging
from collections.abc import Collection, Sequence
from typing import TypeVar

from glmserve.engine.errors import EngineError, QueueFull
from glmserve.engine.interface import Caller, EngineState
from glmserve.http.errors import ModelNotFound, RouteNotServed, WrongModelKind
from glmserve.model_pool.host import ModelHost
from glmserve.model_pool.served_model import EmbeddingModel, NamedModel, RerankModel, ServedModel
from glmserve.model_pool.upstream_model import UpstreamModel

log = logging.getLogger(__name__)

_Kind = TypeVar("_Kind", bound=NamedModel)


class ModelRegistry:
    """The served models by name and alias. A request that names none gets the default one.

    It answers, where any does: callers that take the first model of the list mean to talk to it.
    """

    def __init__(self, models: Sequence[NamedModel], default: str = "", tasks: Sequence[ServedModel] = ()) -> None:
        """Register ``models``; the one called ``default``, or else the first that answers, is the default.

        ``tasks`` are what they do under names of their own: found by these, and never one of ``models``.

        Raises:
            ValueError: there is none, two share a name, or none is called ``default``.
        """
        if not models:
            raise ValueError("at least one model must be served")
        self._by_name: dict[str, NamedModel] = {}
        for model in (*models, *tasks):
            for name in (model.card.name, *model.card.aliases):
                if name in self._by_name:
                    raise ValueError(f"two served models have the name {name!r}")
                self._by_name[name] = model
        if default and default not in self._by_name:
            raise ValueError(f"no served model has the name {default!r}; served models: {', '.join(self._by_name)}")
        answering = (model for model in models if isinstance(model, ServedModel))
        first = self._by_name[default] if default else next(answering, models[0])
        self._models = (first, *(model for model in models if model is not first))
        self.tasks = tuple(sorted(tasks, key=lambda task: task.card.parent != first.card.name))
        """The default model's first."""
        self._loading: asyncio.Task[None] | None = None
        self.stopping = False
        """The server is about to end: the load balancer should send requests elsewhere."""

    @property
    def models(self) -> tuple[NamedModel, ...]:
        """All of them, the default one first."""
        return self._models

    @property
    def hosts(self) -> tuple[ModelHost, ...]:
        """The engines behind them, each once."""
        return tuple(dict.fromkeys(model.host for model in self._models))

    @property
    def has_given_up(self) -> bool:
        """Whether an engine has given up, and no model is left that is served."""
        hosts = self.hosts
        given_up = any(host.has_given_up for host in hosts)
        return given_up and all(host.status.state is EngineState.FAILED for host in hosts)

    def check_room(self, caller: Caller) -> None:
        """Raise QueueFull where no engine would admit a request of ``caller`` now, for any model."""
        rejection: QueueFull | None = None
        for host in self.hosts:
            try:
                return host.engine.check_room(caller)
            except QueueFull as error:
                rejection = error
        if rejection is not None:
            raise rejection
        return None

    def find(self, name: str) -> NamedModel:
        """Return the model called ``name``, of any kind. Raises ModelNotFound."""
        if name not in self._by_name:
            tasks = (task.card.name for task in self.tasks if name.startswith(f"{task.card.parent}:"))
            raise ModelNotFound(name, tuple(tasks) or self._names())
        return self._by_name[name]

    def get(self, name: str | None) -> ServedModel:
        """Return the model called ``name``, which answers; or the default one for None.

        Raises:
            ModelNotFound: none is called that.
            WrongModelKind: it makes vectors or scores.
            RouteNotServed: none that answers is served.
        """
        model = self._first(ServedModel, "text generation") if name is None else self.find(name)
        if not isinstance(model, ServedModel):
            raise WrongModelKind(model.card.name, f"{model.does} and does not generate text", self._of(ServedModel))
        return model

    def upstream_of(self, name: object, kind: type[NamedModel] = ServedModel) -> UpstreamModel | None:
        """Return the model that a request with this ``name`` means, if an upstream runs it; None if not.

        Without a name that is the default one, or the first of another ``kind``, and where there is none of that kind
        the first that an upstream runs.
        """
        if name is None:
            own = (model for model in self._models if isinstance(model, kind))
            found = next(own, None) or next((one for one in self._models if isinstance(one, UpstreamModel)), None)
        else:
            found = self._by_name.get(name) if isinstance(name, str) else None
        return found if isinstance(found, UpstreamModel) else None

    def completer(self, name: str | None) -> ServedModel:
        """Return the model called ``name``, or the default one for None, for text completion; a task is not one.

        Raises:
            ModelNotFound: none is called that.
            WrongModelKind: it makes vectors, or it is a task.
            RouteNotServed: none that answers is served.
        """
        model = self.get(name)
        if model in self.tasks:
            raise WrongModelKind(model.card.name, "is a task and takes messages, not text", self._of(ServedModel))
        return model

    def embedder(self, name: str | None) -> EmbeddingModel:
        """Return the embedding model called ``name``; the first one for None.

        Raises:
            ModelNotFound: none is called that.
            WrongModelKind: it is of another kind.
            RouteNotServed: none that makes vectors is served.
        """
        model = self._first(EmbeddingModel, "embeddings") if name is None else self.find(name)
        if not isinstance(model, EmbeddingModel):
            raise WrongModelKind(model.card.name, f"{model.does} and makes no embeddings", self._of(EmbeddingModel))
        return model

    def reranker(self, name: str | None) -> RerankModel:
        """Return the reranker called ``name``; the first one for None.

        Raises:
            ModelNotFound: none is called that.
            WrongModelKind: it is of another kind.
            RouteNotServed: no reranker is served.
        """
        model = self._first(RerankModel, "reranking") if name is None else self.find(name)
        if not isinstance(model, RerankModel):
            raise WrongModelKind(model.card.name, f"{model.does} and is no reranker", self._of(RerankModel))
        return model

    def first_of(self, formats: Collection[str], route: str) -> ServedModel:
        """Return the first model with one of these prompt formats, for a ``route`` that cannot name one.

        Raises:
            RouteNotServed: there is none.
        """
        answering = (model for model in self._models if isinstance(model, ServedModel))
        found = next((model for model in answering if model.card.prompt_format in formats), None)
        # What an upstream runs answers for any family that is not served.
        found = found or next((model for model in self._models if isinstance(model, UpstreamModel)), None)
        if found is None:
            raise RouteNotServed(route, self._names())
        return found

    def begin(self) -> asyncio.Task[None]:
        """Begin to load the models, unless that was begun; the task ends when each is loaded or has failed."""
        if self._loading is None:
            self._loading = asyncio.create_task(self._start())
        return self._loading

    async def _start(self) -> None:
        """Load the models, each when its host has its turn. A failure leaves the others.

        Those that generate come last: the layers and the cache of such a model take what memory a GPU has left.
        """
        encoders = {model.host for model in self._models if isinstance(model, EmbeddingModel | RerankModel)}
        await asyncio.gather(*map(self._start_one, sorted(self.hosts, key=lambda host: host not in encoders)))

    async def _start_one(self, host: ModelHost) -> None:
        try:
            await host.start()
        except EngineError as error:
            # The reason stays in the host's status; the server keeps answering /health with it.
            log.error("model %s cannot be served: %s", self._name_of(host), error)
        except Exception:
            log.exception("model %s cannot be served", self._name_of(host))

    async def stop(self) -> None:
        """Stop all engines, and loading before: a load that ends by this is no failure to report."""
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.gather(self._loading, return_exceptions=True)
        await asyncio.gather(*(host.stop() for host in self.hosts))

    def _first(self, kind: type[_Kind], route: str) -> _Kind:
        found = next((model for model in self._models if isinstance(model, kind)), None)
        if found is None:
            raise RouteNotServed(route, self._names())
        return found

    def _of(self, kind: type[NamedModel]) -> tuple[str, ...]:
        return tuple(model.card.name for model in self._models if isinstance(model, kind))

    def _names(self) -> tuple[str, ...]:
        return tuple(model.card.name for model in self._models)

    def _name_of(self, host: ModelHost) -> str:
        return next(model.card.name for model in self._models if model.host is host)
