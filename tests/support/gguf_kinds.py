"""Every kind of GGUF file that the server opens: a good one, the check in front of llama.cpp, and its use."""

from dataclasses import dataclass
from pathlib import Path

from glmserve.engine.gguf.adapter_check import check_adapter, check_prefix
from glmserve.engine.gguf.gguf_check import ModelFacts, check_gguf
from tests.support.adapter_files import write_lora, write_prefix
from tests.support.bert import random_bert
from tests.support.native_loader import NativeLoader

KINDS = ("chatglm", "bert", "adapter", "prefix")


@dataclass(frozen=True)
class GoodFile:
    """A file of one kind; ``model`` is what an adapter or a prefix is used with."""

    kind: str
    path: Path
    model: ModelFacts | None = None

    def check(self, path: Path) -> None:
        """Look at a file of this kind as the server does. Raises ModelLoadError."""
        if self.model is None:
            check_gguf(path)
        elif self.kind == "adapter":
            check_adapter(path, self.model)
        else:
            check_prefix(path, self.model)

    def load(self, loader: NativeLoader, path: Path) -> str:
        """Use a file of this kind as the server does; see ``NativeLoader.load``."""
        if self.model is None:
            return loader.load(path)
        return loader.load(path, adapter=self.kind, model=self.model.path)


def good_file(kind: str, chatglm: Path, folder: Path) -> GoodFile:
    """Write a good file of ``kind`` into ``folder``; ``chatglm`` is a whole model."""
    if kind == "chatglm":
        return GoodFile(kind, chatglm)
    if kind == "bert":
        return GoodFile(kind, random_bert().write(folder / "bert.gguf"))
    facts = check_gguf(chatglm)
    write = write_lora if kind == "adapter" else write_prefix
    return GoodFile(kind, write(folder / f"{kind}.gguf", facts), facts)
