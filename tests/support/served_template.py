"""A scripted engine behind a chat template."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timezone

import httpx

from glmserve.bootstrap.app import create_app
from glmserve.chat.prompts.template.format import TemplateFormat
from glmserve.chat.prompts.template.probe import find_traits
from glmserve.chat.prompts.template.rendering import Template, TemplateSource
from glmserve.model_pool.host import ModelHost
from glmserve.model_pool.registry import ModelRegistry
from glmserve.model_pool.served_model import ModelCard, ServedModel
from tests.support.api import connect
from tests.support.scripted_engine import ByteTokenizer, ScriptedEngine


@asynccontextmanager
async def served_template(source: TemplateSource, engine: ScriptedEngine) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of the application whose one model has the prompts of ``source``."""
    renderer = Template(source, lambda: datetime(2026, 1, 1, tzinfo=timezone.utc))
    form = TemplateFormat(renderer, find_traits(renderer, source))
    served = ServedModel(ModelCard("m", 0, prompt_format="template"), ModelHost(engine, ByteTokenizer), form)
    async with connect(create_app(ModelRegistry([served]))) as client:
        yield client
