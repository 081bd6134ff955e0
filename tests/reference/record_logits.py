"""Records what transformers computes for small ChatGLM2 checkpoints, for tests that have no torch.

Run from the root of the project with the ``train`` extra installed::

    python -m tests.reference.record_logits                     # the random checkpoints
    python -m tests.reference.record_logits models/tiny         # a checkpoint folder

The reference is ``GlmForCausalLM`` in float32: the same mathematics as ChatGLM2, written by others, with the
fused matrices split. Each record holds the prompts, the logits at some positions of each, and what made them.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from safetensors.torch import load_file
from transformers import GlmConfig, GlmForCausalLM

from tests.reference.records import CASES, LENGTHS, NAMED, checkpoint_digest, make_prompt, positions_of, record_path
from tests.support.chatglm2_checkpoint import fingerprint, make_config, make_weights

State = dict[str, torch.Tensor]


def main(arguments: list[str]) -> None:
    """Record the random checkpoints, or the folders that are named."""
    torch.set_num_threads(2)
    if not arguments:
        for case in CASES:
            weights = make_weights(case.shape, case.seed)
            state = {name: torch.from_numpy(value) for name, value in weights.items()}
            _record(record_path(case.name), make_config(case.shape), state, fingerprint(weights), case.seed)
    for folder in map(Path, arguments):
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        state = {}
        for shard in sorted(folder.glob("*.safetensors")):
            state |= {name: tensor.float() for name, tensor in load_file(shard).items()}
        _record(record_path(NAMED.get(folder.name, folder.name)), config, state, checkpoint_digest(folder), 0)


def _record(path: Path, config: dict[str, object], state: State, digest: str, seed: int) -> None:
    model = _reference(config, state)
    arrays: dict[str, NDArray[np.generic]] = {}
    for length in LENGTHS:
        prompt = make_prompt(int(config["padded_vocab_size"]), length)
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
    np.savez_compressed(path, note=json.dumps(note), **arrays)
    print(path, path.stat().st_size, "bytes,", hashlib.sha256(path.read_bytes()).hexdigest()[:12])


def _reference(config: dict[str, object], state: State) -> GlmForCausalLM:
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


def _split(config: dict[str, object], state: State) -> State:
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
