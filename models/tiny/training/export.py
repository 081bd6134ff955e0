"""The checkpoint in the layout of the ``THUDM/chatglm2-6b`` repository, and reading it back."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from glmserve.models.tiny.training.network import HEAD_SIZE, Shape, TinyGlm

NAME = "glmserve/chatglm2-tiny"
INDEX = "model.safetensors.index.json"
SHARDS = 2


def save_checkpoint(state: dict[str, Tensor], shape: Shape, folder: Path) -> None:
    """Write config, tokenizer config, shards and index; ``tokenizer.model`` is written by its training."""
    _write_json(folder / "config.json", _config(shape))
    _write_json(folder / "tokenizer_config.json", _tokenizer_config())
    tensors = {name: tensor.detach().to(torch.float16).contiguous() for name, tensor in state.items()}
    size = sum(tensor.nbytes for tensor in tensors.values())
    shards: list[dict[str, Tensor]] = [{} for _ in range(SHARDS)]
    written = 0
    for name, tensor in tensors.items():
        shards[min(written * SHARDS // size, SHARDS - 1)][name] = tensor
        written += tensor.nbytes
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05}-of-{SHARDS:05}.safetensors"
        save_file(shard, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(shard, file)
    _write_json(folder / INDEX, {"metadata": {"total_size": size}, "weight_map": dict(sorted(weight_map.items()))})


def load_checkpoint(folder: Path) -> TinyGlm:
    """Read the checkpoint of ``folder``: its float16 weights, computed with in float32."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    shape = Shape(
        hidden=config["hidden_size"],
        heads=config["num_attention_heads"],
        groups=config["multi_query_group_num"],
        layers=config["num_layers"],
        ffn=config["ffn_hidden_size"],
        vocab=config["padded_vocab_size"],
        context=config["seq_length"],
        epsilon=config["layernorm_epsilon"],
    )
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    state: dict[str, Tensor] = {}
    for file in sorted(set(index["weight_map"].values())):
        state |= load_file(folder / file)
    network = TinyGlm(shape)
    network.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    return network.eval()


def _config(shape: Shape) -> dict[str, object]:
    return {
        "_name_or_path": NAME,
        "model_type": "chatglm",
        "architectures": ["ChatGLMModel"],
        "auto_map": {
            "AutoConfig": "configuration_chatglm.ChatGLMConfig",
            "AutoModel": "modeling_chatglm.ChatGLMForConditionalGeneration",
            "AutoModelForCausalLM": "modeling_chatglm.ChatGLMForConditionalGeneration",
            "AutoModelForSeq2SeqLM": "modeling_chatglm.ChatGLMForConditionalGeneration",
            "AutoModelForSequenceClassification": "modeling_chatglm.ChatGLMForSequenceClassification",
        },
        "add_bias_linear": False,
        "add_qkv_bias": True,
        "apply_query_key_layer_scaling": True,
        "apply_residual_connection_post_layernorm": False,
        "attention_dropout": 0.0,
        "attention_softmax_in_fp32": True,
        "bias_dropout_fusion": True,
        "ffn_hidden_size": shape.ffn,
        "fp32_residual_connection": False,
        "hidden_dropout": 0.0,
        "hidden_size": shape.hidden,
        "kv_channels": HEAD_SIZE,
        "layernorm_epsilon": shape.epsilon,
        "multi_query_attention": True,
        "multi_query_group_num": shape.groups,
        "num_attention_heads": shape.heads,
        "num_layers": shape.layers,
        "original_rope": True,
        "padded_vocab_size": shape.vocab,
        "post_layer_norm": True,
        "rmsnorm": True,
        "seq_length": shape.context,
        "use_cache": True,
        "torch_dtype": "float16",
        "transformers_version": "4.27.1",
        "tie_word_embeddings": False,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }


def _tokenizer_config() -> dict[str, object]:
    return {
        "name_or_path": NAME,
        "remove_space": False,
        "do_lower_case": False,
        "tokenizer_class": "ChatGLMTokenizer",
        "auto_map": {"AutoTokenizer": ["tokenization_chatglm.ChatGLMTokenizer", None]},
    }


def _write_json(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
