"""The process in which llama.cpp tries a file: ``python -m glmserve.convert.verify_child FILE [--no-extra-buffers]``.

It prints what it did as JSON, or one line on stderr that says what is wrong, and ends with 1.
"""

import ctypes
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import llama_cpp
import numpy as np

TEXTS = (
    "Hello, world! 12345",
    "你好，世界。今天天气很好，我们去公园散步吧。",
    "def add(a, b):\n    return a + b\n",
    "  spaces   and \t tabs 👋",
    "[Round 1]\n\n问：你好\n\n答：",
)
"""Texts that no tokenizer of these models normalises: several scripts, bytes without a piece, white space."""

DECODED_TOKENS = 16

_PREFIX = b" "
"""Tokens that some tokenizers put in front of a text."""


class TrialError(Exception):
    """The file does not work as a model; the message is one line with the reason."""


def main() -> None:
    """Try the file that the command line names."""
    try:
        answer = try_file(Path(sys.argv[1]), extra_buffers="--no-extra-buffers" not in sys.argv[2:])
    except TrialError as error:
        sys.exit(str(error))
    print(json.dumps(answer))


def try_file(path: Path, *, extra_buffers: bool = True) -> dict[str, int]:
    """Load a model, tokenise, compute; returns how many texts and tokens. Raises TrialError.

    Without ``extra_buffers``, weights are not repacked for the CPU.
    """
    log = llama_cpp.llama_log_callback(_only_errors)  # held here, or llama.cpp calls what is gone
    llama_cpp.llama_log_set(log, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    params = llama_cpp.llama_model_default_params()
    params.n_gpu_layers = 0
    params.use_extra_bufts = extra_buffers
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
    if not model:
        raise TrialError("llama.cpp does not load it")
    vocab = llama_cpp.llama_model_get_vocab(model)
    if _is_encoder(model):
        ids = list(range(llama_cpp.llama_vocab_n_tokens(vocab)))[-DECODED_TOKENS:]
        _encode(model, ids)
        llama_cpp.llama_model_free(model)
        return {"texts": 0, "tokens": len(ids)}
    ids = []
    for text in TEXTS:
        tokens = _tokens(vocab, text)
        back = b"".join(_piece(vocab, token) for token in tokens)
        if text.encode("utf-8") not in (back, back.removeprefix(_PREFIX)):
            raise TrialError(f"the text {text!r} comes back from the tokenizer as {back.decode('utf-8', 'replace')!r}")
        ids += tokens
    _decode(model, ids[:DECODED_TOKENS], llama_cpp.llama_vocab_n_tokens(vocab))
    llama_cpp.llama_model_free(model)
    return {"texts": len(TEXTS), "tokens": len(ids[:DECODED_TOKENS])}


def _is_encoder(model: llama_cpp.llama_model_p) -> bool:
    kind = ctypes.create_string_buffer(64)
    llama_cpp.llama_model_meta_val_str(model, b"general.architecture", kind, len(kind))
    return kind.value == b"bert"


def _encode(model: llama_cpp.llama_model_p, ids: Sequence[int]) -> None:
    """Make a vector or a score of tokens; its text became tokens in the server, without llama.cpp."""
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = max(32, len(ids))
    params.embeddings = True
    context = llama_cpp.llama_init_from_model(model, params)
    if not context:
        raise TrialError("llama.cpp makes no context for it")
    tokens = (llama_cpp.llama_token * len(ids))(*ids)
    if llama_cpp.llama_encode(context, llama_cpp.llama_batch_get_one(tokens, len(ids))) != 0:
        raise TrialError("llama.cpp does not compute with it")
    pooled = llama_cpp.llama_get_embeddings_seq(context, 0)
    if not pooled or not np.isfinite(pooled[0]):
        raise TrialError("the vector or score that it computes is not finite")
    llama_cpp.llama_free(context)


def _only_errors(level: int, text: bytes, _user_data: object) -> None:
    if level == 4:  # GGML_LOG_LEVEL_ERROR
        sys.stderr.write(text.decode("utf-8", "replace"))


def _tokens(vocab: llama_cpp.llama_vocab_p, text: str) -> list[int]:
    data = text.encode("utf-8")
    ids = (llama_cpp.llama_token * (len(data) + 8))()
    count = llama_cpp.llama_tokenize(vocab, data, len(data), ids, len(ids), False, False)
    if count <= 0:
        raise TrialError(f"the text {text!r} gives no tokens")
    return list(ids[:count])


def _piece(vocab: llama_cpp.llama_vocab_p, token: int) -> bytes:
    buffer = ctypes.create_string_buffer(512)
    length = llama_cpp.llama_token_to_piece(vocab, token, buffer, len(buffer), 0, False)
    return buffer.raw[: max(length, 0)]


def _decode(model: llama_cpp.llama_model_p, ids: Sequence[int], vocabulary: int) -> None:
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = params.n_batch = max(32, len(ids))
    context = llama_cpp.llama_init_from_model(model, params)
    if not context:
        raise TrialError("llama.cpp makes no context for it")
    tokens = (llama_cpp.llama_token * len(ids))(*ids)
    if llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(tokens, len(ids))) != 0:
        raise TrialError("llama.cpp does not compute with it")
    logits = np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context, -1), shape=(vocabulary,))
    if not np.isfinite(logits).all():
        raise TrialError("the logits that it computes are not finite")
    if float(np.ptp(logits)) == 0.0:
        raise TrialError("the logits that it computes are all the same")
    llama_cpp.llama_free(context)


if __name__ == "__main__":
    main()
