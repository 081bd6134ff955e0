"""The vocabulary of a GGUF, without its weights."""

import os
from pathlib import Path

import llama_cpp

from server.engine.errors import ModelLoadError
from server.engine.gguf.gguf_check import check_gguf


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


def stop_ids(vocab: llama_cpp.llama_vocab_p) -> frozenset[int]:
    """Return the tokens that end a generation."""
    ids = range(int(llama_cpp.llama_vocab_n_tokens(vocab)))
    return frozenset(i for i in ids if llama_cpp.llama_vocab_is_eog(vocab, i))
