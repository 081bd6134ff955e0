"""LangChain's client of the OpenAI API, set up for a server under test."""

import httpx
from langchain_openai import ChatOpenAI
from pydantic import SecretStr


def chat_openai(url: str, tokens: int) -> ChatOpenAI:
    """Return a greedy client of the first model, whose answers have at most ``tokens`` tokens."""
    return ChatOpenAI(
        model=httpx.get(f"{url}/v1/models").json()["data"][0]["id"],
        base_url=f"{url}/v1",
        api_key=SecretStr("none"),
        temperature=0,
        max_completion_tokens=tokens,
        max_retries=0,
    )
