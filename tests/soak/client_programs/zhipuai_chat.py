"""zhipuai: a call, its result sent back, and the answer as JSON."""

from weather import SERVER, tell
from zhipu import ask
from zhipuai import ZhipuAI

client = ZhipuAI(**SERVER)
tell("zhipuai", chat=ask(client), stream=ask(client, stream=True))
