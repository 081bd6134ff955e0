"""The engine's own runner, looked at from outside: exact caches, and logits."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from glmserve.engine.llama.runner import LlamaModelRunner


@contextmanager
def exact_cache() -> Iterator[None]:
    """Contexts that are opened meanwhile keep keys and values in float32, so that nothing is lost in them."""
    original = llama_cpp.llama_context_default_params

    def exact() -> llama_cpp.llama_context_params:
        params = original()
        params.type_k = params.type_v = llama_cpp.GGML_TYPE_F32
        params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        return params

    with patch.object(llama_cpp, "llama_context_default_params", exact):
        yield


def last_logits(runner: LlamaModelRunner) -> NDArray[np.float32]:
    """The logits of the last token of the last batch."""
    values = llama_cpp.llama_get_logits_ith(runner._context, -1)
    logits: NDArray[np.float32] = np.ctypeslib.as_array(values, shape=(runner.info.vocab_size,)).copy()
    return logits
