"""pydantic-ai: a tool together with each kind of structured answer, by both APIs, at once and streamed."""

from pydantic_ai import Agent, NativeOutput, PromptedOutput, ToolOutput
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
from weather import MODEL, QUESTION, SERVER, Weather, get_weather, tell

FORMS = {"native": NativeOutput(Weather), "tool": ToolOutput(Weather), "prompted": PromptedOutput(Weather)}
answers = {}
for way, model in {"chat": OpenAIChatModel, "responses": OpenAIResponsesModel}.items():
    for name, form in FORMS.items():
        agent = Agent(model(MODEL, provider=OpenAIProvider(**SERVER)), output_type=form, tools=[get_weather])
        answers[f"{name}_{way}"] = agent.run_sync(QUESTION).output
        answers[f"{name}_{way}_stream"] = agent.run_stream_sync(QUESTION).get_output()
tell("pydantic-ai-slim", **answers)
