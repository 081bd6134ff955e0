"""Records what transformers computes for small ChatGLM2 checkpoints, for tests that have no torch.

Run from the root of the project with the ``train`` extra installed::

    python -m tests.reference.record_logits                     # the random checkpoints
    python -m tests.reference.record_logits models/tiny         # a checkpoint folder

The reference of ChatGLM2 is ``GlmForCausalLM`` in float32: the same mathematics, written by others, with the fused
matrices split. Checkpoints in transformers' own layout are read by the class that their config.json names. Each
record holds the prompts, the logits at some positions of each, and what made them.
"""

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, GlmConfig, GlmForCausalLM, PreTrainedModel

from tests.reference.records import (
    CASES,
    GLM_CASES,
    GLM_LENGTHS,
    LENGTHS,
    NAMED,
    checkpoint_digest,
    make_prompt,
    positions_of,
    record_path,
)
from tests.support.chatglm2_checkpoint import fingerprint, make_config, make_weights
from tests.support.glm_checkpoint import make_glm_config, make_glm_weights

State = dict[str, torch.Tensor]


def main(arguments: list[str]) -> None:
    """Record the random checkpoints, or the folders that are named."""
    torch.set_num_threads(2)
    if not arguments:
        for case in CASES:
            weights = make_weights(case.shape, case.seed)
            state = {name: torch.from_numpy(value) for name, value in weights.items()}
            config = make_config(case.shape)
            _record(record_path(case.name), _reference(config, state), LENGTHS, fingerprint(weights), case.seed)
        for glm in GLM_CASES:
            weights = make_glm_weights(glm.shape, glm.seed)
            state = {name: torch.from_numpy(value) for name, value in weights.items()}
            model = _of_transformers(make_glm_config(glm.shape), state)
            _record(record_path(glm.name), model, GLM_LENGTHS, fingerprint(weights), glm.seed)
    for folder in map(Path, arguments):
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        state = {}
        for shard in sorted(folder.glob("*.safetensors")):
            state |= {name: tensor.float() for name, tensor in load_file(shard).items()}
        name = NAMED.get(folder.name, folder.name)
        _record(record_path(name), _reference(config, state), LENGTHS, checkpoint_digest(folder), 0)


def _record(path: Path, model: PreTrainedModel, lengths: tuple[int, ...], digest: str, seed: int) -> None:
    arrays: dict[str, NDArray[np.generic]] = {}
    for length in lengths:
        prompt = make_prompt(model.config.vocab_size, length)
        with torch.no_grad():
            logits = model(torch.tensor([prompt])).logits[0].numpy()
        arrays[f"prompt_{length}"] = np.asarray(prompt, dtype=np.int32)
        arrays[f"logits_{length}"] = logits[positions_of(length)].astype(np.float32)
    note = {
        "seed": seed,
        "weights": digest,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "numpy": np.__version__,
    }
    save: Callable[..., None] = np.savez_compressed  # its own type takes each array for its setting ``allow_pickle``
    save(path, note=json.dumps(note), **arrays)
    print(path, path.stat().st_size, "bytes,", hashlib.sha256(path.read_bytes()).hexdigest()[:12])


def _reference(config: dict[str, Any], state: State) -> GlmForCausalLM:
    rope = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
    if config.get("rope_ratio", 1) != 1:
        rope |= {"rope_type": "linear", "factor": float(config["rope_ratio"])}
    model = GlmForCausalLM(
        GlmConfig(
            vocab_size=config["padded_vocab_size"],
            hidden_size=config["hidden_size"],
            intermediate_size=config["ffn_hidden_size"],
            num_hidden_layers=config["num_layers"],
            num_attention_heads=config["num_attention_heads"],
            num_key_value_heads=config["multi_query_group_num"],
            head_dim=config["kv_channels"],
            rms_norm_eps=config["layernorm_epsilon"],
            max_position_embeddings=config["seq_length"],
            attention_bias=True,
            tie_word_embeddings=False,
            rope_parameters=rope,
            pad_token_id=0,
            eos_token_id=2,
            attn_implementation="eager",
        )
    )
    model.load_state_dict(_split(config, state), strict=True)
    return model.float().eval()


def _of_transformers(config: dict[str, Any], state: State) -> PreTrainedModel:
    kind = type(AutoConfig.for_model(config["model_type"]))
    # config.json says bfloat16, which would round all weights.
    exact = {"attn_implementation": "eager", "dtype": torch.float32}
    model = AutoModelForCausalLM.from_config(kind.from_dict(config), **exact)
    missing, unexpected = model.load_state_dict(state, strict=False)
    tied = {"lm_head.weight"} if config["tie_word_embeddings"] else set()
    if set(missing) - tied or unexpected:
        raise SystemExit(f"other tensors than transformers has: {missing}, {unexpected}")
    return model.float().eval()


def _split(config: dict[str, Any], state: State) -> State:
    """ChatGLM2's tensors under transformers' names, query, key and value apart."""
    queries = int(config["num_attention_heads"]) * int(config["kv_channels"])
    groups = int(config["multi_query_group_num"]) * int(config["kv_channels"])
    out = {
        "model.embed_tokens.weight": state["transformer.embedding.word_embeddings.weight"],
        "model.norm.weight": state["transformer.encoder.final_layernorm.weight"],
        "lm_head.weight": state["transformer.output_layer.weight"],
    }
    for i in range(int(config["num_layers"])):
        old, new = f"transformer.encoder.layers.{i}.", f"model.layers.{i}."
        for kind in ("weight", "bias"):
            fused = state[f"{old}self_attention.query_key_value.{kind}"]
            for part, rows in zip("qkv", fused.split([queries, groups, groups]), strict=True):
                out[f"{new}self_attn.{part}_proj.{kind}"] = rows
        out |= {
            f"{new}input_layernorm.weight": state[f"{old}input_layernorm.weight"],
            f"{new}self_attn.o_proj.weight": state[f"{old}self_attention.dense.weight"],
            f"{new}post_attention_layernorm.weight": state[f"{old}post_attention_layernorm.weight"],
            f"{new}mlp.gate_up_proj.weight": state[f"{old}mlp.dense_h_to_4h.weight"],
            f"{new}mlp.down_proj.weight": state[f"{old}mlp.dense_4h_to_h.weight"],
        }
    return out


if __name__ == "__main__":
    main(sys.argv[1:])
