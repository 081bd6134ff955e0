"""How well a model predicts a paragraph: the perplexity of two short texts, in Chinese and English."""

import ctypes
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import llama_cpp
import numpy as np

from glmserve.engine.errors import ModelLoadError
from glmserve.engine.gguf.soundness import ParagraphScore
from glmserve.engine.llama.cpu_topology import find_cores
from glmserve.engine.llama.model_loading import route_log

PARAGRAPHS = (
    (
        "Chinese",
        "昨天下午下了一场大雨，街上的行人都跑到商店里躲雨。雨停以后，天空中出现了一道彩虹，孩子们高兴地跑出来，"
        "在水坑边上跳来跳去。老人说，这样的天气对庄稼很好，今年的收成应该不错。到了晚上，空气变得很凉快，"
        "大家坐在院子里喝茶聊天，一直谈到很晚才回家睡觉。",
    ),
    (
        "English",
        "It rained heavily yesterday afternoon, and the people in the street ran into the shops to stay dry. When the "
        "rain had stopped, a rainbow appeared in the sky, and the children came out and jumped over the puddles. The "
        "old farmer said that the weather was good for the fields and that this year's harvest would be a good one. In "
        "the evening the air was cool, and everybody sat outside, drank tea and talked until it was time to go to bed.",
    ),
)
_FIRST_SCORED = 8
"""Tokens of a paragraph that are too early to be foreseen."""


def score_paragraphs(
    path: Path, encode: Callable[[str], Sequence[int]], prefix: Sequence[int]
) -> tuple[ParagraphScore, ...]:
    """Load a model and return the perplexity of each paragraph; a bad file may end the process.

    Args:
        path: the GGUF.
        encode: its tokenizer.
        prefix: special tokens in front of any text.

    Raises:
        ModelLoadError: llama.cpp does not load or compute it.
    """
    route_log()
    params = llama_cpp.llama_model_default_params()
    params.n_gpu_layers = 0
    params.use_extra_bufts = False  # the file is judged, not the kernels of this CPU for repacked weights
    model = llama_cpp.llama_model_load_from_file(os.fsencode(path), params)
    if not model:
        raise ModelLoadError("llama.cpp does not load the file")
    try:
        return tuple(
            ParagraphScore(language, _perplexity(model, [*prefix, *encode(text)], len(prefix)))
            for language, text in PARAGRAPHS
        )
    finally:
        llama_cpp.llama_model_free(model)


def _perplexity(model: llama_cpp.llama_model_p, ids: Sequence[int], before: int) -> float:
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = len(ids) + 8
    params.n_threads = params.n_threads_batch = find_cores().logical
    context = llama_cpp.llama_init_from_model(model, params)
    if not context:
        raise ModelLoadError("llama.cpp makes no context for the model")
    batch = llama_cpp.llama_batch_init(len(ids), 0, 1)
    try:
        batch.n_tokens = len(ids)
        for at, token in enumerate(ids):
            batch.token[at], batch.pos[at], batch.n_seq_id[at] = token, at, 1
            batch.seq_id[at][0], batch.logits[at] = 0, True
        if llama_cpp.llama_decode(context, batch) != 0:
            raise ModelLoadError("llama.cpp does not compute with the model")
        return _score(context, model, ids, before + _FIRST_SCORED)
    finally:
        llama_cpp.llama_batch_free(batch)
        llama_cpp.llama_free(context)


def _score(context: llama_cpp.llama_context_p, model: llama_cpp.llama_model_p, ids: Sequence[int], start: int) -> float:
    size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    lost = 0.0
    for at in range(start, len(ids)):
        pointer = llama_cpp.llama_get_logits_ith(context, ctypes.c_int32(at - 1))
        row = np.ctypeslib.as_array(pointer, shape=(size,)).astype(np.float64)
        top = row.max()
        lost += top + float(np.log(np.exp(row - top).sum())) - row[ids[at]]
    with np.errstate(over="ignore"):
        return float(np.exp(lost / max(1, len(ids) - start)))
