"""The embedded model in a larger network."""

from pathlib import Path

import numpy as np

from bench.synthetic.make_widened import TINY, make_widened
from bench.synthetic.widened import Shape
from glmserve.chat.prompts.formats import chatglm2_text
from glmserve.chat.tokenizer.llama_tokenizer import load_tokenizer
from glmserve.convert.pipeline import convert_checkpoint
from glmserve.convert.quantize.recipes import QuantType
from tests.support.native import compute_logits, loaded

# Two and a half times the feed-forward width, heads that share a group with others, and two layers that are passed.
LARGER = Shape(1024, 5, 8, 416, 1700, 4096)


def test_a_model_in_a_larger_network_predicts_what_it_predicts_alone(tmp_path: Path) -> None:
    small, large = tmp_path / "small.gguf", tmp_path / "large.gguf"
    convert_checkpoint(TINY, small, QuantType.F32)
    make_widened(TINY, LARGER, large, QuantType.F32)
    tokenizer = load_tokenizer(small)
    ids = (
        tokenizer.special_id("[gMASK]"),
        tokenizer.special_id("sop"),
        *tokenizer.encode(chatglm2_text((), "请重复：明天下雨")),
    )
    tokenizer.close()
    with loaded(small) as model:
        expected = compute_logits(model, ids, threads=1)
    with loaded(large) as model:
        found = compute_logits(model, ids, threads=1)
    np.testing.assert_allclose(found[:, : expected.shape[1]], expected, atol=2e-3)
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).all()
