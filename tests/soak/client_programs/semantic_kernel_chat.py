"""semantic-kernel: a function that it calls by itself, and the answer in a format, at once and streamed."""

import asyncio

from openai import AsyncOpenAI
from semantic_kernel import Kernel
from semantic_kernel.connectors.ai import FunctionChoiceBehavior
from semantic_kernel.connectors.ai.open_ai import OpenAIChatCompletion, OpenAIChatPromptExecutionSettings
from semantic_kernel.contents import ChatHistory
from semantic_kernel.functions import kernel_function
from weather import MODEL, QUESTION, SERVER, Weather, get_weather, tell

kernel = Kernel()
kernel.add_function("weather", kernel_function(get_weather))
settings = OpenAIChatPromptExecutionSettings(
    response_format=Weather, function_choice_behavior=FunctionChoiceBehavior.Auto()
)


def history() -> ChatHistory:
    asked = ChatHistory()
    asked.add_user_message(QUESTION)
    return asked


async def main() -> None:
    service = OpenAIChatCompletion(ai_model_id=MODEL, async_client=AsyncOpenAI(**SERVER))
    answer = await service.get_chat_message_content(history(), settings, kernel=kernel)
    streamed = ""
    async for part in service.get_streaming_chat_message_content(history(), settings, kernel=kernel):
        streamed += part.content if part else ""
    tell(
        "semantic-kernel",
        chat=Weather.model_validate_json(str(answer)),
        chat_stream=Weather.model_validate_json(streamed),
    )


asyncio.run(main())
