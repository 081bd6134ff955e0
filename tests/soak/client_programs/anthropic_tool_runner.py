"""anthropic: the tool runner with a format, at once and streamed."""

from anthropic import Anthropic, beta_tool
from weather import ADDRESS, MODEL, USER, Weather, get_weather, tell

client = Anthropic(base_url=ADDRESS, api_key="none")


def run(*, stream: bool = False) -> object:
    runner = client.beta.messages.tool_runner(
        model=MODEL,
        max_tokens=400,
        messages=[USER],
        tools=[beta_tool(get_weather)],
        output_format=Weather,
        stream=stream,
    )
    return runner.until_done().parsed_output


tell("anthropic", messages=run(), stream=run(stream=True))
