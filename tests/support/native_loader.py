"""Loads model files as the server does, in a process that may die of it: one line of paths in, one word a line out."""

import contextlib
import ctypes
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.amx import HAS_AMX

if TYPE_CHECKING:
    from glmserve.engine.llama.runner import LlamaModelRunner

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

    def load(self, path: Path, *, adapter: str = "", model: Path = Path()) -> str:
        """Return "loaded" or "refused", or how the process ended over the file.

        With ``adapter`` the file is an ``adapter`` or a ``prefix``, and is used with ``model``.
        """
        assert self._forker.stdin is not None
        assert self._forker.stdout is not None
        print(path, adapter, model, sep="\t", file=self._forker.stdin, flush=True)
        return self._forker.stdout.readline().strip()

    def close(self) -> None:
        self._forker.communicate()


def load_and_answer(path: Path) -> bool:
    """Load the vocabulary and the weights, and compute a few tokens. False where one of them is refused."""
    import llama_cpp

    from glmserve.chat.tokenizer.llama_tokenizer import load_tokenizer
    from glmserve.engine.errors import ModelLoadError

    params = llama_cpp.llama_model_default_params()
    params.use_extra_bufts = not HAS_AMX
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


def answer_as_adapter(model: Path, path: Path, kind: str) -> bool:
    """Answer a request of an adapter with the engine's own runner. False where the file is refused."""
    from glmserve.engine.config import Adapter, Device, EngineConfig
    from glmserve.engine.errors import ModelLoadError
    from glmserve.engine.gguf.gguf_check import check_gguf
    from glmserve.engine.kv_cache.ops import CopyPrefix
    from glmserve.engine.llama.runner import LlamaModelRunner

    adapter = Adapter("tuned", lora=path) if kind == "adapter" else Adapter("tuned", prefix=path)
    config = EngineConfig(
        model, context_length=128, parallel=1, threads=1, threads_batch=1, device=Device.CPU, adapters=(adapter,)
    )
    try:
        runner = LlamaModelRunner(config, check_gguf(model))
    except ModelLoadError:
        return False
    if kind == "prefix":
        runner.load_prefix("tuned", 1)
        runner.apply(CopyPrefix(1, 0, runner.adapters["tuned"].prefix_length))
    _answer(runner)
    runner.close()
    return True


def _answer(runner: "LlamaModelRunner") -> None:
    """A prompt of many tokens, of few and single ones, each followed by a draw: llama.cpp has a way for each."""
    from glmserve.engine.model_runner import DecodeError
    from glmserve.engine.params import SamplingParams
    from glmserve.engine.scheduler.batch import BatchItem
    from glmserve.engine.sequence import Sequence

    adapter, params = runner.adapters["tuned"], SamplingParams(max_tokens=9, temperature=0.8, top_k=50, top_p=0.8)
    sequence = Sequence(1, adapter.key(tuple(range(40))), params, 1, adapter.salt)
    runner.open_sampler(1, params, sequence.prompt_ids)
    start = adapter.prefix_length
    for count in (33, 2, 1, 1):
        item = BatchItem(sequence, 0, start, tuple(token + adapter.salt for token in range(3, 3 + count)), True)
        with contextlib.suppress(DecodeError):
            runner.decode((item,))
            runner.sample(item)
        start += count


def _fork_for(path: Path, adapter: str, model: Path) -> str:
    child = os.fork()
    if not child:
        signal.alarm(_SECONDS)
        loaded = answer_as_adapter(model, path, adapter) if adapter else load_and_answer(path)
        os._exit(_LOADED if loaded else _REFUSED)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return f"ended by {signal.Signals(os.WTERMSIG(status)).name}"
    return {_LOADED: "loaded", _REFUSED: "refused"}.get(os.WEXITSTATUS(status), f"ended with {status}")


def _main() -> None:
    import llama_cpp

    import glmserve.chat.tokenizer.llama_tokenizer  # noqa: F401

    silent = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(silent, ctypes.c_void_p(0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    for line in sys.stdin:
        path, adapter, model = line.rstrip("\n").split("\t")
        print(_fork_for(Path(path), adapter, Path(model)), flush=True)


if __name__ == "__main__":
    _main()
