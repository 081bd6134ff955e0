"""The checks of a model's files that `serve` and `doctor` share."""

from glmserve.bootstrap.model_source import ModelSource
from glmserve.cli.options import UsageProblem
from glmserve.config.schema import ModelSettings
from glmserve.engine.gguf.gguf_check import ModelFacts, check_gguf
from glmserve.engine.gguf.variant_check import check_adapter, check_prefix


def check_variants(model: ModelSettings) -> None:
    """Look for the files of the adapters, before anything large is read.

    Raises:
        UsageProblem: one is not there.
    """
    for variant in model.variants:
        for file in filter(None, (variant.lora, variant.prefix)):
            if file.is_dir():
                raise UsageProblem(f"{file} is a folder; convert it first: glmserve convert {file} -o FILE.gguf")
            if not file.is_file():
                raise UsageProblem(f"{file}: no such file; the variant {variant.name} needs it")


def check_model(model: ModelSettings, source: ModelSource) -> ModelFacts:
    """Check the file of a model and its variants, as the engine does before it loads them.

    Raises:
        ModelLoadError: one of them cannot be served; the message says why.
    """
    facts = check_gguf(source.gguf)
    for variant in model.variants:
        if variant.lora:
            check_adapter(variant.lora, facts)
        if variant.prefix:
            check_prefix(variant.prefix, facts)
    return facts
