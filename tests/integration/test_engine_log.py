"""A line that an engine process logs about one request is logged by the server under the id of that request."""

import asyncio
import logging
from pathlib import Path

import pytest

from glmserve.engine.client.client import EngineClient
from glmserve.engine.config import EngineConfig
from glmserve.engine.errors import DecodeFailed
from glmserve.engine.params import SamplingParams
from glmserve.http.request_record import RequestRecord, enter_request
from glmserve.observability.logging import RequestIdFilter
from tests.support.poisoned_engine import POISON, load_poisoned


@pytest.mark.anyio
async def test_a_request_that_cannot_be_computed_is_logged_under_its_id(caplog: pytest.LogCaptureFixture) -> None:
    caplog.handler.addFilter(RequestIdFilter())
    caplog.set_level(logging.INFO)
    engine = EngineClient(EngineConfig(model_path=Path("none.gguf")), load_poisoned)

    async def ask(request_id: str, prompt: tuple[int, ...]) -> None:
        enter_request(RequestRecord(request_id))
        outputs = await engine.submit(prompt, SamplingParams(max_tokens=3))
        async for _ in outputs:
            pass

    await engine.start()
    try:
        await engine.wait_ready(60)
        well, ill = (asyncio.create_task(ask(*each)) for each in (("well", (1, 2, 3)), ("ill", (4, POISON))))
        await well
        with pytest.raises(DecodeFailed):
            await ill
    finally:
        await engine.stop()
    told = [record for record in caplog.records if record.name == "glmserve.engine.worker.core"]
    said = [(record.getMessage(), getattr(record, "request_id", None)) for record in told]
    assert said == [("a request failed: poisoned", "ill")]
