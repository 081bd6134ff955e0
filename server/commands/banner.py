"""What ``glmserve serve`` prints once the model takes requests."""

import json
import shlex
from collections.abc import Mapping

from server.engine.messages import EngineInfo

_GREETING = "你好"


def ready_banner(url: str, name: str, info: EngineInfo) -> str:
    """Return the address, and a line to try for each kind of caller."""
    messages = [{"role": "user", "content": _GREETING}]
    chat = {"model": name, "messages": messages}
    legacy = {"prompt": _GREETING, "history": []}
    return "\n".join(
        (
            f"{name} is ready on {url}",
            f"{info.device}; up to {info.parallel} answers at once, {info.context_length} tokens each",
            "",
            f"OpenAI clients (base_url {url}/v1, any api_key):",
            "  " + curl(f"{url}/v1/chat/completions", chat),
            "The same, streamed:",
            "  " + curl(f"{url}/v1/chat/completions", {**chat, "stream": True}, "-N"),
            "Programs written for the original api.py:",
            "  " + curl(f"{url}/chatglm", legacy),
            "",
            "Ctrl-C stops the server.",
        )
    )


def curl(url: str, body: Mapping[str, object], *flags: str) -> str:
    """Return a shell command that posts ``body``."""
    data = json.dumps(body, ensure_ascii=False)
    return shlex.join(["curl", *flags, url, "-H", "Content-Type: application/json", "-d", data])
