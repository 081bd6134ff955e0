"""The tensors of BERT and XLM-RoBERTa by the names of transformers and of llama.cpp, which calls both ``bert``."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from glmserve.convert.checkpoint.reader import TensorSource
from glmserve.convert.checkpoint.views import View, ViewedTensors
from glmserve.convert.families.base import TensorMapping

_WRAPPERS = ("bert.", "roberta.", "model.")
"""Prefixes of the encoder's tensors in a checkpoint that has a head."""

_OLD_NAMES = {".gamma": ".weight", ".beta": ".bias"}
"""Of layer norms in checkpoints that were made with TensorFlow."""

_UNUSED = ("embeddings.position_ids", "pooler.", "cls.predictions.", "cls.seq_relationship.", "lm_head.")
"""Heads of the pre-training, and numbers that llama.cpp counts itself."""

_PARTS = (
    ("attention.self.query", "attn_q", "square"),
    ("attention.self.key", "attn_k", "square"),
    ("attention.self.value", "attn_v", "square"),
    ("attention.output.dense", "attn_output", "square"),
    ("attention.output.LayerNorm", "attn_output_norm", "norm"),
    ("intermediate.dense", "ffn_up", "up"),
    ("output.dense", "ffn_down", "down"),
    ("output.LayerNorm", "layer_output_norm", "norm"),
)
_POSITIONS = "embeddings.position_embeddings.weight"


@dataclass(frozen=True, slots=True)
class BertConfig:
    """The hyperparameters that conversion needs, checked."""

    name: str
    layers: int
    hidden: int
    ffn: int
    heads: int
    vocabulary: int
    context: int
    """Positions that a text may take."""
    first_position: int
    """Row of the first position: XLM-RoBERTa counts from the padding token's id plus one."""
    segments: int
    epsilon: float
    ranks: bool
    """Whether it has a head that scores a pair of texts."""


def tensor_table(config: BertConfig) -> tuple[TensorMapping, ...]:
    """Return all tensors of the file, in order; sources as ``named_tensors`` names them."""
    hidden = config.hidden
    return (
        TensorMapping("embeddings.word_embeddings.weight", "token_embd.weight", (config.vocabulary, hidden)),
        TensorMapping(_POSITIONS, "position_embd.weight", (config.context, hidden)),
        TensorMapping("embeddings.token_type_embeddings.weight", "token_types.weight", (config.segments, hidden)),
        *_linear("embeddings.LayerNorm", "token_embd_norm", (hidden,)),
        *(tensor for layer in range(config.layers) for tensor in _layer_tensors(config, layer)),
        *(_head(config) if config.ranks else ()),
    )


def named_tensors(source: TensorSource, config: BertConfig) -> TensorSource:
    """Return the tensors of a checkpoint by the names of a bare encoder; tensors of other heads are left out.

    Raises:
        MissingTensorError: there are no positions.
    """
    views = {}
    for name in source.names():
        plain = _plain_name(name)
        if not plain.startswith(_UNUSED):
            views[plain] = View(name, 0, (*source.info(name).shape, 1)[0])
    if _POSITIONS in views:
        whole = views[_POSITIONS]
        rows = whole.rows - config.first_position
        views[_POSITIONS] = View(whole.source, config.first_position, max(0, min(rows, config.context)))
    return _Selected(source, views)


class _Selected(ViewedTensors):
    """Views, and nothing of what they are not made of."""

    def __init__(self, source: TensorSource, views: Mapping[str, View]) -> None:
        super().__init__(source, views)
        self._names = tuple(views)

    def names(self) -> tuple[str, ...]:
        """Return the names of all views."""
        return self._names


def _plain_name(name: str) -> str:
    for prefix in _WRAPPERS:
        name = name.removeprefix(prefix)
    for old, new in _OLD_NAMES.items():
        if name.endswith(old):
            name = name.removesuffix(old) + new
    return name


def _layer_tensors(config: BertConfig, layer: int) -> Iterator[TensorMapping]:
    hidden, ffn = config.hidden, config.ffn
    shapes = {"square": (hidden, hidden), "norm": (hidden,), "up": (ffn, hidden), "down": (hidden, ffn)}
    for source, target, kind in _PARTS:
        yield from _linear(f"encoder.layer.{layer}.{source}", f"blk.{layer}.{target}", shapes[kind], layer)


def _head(config: BertConfig) -> Iterator[TensorMapping]:
    yield from _linear("classifier.dense", "cls", (config.hidden, config.hidden))
    yield from _linear("classifier.out_proj", "cls.output", (1, config.hidden))


def _linear(source: str, target: str, shape: tuple[int, ...], layer: int = 0) -> Iterator[TensorMapping]:
    yield TensorMapping(f"{source}.weight", f"{target}.weight", shape, layer)
    yield TensorMapping(f"{source}.bias", f"{target}.bias", shape[:1], layer)
