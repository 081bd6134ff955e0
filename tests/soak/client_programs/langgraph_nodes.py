"""LangGraph: a node that calls tools and one that runs them; two models in a row; a system message alone."""

from langchain_core.messages import SystemMessage
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from weather import MODEL, SERVER, USER, get_weather, tell

model = ChatOpenAI(model=MODEL, **SERVER)
with_tools = model.bind_tools([get_weather])


def speak(state: MessagesState) -> dict[str, object]:
    return {"messages": [model.invoke(state["messages"])]}


def decide(state: MessagesState) -> dict[str, object]:
    return {"messages": [with_tools.invoke(state["messages"])]}


row = StateGraph(MessagesState)
row.add_node("first", speak)
row.add_node("second", speak)
row.add_edge(START, "first")
row.add_edge("first", "second")
row.add_edge("second", END)
messages = row.compile().invoke({"messages": [USER]})["messages"]

agent = StateGraph(MessagesState)
agent.add_node("model", decide)
agent.add_node("tools", ToolNode([get_weather]))
agent.add_edge(START, "model")
agent.add_conditional_edges("model", tools_condition)
agent.add_edge("tools", "model")
graph = agent.compile()
*_, streamed = graph.stream({"messages": [USER]}, stream_mode="values")

tell(
    "langgraph",
    agent=graph.invoke({"messages": [USER]})["messages"][-1].content,
    agent_stream=streamed["messages"][-1].content,
    first=messages[1].content,
    second=messages[2].content,
    system_alone=model.invoke([SystemMessage("简短地回答。")]).content,
)
