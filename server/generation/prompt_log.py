"""Prompts and answers in the log, with ``--log-prompts``."""

import json
import logging
from collections import defaultdict
from collections.abc import AsyncGenerator

from glmserve.chat.tools.types import CallDelta, gather_calls
from glmserve.generation.output_processor import TextDelta
from glmserve.model_pool.host import Tokenizer

log = logging.getLogger(__name__)


def log_prompt(prompt_ids: tuple[int, ...], tokenizer: Tokenizer) -> None:
    """Log the text that the model gets."""
    text = b"".join(map(tokenizer.piece, prompt_ids)).decode("utf-8", "replace")
    log.info("prompt: %s", _quoted(text))


async def logged(deltas: AsyncGenerator[TextDelta, None]) -> AsyncGenerator[TextDelta, None]:
    """Yield ``deltas``, and log the answers when they have ended, as far as they came."""
    texts: dict[int, str] = defaultdict(str)
    calls: dict[int, list[CallDelta]] = defaultdict(list)
    try:
        async for delta in deltas:
            texts[delta.index] += delta.text
            calls[delta.index] += delta.calls
            yield delta
    finally:
        await deltas.aclose()
        for index, text in sorted(texts.items()):
            log.info("answer %d: %s", index, _quoted(text))
            for call in gather_calls(calls[index]):
                log.info("answer %d calls %s", index, _quoted(f"{call.name} {call.arguments}"))


def _quoted(text: str) -> str:
    """Return ``text`` on one line."""
    return json.dumps(text, ensure_ascii=False)
