"""A LoRA of PEFT on GLM-4 in transformers' own layout, merged by ``glmserve convert``: the logits of PEFT's own model.

Minutes, and gigabytes of packages. SOAK_PYTHON names an interpreter that has the packages already.
"""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from glmserve.convert.pipeline import convert_checkpoint
from glmserve.convert.quantize.recipes import QuantType
from tests.support.byte_pairs import byte_pairs, tokenizer_json
from tests.support.glm_checkpoint import GLM, GLM4, GlmShape, make_glm_weights, write_glm_checkpoint
from tests.support.native import logits_of

TOLERANCE = 1e-3
PROMPT = [5, 99, 300, 17, 42, 8, 7, 111]
PROGRAM = """\
import json, sys
import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM
folder, adapter, out, options, prompt = *sys.argv[1:4], *map(json.loads, sys.argv[4:])
torch.manual_seed(1)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
with torch.no_grad():
    base = model(torch.tensor([prompt])).logits[0, -1].numpy()
tuned = get_peft_model(model, LoraConfig(r=4, lora_alpha=16, init_lora_weights=False, **options)).eval()
tuned.save_pretrained(adapter)
with torch.no_grad():
    found = tuned(torch.tensor([prompt])).logits[0, -1].numpy()
np.save(out, np.stack([base, found]))
"""
ATTENTION = {"target_modules": ["q_proj", "v_proj"]}
ALL = {"target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_up_proj", "down_proj"], "use_rslora": True}


@pytest.mark.parametrize("options", [ATTENTION, ALL], ids=["attention", "all, rslora"])
@pytest.mark.parametrize("shape", [GLM, GLM4], ids=["glm", "glm4"])
def test_a_merged_adapter_is_the_model_that_peft_trains(
    shape: GlmShape, options: dict[str, object], originals: Path, tmp_path: Path
) -> None:
    text = json.dumps(tokenizer_json(byte_pairs(440)), ensure_ascii=False)
    folder = write_glm_checkpoint(tmp_path / "model", shape, make_glm_weights(shape, 2), text)
    files = [str(folder), str(tmp_path / "adapter"), str(tmp_path / "out.npy")]
    given = [json.dumps(options), json.dumps(PROMPT)]
    subprocess.run([str(originals), "-c", PROGRAM, *files, *given], check=True, timeout=600)
    base, expected = np.load(tmp_path / "out.npy")
    convert_checkpoint(folder, tmp_path / "m.gguf", QuantType.F32, merge_lora=tmp_path / "adapter")
    (found,) = logits_of(tmp_path / "m.gguf", [PROMPT])
    difference = float(np.abs(found[-1] - expected).max())
    print(f"largest difference of a logit: {difference:.1e}; the adapter changes {np.abs(expected - base).max():.1f}")
    assert np.abs(expected - base).max() > 1000 * TOLERANCE
    assert difference < TOLERANCE
