"""LangChain: an agent with a tool and a structured answer, by the provider's strategy and the tool strategy."""

from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_openai import ChatOpenAI
from weather import MODEL, SERVER, USER, Weather, get_weather, tell


def ask(form: object, **options: object) -> object:
    model = ChatOpenAI(model=MODEL, **SERVER, **options)
    agent = create_agent(model, tools=[get_weather], response_format=form)
    return agent.invoke({"messages": [USER]})["structured_response"]


RESPONSES = {"use_responses_api": True}
tell(
    "langchain",
    provider_strategy=ask(ProviderStrategy(Weather)),
    provider_strategy_strict=ask(ProviderStrategy(Weather, strict=True)),
    provider_strategy_responses=ask(ProviderStrategy(Weather), **RESPONSES),
    tool_strategy=ask(ToolStrategy(Weather)),
    tool_strategy_responses=ask(ToolStrategy(Weather), **RESPONSES),
)
