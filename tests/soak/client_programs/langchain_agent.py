"""LangChain: an agent with a tool and a structured answer, by the provider's strategy and the tool strategy."""

from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_openai import ChatOpenAI
from weather import MODEL, SERVER, USER, Weather, get_weather, tell


def ask(form: object, *, use_responses_api: bool | None = None) -> object:
    model = ChatOpenAI(model=MODEL, use_responses_api=use_responses_api, **SERVER)
    agent = create_agent(model, tools=[get_weather], response_format=form)
    return agent.invoke({"messages": [USER]})["structured_response"]


tell(
    "langchain",
    provider_strategy=ask(ProviderStrategy(Weather)),
    provider_strategy_strict=ask(ProviderStrategy(Weather, strict=True)),
    provider_strategy_responses=ask(ProviderStrategy(Weather), use_responses_api=True),
    tool_strategy=ask(ToolStrategy(Weather)),
    tool_strategy_responses=ask(ToolStrategy(Weather), use_responses_api=True),
)
