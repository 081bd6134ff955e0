"""GLM-4 in transformers' own layout: the numbers of its classes, the ids of its tokenizer, its prompt and its ends."""

import json
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
import tiktoken
from gguf import GGUFReader
from numpy.typing import NDArray

from glmserve.convert.errors import (
    ConvertError,
    CorruptFileError,
    MissingFileError,
    UnsupportedModelError,
    VocabularyError,
)
from glmserve.convert.pipeline import convert_checkpoint
from glmserve.convert.quantize.recipes import QuantType
from glmserve.convert.vocab.glm4 import GLM4_SPECIALS
from tests.conftest import running_server
from tests.integration.test_convert_tokenizer import EDGES, mixed_strings
from tests.reference.records import GLM_CASES, GLM_LENGTHS, GlmCase, positions_of, read_record
from tests.support.byte_pairs import GLM4_TEXT, GLM4_WORDS, byte_pairs, tokenizer_json
from tests.support.chatglm2_checkpoint import Weights, fingerprint
from tests.support.glm_checkpoint import GLM4, GlmShape, make_glm_config, make_glm_weights, write_glm_checkpoint
from tests.support.native import Tokenizer, loaded, logits_of

TOLERANCE = 1e-3
SMALLEST = replace(GLM4, hidden=128, heads=1, groups=1, layers=1, ffn=32, vocab=480)
RANKS = byte_pairs(440)
FIRST = len(RANKS)
HUGGING_FACE = Path(__file__).parents[2] / ".venv-clients" / "openai2" / "bin" / "python"
"""The client libraries bring Hugging Face's tokenizers along."""

Change = Callable[[str, NDArray[np.float32]], NDArray[np.float32]]
Document = dict[str, object]


def write(
    folder: Path, shape: GlmShape = SMALLEST, document: Document | None = None, config: Document | None = None
) -> Path:
    text = json.dumps(tokenizer_json(RANKS) if document is None else document, ensure_ascii=False)
    write_glm_checkpoint(folder, shape, make_glm_weights(shape, 1), text, dtype="F16")
    (folder / "config.json").write_text(json.dumps(make_glm_config(shape) | (config or {})))
    return folder


def converted(folder: Path) -> Path:
    convert_checkpoint(folder, folder / "m.gguf", QuantType.F16, force=True)
    return folder / "m.gguf"


def key(path: Path, name: str) -> object:
    field = GGUFReader(path).fields.get(name)
    return field.contents() if field else None


def largest_difference(folder: Path, name: str, lengths: Sequence[int]) -> float:
    convert_checkpoint(folder, folder / "m.gguf", QuantType.F32)
    record = read_record(name)
    computed = logits_of(folder / "m.gguf", [record.prompts[n] for n in lengths])
    pairs = zip(lengths, computed, strict=True)
    return max(float(np.abs(logits[positions_of(n)] - record.logits[n]).max()) for n, logits in pairs)


@pytest.mark.parametrize("lengths", [GLM_LENGTHS[:2], pytest.param(GLM_LENGTHS[2:], marks=pytest.mark.slow)], ids=str)
@pytest.mark.parametrize("case", GLM_CASES, ids=lambda case: case.name)
def test_logits_equal_those_of_transformers(case: GlmCase, lengths: Sequence[int], tmp_path: Path) -> None:
    weights = make_glm_weights(case.shape, case.seed)
    assert fingerprint(weights) == read_record(case.name).weights, "numpy made other weights: record them again"
    text = json.dumps(tokenizer_json(RANKS))
    difference = largest_difference(write_glm_checkpoint(tmp_path, case.shape, weights, text), case.name, lengths)
    print(case.name, difference)
    assert difference <= TOLERANCE


def halves_instead_of_neighbours(name: str, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
    if "q_proj" not in name and "k_proj" not in name:
        return tensor
    heads = tensor.copy().reshape(-1, 128, tensor.shape[1])
    heads[:, :64] = np.concatenate([heads[:, 0:64:2], heads[:, 1:64:2]], axis=1)
    paired: NDArray[np.float32] = heads.reshape(tensor.shape)
    return paired


def gate_behind_up(name: str, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.roll(tensor, len(tensor) // 2, axis=0) if "gate_up_proj" in name else tensor


@pytest.mark.parametrize("change", [halves_instead_of_neighbours, gate_behind_up])
def test_a_wrong_order_of_rows_would_be_seen(change: Change, tmp_path: Path) -> None:
    weights: Weights = {name: change(name, tensor) for name, tensor in make_glm_weights(GLM4, 1).items()}
    folder = write_glm_checkpoint(tmp_path, GLM4, weights, json.dumps(tokenizer_json(RANKS)))
    assert largest_difference(folder, "glm4", [200]) > 1000 * TOLERANCE


@pytest.mark.parametrize("swapped", ["input_layernorm", "post_attention_layernorm", "post_mlp_layernorm"])
def test_norms_that_change_places_would_be_seen(swapped: str, tmp_path: Path) -> None:
    weights, layer = make_glm_weights(GLM4, 1), "model.layers.1."
    one, other = f"{layer}{swapped}.weight", f"{layer}post_self_attn_layernorm.weight"
    weights[one], weights[other] = weights[other], weights[one]
    folder = write_glm_checkpoint(tmp_path, GLM4, weights, json.dumps(tokenizer_json(RANKS)))
    assert largest_difference(folder, "glm4", [200]) > 100 * TOLERANCE


@pytest.mark.parametrize("spelling", ["transformers 5", "linear"])
def test_positions_may_be_described_in_other_words(spelling: str, tmp_path: Path) -> None:
    """transformers 5 has one object for all of it."""
    rope: Document = {"rope_type": "default", "rope_theta": 20000.0, "partial_rotary_factor": 0.5}
    if spelling == "linear":
        rope |= {"rope_type": "linear", "factor": 8}
    path = converted(write(tmp_path, config={"rope_theta": 1.0, "rope_parameters": rope}))
    assert key(path, "glm4.rope.freq_base") == 20000.0
    assert key(path, "glm4.rope.dimension_count") == 64
    assert key(path, "glm4.rope.scaling.type") == ("linear" if spelling == "linear" else None)
    assert key(path, "glm4.rope.scaling.factor") == (8.0 if spelling == "linear" else None)


TEXTS = ["zqxjk zqxjk", "it's IT'S", *EDGES, *list(mixed_strings(12))[:1500], GLM4_TEXT]


@pytest.mark.parametrize("pairs", [True, False], ids=["pairs", "strings"])
@pytest.mark.parametrize("whole", [True, False], ids=["whole words", "merges alone"])
def test_ids_equal_those_of_hugging_faces_tokenizers(whole: bool, pairs: bool, tmp_path: Path) -> None:
    """With a token that no merges lead to, which is found only where words are taken whole."""
    ranks = RANKS | {b"zqxjk": FIRST}
    folder = write(tmp_path, document=tokenizer_json(ranks, whole=whole, pairs=pairs))
    script = (
        "import json, sys; from tokenizers import Tokenizer; t = Tokenizer.from_file(sys.argv[1]);"
        "print(json.dumps([t.encode(s, add_special_tokens=False).ids for s in json.load(sys.stdin)]))"
    )
    # Special tokens in a text stay text here, and become tokens there.
    plain = [text for text in TEXTS if not any(special in text for special in GLM4_SPECIALS)]
    command = [str(HUGGING_FACE), "-c", script, str(folder / "tokenizer.json")]
    result = subprocess.run(command, input=json.dumps(plain), capture_output=True, text=True, check=True)
    expected = json.loads(result.stdout)
    with loaded(converted(folder), vocab_only=True) as handle:
        tokenizer = Tokenizer(handle)
        assert [text for text, ids in zip(plain, expected, strict=True) if tokenizer.encode(text) != ids] == []
        assert (FIRST in tokenizer.encode("zqxjk")) is whole
        assert max(tokenizer.encode("<|user|>[gMASK]")) < FIRST


def test_ids_equal_tiktokens_as_the_same_vocabulary_in_its_own_file_gives_them(tmp_path: Path) -> None:
    reference = tiktoken.Encoding("test", pat_str=GLM4_WORDS, mergeable_ranks=RANKS, special_tokens={})
    with loaded(converted(write(tmp_path)), vocab_only=True) as handle:
        tokenizer = Tokenizer(handle)
        assert [s for s in TEXTS if tokenizer.encode(s) != reference.encode_ordinary(s)] == []


def test_an_answer_ends_where_the_generations_configuration_says_and_at_the_roles(tmp_path: Path) -> None:
    folder = write(tmp_path, config={"eos_token_id": [FIRST]})
    ends = {FIRST, FIRST + 7, FIRST + 9}
    assert _ends(folder) == ends
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [FIRST, FIRST + 5, FIRST + 11]}))
    assert _ends(folder) == ends | {FIRST + 5, FIRST + 11}
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": FIRST + 5}))
    assert _ends(folder) == ends | {FIRST + 5}
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [480]}))
    with pytest.raises(CorruptFileError, match="eos_token_id 480 is no token of the 480"):
        _ends(folder)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, 2, 3, 4]}))
    with pytest.raises(VocabularyError, match="7 tokens end an answer"):
        _ends(folder)


def _ends(folder: Path) -> set[int]:
    with loaded(converted(folder), vocab_only=True) as handle:
        return Tokenizer(handle).ends()


def test_the_folders_chat_template_goes_into_the_file(tmp_path: Path) -> None:
    folder = write(tmp_path)
    assert "[gMASK]<sop>" in str(key(converted(folder), "tokenizer.chat_template"))
    listed = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "[gMASK]<sop>{{ 1 }}"}]
    for template, expected in ((listed, "[gMASK]<sop>{{ 1 }}"), ("[gMASK]<sop>{{ 2 }}", "[gMASK]<sop>{{ 2 }}")):
        (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
        path = converted(folder)
        assert key(path, "tokenizer.chat_template") == expected
        assert key(path, "glmserve.prompt_format") == "glm4-0414"
    (folder / "chat_template.jinja").write_text("<|im_start|>{{ 3 }}")
    path = converted(folder)
    assert key(path, "tokenizer.chat_template") == "<|im_start|>{{ 3 }}"
    assert key(path, "glmserve.prompt_format") == "template", "no prompt of GLM-4"
    (folder / "chat_template.jinja").write_text("[gMASK]<sop>{{ 4 }}<think>")
    assert key(converted(folder), "glmserve.prompt_format") == "template", "it thinks"
    (folder / "chat_template.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(CorruptFileError, match=r"chat_template\.jinja"):
        converted(folder)


def test_an_ordinary_added_token_is_found_in_text_and_a_special_one_is_not(tmp_path: Path) -> None:
    document = tokenizer_json(RANKS)
    added = document["added_tokens"]
    assert isinstance(added, list)
    entry = added[0] | {"id": 470, "content": "<think>", "special": False}
    added.append(entry)
    with loaded(converted(write(tmp_path, document=document)), vocab_only=True) as handle:
        assert 470 in Tokenizer(handle).encode("a<think>b")
        assert FIRST + 7 not in Tokenizer(handle).encode("a<|user|>b")
    entry["lstrip"] = True
    with pytest.raises(VocabularyError, match="'<think>' with id 470 is found with lstrip"):
        converted(write(tmp_path, document=document))


def _model(**changes: object) -> Callable[[Document], Document]:
    def change(document: Document) -> Document:
        model = document["model"]
        assert isinstance(model, dict)
        return document | {"model": model | changes}

    return change


def _words(document: Document) -> Document:
    changed: Document = json.loads(json.dumps(document).replace("{1,3}", "{1,4}"))
    return changed


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (_words, VocabularyError, "other words"),
        (lambda d: d | {"pre_tokenizer": {"type": "ByteLevel"}}, VocabularyError, "other words"),
        (lambda d: d | {"normalizer": {"type": "NFC"}}, VocabularyError, "normalises text"),
        (_model(type="Unigram"), VocabularyError, "model is 'Unigram'"),
        (_model(byte_fallback=True), VocabularyError, "has byte_fallback"),
        (_model(vocab={"a": 1}), VocabularyError, "lacks 255 of the 256"),
        (_model(vocab=[]), CorruptFileError, "vocab is no object"),
        (_model(merges=[["a"]]), CorruptFileError, "is no pair of tokens"),
        (_model(merges=["a zz"]), CorruptFileError, "is no pair of tokens"),
        (_model(merges=[7]), CorruptFileError, "is no pair of tokens"),
        (lambda d: d | {"model": 1}, CorruptFileError, "model is no object"),
        (lambda d: d | {"added_tokens": [{"id": 7, "content": "x"}]}, VocabularyError, "takes the place"),
        (lambda d: d | {"added_tokens": [{"id": "7"}]}, CorruptFileError, "is no id with a content"),
        (lambda d: d | {"added_tokens": []}, VocabularyError, "it lacks <|endoftext|>"),
        (lambda d: d | {"added_tokens": [{"id": 480, "content": "x"}]}, VocabularyError, "its last token is 480"),
    ],
)
def test_a_tokenizer_that_llama_cpp_would_read_otherwise_is_refused(
    change: Callable[[Document], Document], error: type[ConvertError], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message) as caught:
        converted(write(tmp_path, document=change(tokenizer_json(RANKS))))
    assert "\n" not in str(caught.value)


def test_a_token_that_only_another_file_lists_would_be_lost(tmp_path: Path) -> None:
    folder = write(tmp_path)
    (folder / "added_tokens.json").write_text(json.dumps({"<|new|>": 470}))
    with pytest.raises(VocabularyError, match=r"'<\|new\|>' with id 470 .* would be lost"):
        converted(folder)


def test_without_a_vocabulary_its_file_is_asked_for(tmp_path: Path) -> None:
    folder = write(tmp_path)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(MissingFileError, match=r"tokenizer\.json is missing"):
        converted(folder)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"architectures": ["Glm4ForSequenceClassification"]}, "only Glm4ForCausalLM"),
        ({"quantization_config": {"quant_method": "gptq"}}, "packed"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"num_key_value_heads": 3}, "does not divide"),
        ({"partial_rotary_factor": 0.01}, "1 of 128 values"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "only linear and yarn"),
        ({"model_type": "glm", "architectures": ["GlmForCausalLM"], "hidden_size": 256}, "is not hidden_size"),
    ],
)
def test_what_llama_cpp_would_compute_differently_is_refused(config: Document, message: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=message) as caught:
        converted(write(tmp_path, config=config))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("model_type", ["qwen2", "qwen3", "llama", "mistral", "glm4_moe"])
def test_text_models_of_other_families_are_sent_to_their_gguf(model_type: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type, "architectures": ["XForCausalLM"]}))
    with pytest.raises(UnsupportedModelError, match=r"another family: get its GGUF .* glmserve serve FILE\.gguf"):
        converted(tmp_path)


WEATHER = {"type": "function", "function": {"name": "weather", "description": "天气", "parameters": {"type": "object"}}}


def test_a_folder_is_served_as_it_is_with_tools_system_text_and_the_roles_as_ends(tmp_path: Path) -> None:
    folder = write(tmp_path / "glm-4-9b-0414", shape=replace(SMALLEST, hidden=256, heads=2, ffn=64))
    messages = [{"role": "user", "content": "你好<|user|>"}, {"role": "system", "content": "Be brief."}]
    options = ("--device", "cpu", "--context", "512", "--quant", "q8_0", "--cache-dir", str(tmp_path / "cache"))
    with running_server(str(folder), *options, log=tmp_path / "log") as (url, _):
        told = httpx.post(f"{url}/tokenize", json={"messages": messages, "tools": [WEATHER]}).json()["tokens"]
        for name in ("<|endoftext|>", "<|user|>", "<|observation|>"):
            bias = {str(FIRST + GLM4_SPECIALS.index(name)): 100}
            body = {"messages": messages, "tools": [WEATHER], "logit_bias": bias, "max_tokens": 5}
            choice = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).json()["choices"][0]
            assert (choice["finish_reason"], choice["message"]["content"]) == ("stop", "")
    special = [GLM4_SPECIALS[i - FIRST] for i in told if i >= FIRST]
    assert special == ["[gMASK]", "<sop>", "<|system|>", "<|system|>", "<|user|>", "<|assistant|>"]
    reference = tiktoken.Encoding("test", pat_str=GLM4_WORDS, mergeable_ranks=RANKS, special_tokens={})
    text = reference.decode([i for i in told if i < FIRST])
    assert text.startswith("\n# 可用工具\n\n## weather\n\n{\n")
    assert text.endswith("请使用 Json 格式表示调用的参数。\nBe brief.\n你好<|user|>")


Z1_TEMPLATE = """[gMASK]<sop>
{%- for one in messages if one.role == 'system' %}<|system|>
{{ one.content }}{% endfor -%}
{%- for one in messages if one.role != 'system' -%}
<|{{ 'observation' if one.role == 'tool' else one.role }}|>
{{ one.content.split('</think>')[-1].strip() }}
{%- endfor -%}
{%- if add_generation_prompt %}<|assistant|>
<think>{% endif -%}"""
"""As GLM-Z1 has one: earlier thoughts are left out, and the answer begins with thinking."""


def test_a_model_that_thinks_is_prompted_by_its_own_template(tmp_path: Path) -> None:
    folder = write(tmp_path / "glm-z1", shape=replace(SMALLEST, hidden=256, heads=2, ffn=64))
    (folder / "chat_template.jinja").write_text(Z1_TEMPLATE)
    messages = [("user", "你好"), ("assistant", "<think>\nx</think>\n好"), ("user", "<|user|>?"), ("system", "s")]
    body = {"messages": [{"role": role, "content": content} for role, content in messages]}
    options = ("--device", "cpu", "--context", "512", "--quant", "q8_0", "--cache-dir", str(tmp_path / "cache"))
    with running_server(str(folder), *options, log=tmp_path / "log") as (url, _):
        told = httpx.post(f"{url}/tokenize", json=body).json()["tokens"]
        bias = {str(FIRST + GLM4_SPECIALS.index("<|observation|>")): 100}
        reply = httpx.post(f"{url}/v1/chat/completions", json={**body, "logit_bias": bias}, timeout=60).json()
    assert reply["choices"][0]["finish_reason"] == "stop"
    special = {token: f"[{GLM4_SPECIALS[token - FIRST]}]".encode() for token in told if token >= FIRST}
    spelled = {rank: token for token, rank in RANKS.items()} | special
    text = b"".join(spelled[token] for token in told).decode()
    assert text == (
        "[[gMASK]][<sop>][<|system|>]\ns[<|user|>]\n你好[<|assistant|>]\n好[<|user|>]\n<|user|>?[<|assistant|>]\n<think>"
    )
