"""The official clients on the application, in process."""

import httpx2
from fastapi import FastAPI
from openai import AsyncOpenAI


def openai_client(app: FastAPI, key: str = "none") -> AsyncOpenAI:
    """The official client of ``app``, whose lifespan must run; it does not retry, so that every error shows."""
    http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app))
    return AsyncOpenAI(base_url="http://testserver/v1", api_key=key, http_client=http, max_retries=0)
