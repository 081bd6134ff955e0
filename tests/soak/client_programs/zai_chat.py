"""zai-sdk: a call, its result sent back, and the answer as JSON."""

from weather import SERVER, tell
from zai import ZaiClient
from zhipu import ask

client = ZaiClient(**SERVER)
tell("zai-sdk", chat=ask(client), stream=ask(client, stream=True))
