"""Requests for a model that an upstream runs, passed on as they are where the upstream has the same endpoint."""

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from glmserve.generation.generate import unless_gone
from glmserve.generation.generation import Deadline
from glmserve.generation.remote import RemoteTally
from glmserve.http.error_replies import ErrorReply
from glmserve.http.errors import UpstreamError
from glmserve.http.offload import disconnected, off_loop
from glmserve.http.request_context import RequestContext, RequestProgress
from glmserve.http.request_record import current_request
from glmserve.http.sse import Event, EventStream
from glmserve.model_pool.registry import ModelRegistry
from glmserve.model_pool.served_model import NamedModel, ServedModel
from glmserve.model_pool.upstream_model import UpstreamModel
from glmserve.upstream.passing import passed_body, shown_chunk, streams, wants_usage
from glmserve.upstream.replies import choices_in, counts_in

if TYPE_CHECKING:
    from glmserve.upstream.connection import EventSource

_T = TypeVar("_T")

DONE = Event("[DONE]")
"""Ends every stream of OpenAI's chunks."""


@dataclass(frozen=True, slots=True)
class Passed:
    """A request for a model of an upstream, as it came."""

    body: Mapping[str, object]
    model: UpstreamModel


def unless_passed(
    registry: ModelRegistry, parse: Callable[[Mapping[str, object]], _T], kind: type[NamedModel] = ServedModel
) -> Callable[[Mapping[str, object]], _T | Passed]:
    """Return a check of a body: its request by ``parse``, or the body as it is where an upstream runs its model."""

    def check(body: Mapping[str, object]) -> _T | Passed:
        model = registry.upstream_of(body.get("model"), kind)
        return parse(body) if model is None else Passed(body, model)

    return check


@dataclass(frozen=True, slots=True)
class Target:
    """The endpoint of an upstream."""

    path: str
    """Below the address of its API."""
    generates: bool = False
    """It writes answers, which it may stream."""


def _no_events(_: ErrorReply) -> Iterable[Event]:
    return ()


async def pass_on(
    passed: Passed, target: Target, request: Request, on_error: Callable[[ErrorReply], Iterable[Event]] = _no_events
) -> Response:
    """Return the upstream's reply under the names of this server; a stream ends by ``on_error`` where it fails.

    Raises:
        UpstreamError: there is none, or it is an error.
        ClientDisconnected: the caller left before; the upstream's work was aborted.
    """
    context = current_request().context
    async with passed.model.in_use():
        if target.generates and streams(passed.body):
            return await _stream(passed, target, context, on_error)
        return await unless_gone(_whole(passed, target, context), partial(disconnected, request))


def _body(passed: Passed, target: Target, context: RequestContext) -> dict[str, object]:
    return passed_body(
        passed.body,
        passed.model.upstream.place.model,
        generates=target.generates,
        most_tokens=passed.model.card.max_output_tokens,
        prefix_owner=context.prefix_owner,
    )


def _tally(passed: Passed, context: RequestContext) -> RemoteTally:
    progress = RequestProgress(passed.model.card.name, 0)
    context.observer.begin(progress)
    return RemoteTally(passed.model.upstream, progress, context.body_bytes)


async def _whole(passed: Passed, target: Target, context: RequestContext) -> Response:
    tally = _tally(passed, context)
    deadline = Deadline(context)
    try:
        body = _body(passed, target, context)
        reply = await deadline.wait(lambda: passed.model.upstream.post(target.path, body, context.request_id))
        tally.piece()
        if counts := counts_in(reply):
            tally.told(counts)
        if any(choice.get("finish_reason") == "length" for choice in choices_in(reply)):
            tally.cut()
        shown = {**reply, "model": passed.model.card.name}
        return await off_loop(lambda: JSONResponse(shown), context.body_bytes)
    except UpstreamError:
        tally.failed()
        raise
    finally:
        deadline.close()
        tally.close()


async def _stream(
    passed: Passed, target: Target, context: RequestContext, on_error: Callable[[ErrorReply], Iterable[Event]]
) -> EventStream:
    """Open the stream; errors of the upstream are raised here, before the status is sent."""
    upstream = passed.model.upstream
    source = await upstream.stream(target.path, _body(passed, target, context), context.request_id)
    stream = PassedStream(source, _tally(passed, context), Deadline(context))
    events = _events(stream, passed.model.card.name, usage=wants_usage(passed.body))
    return EventStream(stream, events, on_error)


class PassedStream:
    """A stream of an upstream that is passed on."""

    def __init__(self, source: "EventSource", tally: RemoteTally, deadline: Deadline) -> None:
        """Take over all of them."""
        self._source = source
        self._tally = tally
        self._deadline = deadline

    async def next_event(self) -> dict[str, object] | None:
        """Return the next event, counted, or None after the last. Raises UpstreamError or RequestTimedOut."""
        try:
            event = await self._deadline.wait(self._source.next_event)
        except UpstreamError:
            self._tally.failed()
            raise
        if event is None:
            return None
        choices = choices_in(event)
        if choices:
            self._tally.piece()
        if counts := counts_in(event):
            self._tally.told(counts)
        if any(choice.get("finish_reason") == "length" for choice in choices):
            self._tally.cut()
        return event

    async def aclose(self) -> None:
        """Close the connection; the upstream aborts an unfinished answer."""
        self._deadline.close()
        self._tally.close()
        await self._source.aclose()


async def _events(stream: PassedStream, model: str, *, usage: bool) -> AsyncGenerator[Event, None]:
    async with aclosing(stream):
        while (event := await stream.next_event()) is not None:
            shown = shown_chunk(event, model, usage=usage)
            if shown is not None:
                yield Event(shown)
        yield DONE
