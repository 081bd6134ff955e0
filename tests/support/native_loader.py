"""Loads model files as the server does, in a process that may die of it: one path a line in, one word a line out."""

import ctypes
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

_TEXTS = ("你好 <0x0A>\n", "hi [gMASK]<sop>", "\x00▁▁ 问：", "�" * 50)
_SECONDS = 20
_MEMORY = 4 << 30
_LOADED, _REFUSED = 10, 11


class NativeLoader:
    """The parent's side. Each file is loaded in a fork of its own, so that none suffers for an earlier one."""

    def __init__(self) -> None:
        self._forker = subprocess.Popen(
            [sys.executable, "-m", "tests.support.native_loader"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env={**os.environ, "GGML_NO_BACKTRACE": "1", "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    def load(self, path: Path) -> str:
        """Return "loaded" or "refused", or how the process ended over the file."""
        assert self._forker.stdin is not None
        assert self._forker.stdout is not None
        print(path, file=self._forker.stdin, flush=True)
        return self._forker.stdout.readline().strip()

    def close(self) -> None:
        self._forker.communicate()


def load_and_answer(path: Path) -> bool:
    """Load the vocabulary and the weights, and compute a few tokens. False where one of them is refused."""
    import llama_cpp

    from server.engine.errors import ModelLoadError
    from server.tokenizer import load_tokenizer

    params = llama_cpp.llama_model_default_params()
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
    if not model:
        return False
    context_params = llama_cpp.llama_context_default_params()
    context_params.n_ctx, context_params.n_batch, context_params.n_seq_max, context_params.n_threads = 64, 64, 2, 1
    context_params.kv_unified = True
    context = llama_cpp.llama_init_from_model(model, context_params)
    if not context:
        llama_cpp.llama_model_free(model)
        return False
    ids = (llama_cpp.llama_token * 3)(0, 1, 2)
    ids_ok = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model)) > 2
    if ids_ok:
        llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(ids, 3))
    llama_cpp.llama_free(context)
    llama_cpp.llama_model_free(model)
    try:
        tokenizer = load_tokenizer(path)
    except ModelLoadError:
        return False
    for text in _TEXTS:
        for token_id in tokenizer.encode(text):
            tokenizer.piece(token_id)
    tokenizer.close()
    return True


def _fork_for(path: Path) -> str:
    child = os.fork()
    if not child:
        signal.alarm(_SECONDS)
        os._exit(_LOADED if load_and_answer(path) else _REFUSED)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return f"ended by {signal.Signals(os.WTERMSIG(status)).name}"
    return {_LOADED: "loaded", _REFUSED: "refused"}.get(os.WEXITSTATUS(status), f"ended with {status}")


def _main() -> None:
    import llama_cpp

    import server.tokenizer  # noqa: F401

    silent = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(silent, ctypes.c_void_p(0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    for line in sys.stdin:
        print(_fork_for(Path(line.rstrip("\n"))), flush=True)


if __name__ == "__main__":
    _main()
