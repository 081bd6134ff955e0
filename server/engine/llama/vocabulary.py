"""The vocabulary of a GGUF, without its weights."""

import os
import random
from collections.abc import Collection
from pathlib import Path

import llama_cpp

from glmserve.engine.errors import ModelLoadError
from glmserve.engine.gguf.gguf_check import check_gguf


def load_vocabulary(path: Path) -> tuple[llama_cpp.llama_model_p, llama_cpp.llama_vocab_p]:
    """Check the file and load its vocabulary; the caller frees the model. Raises ModelLoadError."""
    check_gguf(path)
    params = llama_cpp.llama_model_default_params()
    params.vocab_only = True
    params.n_gpu_layers = 0
    model = llama_cpp.llama_model_load_from_file(os.fsencode(path), params)
    if not model:
        raise ModelLoadError(f"{path.name}: the vocabulary could not be loaded")
    return model, llama_cpp.llama_model_get_vocab(model)


def stop_ids(vocab: llama_cpp.llama_vocab_p, names: Collection[str] = ()) -> frozenset[int]:
    """Return the tokens that end a generation: the file's own, and the control tokens called ``names``.

    An ordinary token of such a name is text, and ends nothing.
    """
    ids = range(int(llama_cpp.llama_vocab_n_tokens(vocab)))
    wanted = {name.encode() for name in names}
    return frozenset(i for i in ids if llama_cpp.llama_vocab_is_eog(vocab, i) or _is_control_named(vocab, i, wanted))


def _is_control_named(vocab: llama_cpp.llama_vocab_p, token_id: int, names: Collection[bytes]) -> bool:
    if not names or not llama_cpp.llama_vocab_is_control(vocab, token_id):
        return False
    return llama_cpp.llama_vocab_get_text(vocab, token_id) in names


def ordinary_tokens(vocab: llama_cpp.llama_vocab_p, count: int) -> tuple[int, ...]:
    """Return ``count`` tokens of text, as far as there are any: always the same ones of a vocabulary."""
    size = int(llama_cpp.llama_vocab_n_tokens(vocab))
    some = random.Random(count).choices(range(size), k=20 * count)
    normal = [i for i in some if llama_cpp.llama_vocab_get_attr(vocab, i) & llama_cpp.LLAMA_TOKEN_ATTR_NORMAL]
    return tuple((normal + some)[:count])
