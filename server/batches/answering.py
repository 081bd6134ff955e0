"""The reply to one line: asked in the background, again where the fault is none of its own."""

import asyncio
import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from starlette.types import ASGIApp

from glmserve.batches.in_process import Reply, post
from glmserve.batches.input_lines import LineFault, output_line, parse_line, unanswered_line
from glmserve.batches.records import Batch, Line, Usage
from glmserve.batches.store import new_line_id
from glmserve.http.error_replies import describe
from glmserve.http.errors import InvalidRequest
from glmserve.http.request_record import RequestRecord

_DIED_AT_MOST = 3
"""Engine processes that may die while a line runs: it may be to blame."""
_REJECTED_ALONE = 3
"""Rejections of a line for lack of room while no other line runs: it never finds any."""
_LONGEST_PAUSE_S = 30.0
_RETRIED = frozenset({"engine_died", "engine_unavailable", "model_load_failed", "server_busy", "queue_full"})
"""Codes of errors that say nothing of the line."""


@dataclass(frozen=True, slots=True)
class LineReply:
    """The line of the output or error file, and its usage."""

    text: bytes
    failed: bool
    usage: Usage


class LineAnswers:
    """Answers lines by an application."""

    def __init__(
        self,
        app: ASGIApp,
        new_record: Callable[[str], RequestRecord],
        ended: Callable[[RequestRecord, int], None],
        pause_s: float = 1.0,
    ) -> None:
        """Ask ``app``.

        Args:
            app: answers all endpoints of batches.
            new_record: makes the record of a request of an owner.
            ended: gets each request and its status.
            pause_s: seconds before a line is asked again for the first time.
        """
        self._app = app
        self._new_record = new_record
        self._ended = ended
        self._pause_s = pause_s
        self._running = 0

    async def answer(self, batch: Batch, line: Line, text: bytes) -> LineReply:
        """Return the reply to ``line``, whose input is ``text``."""
        try:
            asked = parse_line(text, batch.endpoint).body
        except LineFault as fault:  # the file was checked, so this is a fault of the disk
            line_id = new_line_id()
            return LineReply(
                unanswered_line(line_id, line.custom_id, fault.code, str(fault)), failed=True, usage=Usage()
            )
        if asked.get("stream"):
            error = InvalidRequest("a line of a batch cannot be streamed; leave stream out", param="stream")
            return self._written(line, Reply(400, json.dumps(describe(error).envelope()).encode()), RequestRecord())
        return self._written(line, *await self._ask_until_told(batch, asked_body(asked, batch.endpoint)))

    def _written(self, line: Line, reply: Reply, record: RequestRecord) -> LineReply:
        written = output_line(new_line_id(), line.custom_id, record.id, reply.status, reply.body.decode())
        generations = record.generations
        usage = Usage(
            sum(one.prompt_tokens for one in generations),
            sum(one.cached_tokens for one in generations),
            sum(one.completion_tokens for one in generations),
        )
        return LineReply(written, failed=reply.status >= 400, usage=usage)

    async def _ask_until_told(self, batch: Batch, body: bytes) -> tuple[Reply, RequestRecord]:
        died = rejected = 0
        pause = self._pause_s
        while True:
            record = self._new_record(batch.owner)
            record.id = f"req_{uuid.uuid4().hex}"
            self._running += 1
            try:
                reply = await post(self._app, batch.endpoint, body, record)
            finally:
                self._running -= 1
            code = _code(reply)
            died += code == "engine_died"
            rejected += code == "queue_full" and not self._running
            if code not in _RETRIED or died >= _DIED_AT_MOST or rejected >= _REJECTED_ALONE:
                self._ended(record, reply.status)
                return reply, record
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)


def asked_body(body: Mapping[str, object], endpoint: str) -> bytes:
    """Return the body that the endpoint gets: that of the line, but that no response is stored unless it says so."""
    if endpoint == "/v1/responses":
        body = {"store": False, **body}
    return json.dumps(body, ensure_ascii=False).encode()


def _code(reply: Reply) -> str:
    if reply.status not in (429, 503):
        return ""
    try:
        return str(json.loads(reply.body)["error"]["code"])
    except (ValueError, LookupError, TypeError):
        return ""
