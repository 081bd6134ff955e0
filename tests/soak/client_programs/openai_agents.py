"""OpenAI Agents: ``output_type`` together with a tool, by both APIs, at once and streamed."""

import asyncio

from agents import (
    Agent,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from openai import AsyncOpenAI
from weather import MODEL, QUESTION, SERVER, Weather, get_weather, tell

set_tracing_disabled(True)


async def main() -> None:
    client = AsyncOpenAI(**SERVER)
    answers = {}
    for way, model in {"chat": OpenAIChatCompletionsModel, "responses": OpenAIResponsesModel}.items():
        agent = Agent(
            name="weather",
            instructions="简短地回答。",
            model=model(MODEL, client),
            tools=[function_tool(get_weather)],
            output_type=Weather,
        )
        answers[way] = (await Runner.run(agent, QUESTION)).final_output
        streamed = Runner.run_streamed(agent, QUESTION)
        async for _ in streamed.stream_events():
            pass
        answers[f"{way}_stream"] = streamed.final_output
    tell("openai-agents", **answers)


asyncio.run(main())
