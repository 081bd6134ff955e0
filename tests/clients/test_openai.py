"""The official client, in its blocking form."""

from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "你好"}]


def test_the_first_model_listed_answers(server_url: str) -> None:
    client = OpenAI(base_url=f"{server_url}/v1", api_key="none")
    model = client.models.list().data[0].id
    reply = client.chat.completions.create(model=model, messages=HELLO, temperature=0, max_tokens=40)
    assert reply.choices[0].message.content
    assert reply.usage is not None
    assert reply.usage.prompt_tokens > 0
    assert 0 < reply.usage.completion_tokens <= 40


def test_a_stream_says_what_the_whole_answer_says(server_url: str) -> None:
    client = OpenAI(base_url=f"{server_url}/v1", api_key="none")
    model = client.models.list().data[0].id
    whole = client.chat.completions.create(model=model, messages=HELLO, temperature=0, max_tokens=40)
    stream = client.chat.completions.create(model=model, messages=HELLO, temperature=0, max_tokens=40, stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert text == whole.choices[0].message.content


def test_the_streaming_helper_gathers_the_same_message(server_url: str) -> None:
    client = OpenAI(base_url=f"{server_url}/v1", api_key="none")
    model = client.models.list().data[0].id
    with client.chat.completions.stream(model=model, messages=HELLO, temperature=0) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content
    assert final.choices[0].finish_reason == "stop"
