"""A real embedding model beside the embedded one: what it computes, and how it is served."""

import base64
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from openai import BadRequestError, OpenAI

from glmserve.chat.tokenizer.llama_tokenizer import load_tokenizer
from glmserve.engine.errors import ModelLoadError
from glmserve.engine.gguf.gguf_check import check_gguf
from tests.conftest import running_server
from tests.support.bert import CLS, FIRST, SEP, UNKNOWN, VOCABULARY, RandomBert, random_bert

BERT = random_bert()
NOISE = 1e-5
"""Of a number in a vector of length 1."""


def ids(*pieces: str) -> tuple[int, ...]:
    return (CLS, *(VOCABULARY.index(piece) for piece in pieces), SEP)


CAT = ids("▁a", "▁cat", "s", "▁sat")


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return BERT.write(tmp_path_factory.mktemp("bert") / "bert.gguf")


@pytest.fixture(scope="module")
def url(bert: Path, tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("both")
    config = folder / "glmserve.toml"
    first = RandomBert(BERT.weights, FIRST).write(folder / "first.gguf")
    tables = "\n".join(f'[[models]]\nmodel = "{path}"' for path in (bert, tiny_gguf, first))
    config.write_text(tables)
    with running_server("--config", str(config), log=folder / "log") as (address, _):
        yield address


@pytest.fixture(scope="module")
def openai(url: str) -> OpenAI:
    return OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def test_words_become_pieces_between_the_tokens_of_the_file(bert: Path) -> None:
    tokenizer = load_tokenizer(bert)
    assert tokenizer.encode_framed("A cats  SAT") == CAT
    assert tokenizer.encode_framed("[CLS] 你好") == (CLS, UNKNOWN, UNKNOWN, UNKNOWN, *ids("▁你", "▁好")[1:])
    assert tokenizer.encode_framed("") == (CLS, SEP)


@pytest.mark.parametrize(("model", "pooling"), [("bert", 1), ("first", 2)])
def test_vectors_are_what_the_weights_say(openai: OpenAI, model: str, pooling: int) -> None:
    texts = ["a cats sat", "", "a mat", "你好 你好 你好", "a cats sat"]
    inputs = [CAT, ids(), ids("▁a", "▁mat"), ids(*["▁你", "▁好"] * 3), CAT]
    reply = openai.embeddings.create(model=model, input=texts)
    expected = [RandomBert(BERT.weights, pooling).embed(each) for each in inputs]
    np.testing.assert_allclose([item.embedding for item in reply.data], expected, atol=NOISE)
    assert reply.usage.prompt_tokens == sum(map(len, inputs))
    assert [item.index for item in reply.data] == list(range(5))


def test_token_ids_are_taken_as_they_are(openai: OpenAI) -> None:
    reply = openai.embeddings.create(model="bert", input=[CAT, CAT[1:-1]])
    np.testing.assert_allclose(
        [item.embedding for item in reply.data], list(map(BERT.embed, (CAT, CAT[1:-1]))), atol=NOISE
    )


def test_numbers_and_base64_are_the_same_vector(url: str) -> None:
    body = {"model": "bert", "input": "a cat"}
    numbers = httpx.post(f"{url}/v1/embeddings", json=body).json()["data"][0]["embedding"]
    packed = httpx.post(f"{url}/v1/embeddings", json={**body, "encoding_format": "base64"}).json()
    assert np.frombuffer(base64.b64decode(packed["data"][0]["embedding"]), "<f4").tolist() == [
        float(np.float32(number)) for number in numbers
    ]
    assert np.linalg.norm(numbers) == pytest.approx(1)


def test_fewer_dimensions_are_the_first_ones_at_length_one(openai: OpenAI) -> None:
    whole = np.array(openai.embeddings.create(model="bert", input="a cat").data[0].embedding)
    part = openai.embeddings.create(model="bert", input="a cat", dimensions=8).data[0].embedding
    np.testing.assert_allclose(part, whole[:8] / np.linalg.norm(whole[:8]), atol=1e-6)


def test_a_thousand_inputs_are_answered_in_their_order(openai: OpenAI) -> None:
    texts = ["a cat" if i % 3 else "a mat" for i in range(1000)]
    vectors = [item.embedding for item in openai.embeddings.create(model="bert", input=texts).data]
    for text, vector in zip(texts, vectors, strict=True):
        np.testing.assert_allclose(vector, vectors[texts.index(text)], atol=1e-5)
    assert not np.allclose(vectors[0], vectors[1], atol=0.01)


def test_an_input_past_the_context_is_refused_with_the_figures(openai: OpenAI) -> None:
    assert openai.embeddings.create(model="bert", input="a " * 46).usage.prompt_tokens == 48
    with pytest.raises(BadRequestError, match="input 1 has 49 tokens, and this model takes 48") as caught:
        openai.embeddings.create(model="bert", input=["a", "a " * 47])
    assert caught.value.code == "context_length_exceeded"


def test_requests_that_name_no_model_find_one_of_their_kind(url: str) -> None:
    assert httpx.post(f"{url}/v1/embeddings", json={"input": "a"}).json()["model"] == "bert"
    body = {"messages": [{"role": "user", "content": "你好"}], "max_tokens": 1}
    assert httpx.post(f"{url}/v1/chat/completions", json=body).json()["model"] == "chatglm2-tiny"


def test_a_file_that_does_not_say_how_to_pool_is_refused(tmp_path: Path) -> None:
    path = RandomBert(BERT.weights, 0).write(tmp_path / "bert.gguf")
    with pytest.raises(ModelLoadError, match=r"bert\.pooling_type does not say"):
        check_gguf(path)


def test_the_figures_are_there_though_an_embedding_model_has_no_cache(url: str) -> None:
    """The share of no cells that is in use was once divided by them."""
    figures = httpx.get(f"{url}/metrics")
    assert figures.status_code == 200
    assert 'kv_cache_usage_perc{model_name="bert"} 0.0' in figures.text
