"""BERT and XLM-RoBERTa: models that make a vector of a text, or score a pair of texts.

llama.cpp computes both as its architecture ``bert``. It adds the first segment's vector to every token, so that a
reranker needs a model with one segment, as XLM-RoBERTa is.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from glmserve.convert.checkpoint.config import MOST_LAYERS, ConfigFile
from glmserve.convert.checkpoint.reader import TensorSource
from glmserve.convert.checkpoint.views import View, ViewedTensors
from glmserve.convert.errors import UnsupportedModelError
from glmserve.convert.families.base import ModelConfig, TensorMapping
from glmserve.convert.families.bert_pooling import Pooling, VectorRecipe, read_recipe
from glmserve.convert.gguf_format import NORMALIZE_VECTORS, FamilyName, Metadata
from glmserve.convert.vocab.unigram import unigram_metadata
from glmserve.convert.vocab.wordpiece import wordpiece_metadata

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
class BertConfig(ModelConfig):
    """The hyperparameters that conversion needs, checked."""

    first_position: int
    """Row of the first position: XLM-RoBERTa counts from the padding token's id plus one."""
    segments: int
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
    """Views, without the tensors that none of them uses."""

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


ARCHITECTURE = "bert"

MODEL_TYPES = {"bert": FamilyName.BERT, "xlm-roberta": FamilyName.XLM_ROBERTA}

_RERANKER = "ForSequenceClassification"
_GELU = ("gelu", "gelu_python")


@dataclass(frozen=True, slots=True)
class Bert:
    """A checkpoint of the family; see ``glmserve.convert.families.base.Family``."""

    file: ConfigFile
    config: BertConfig
    name: FamilyName
    recipe: VectorRecipe

    @property
    def layers(self) -> int:
        """Transformer layers."""
        return self.config.layers

    @property
    def heads_per_group(self) -> int:
        """Each head has keys and values of its own."""
        return 1

    @property
    def ignored(self) -> frozenset[str]:
        """None: ``prepare`` leaves out the tensors that are not needed."""
        return frozenset()

    @property
    def findings(self) -> tuple[str, ...]:
        """How a text becomes a vector or a score."""
        return (self.recipe.finding,)

    def hyperparameters(self) -> Metadata:
        """Return the GGUF keys of name, architecture and shape."""
        config = self.config
        return {
            **config.metadata(ARCHITECTURE),
            f"{ARCHITECTURE}.attention.layer_norm_epsilon": config.epsilon,
            f"{ARCHITECTURE}.attention.causal": False,
            f"{ARCHITECTURE}.pooling_type": int(self.recipe.pooling),
            "tokenizer.ggml.token_type_count": config.segments,
            **({} if config.ranks else {NORMALIZE_VECTORS: self.recipe.normalized}),
        }

    def vocabulary(self) -> Metadata:
        """Return the GGUF keys of the tokenizer; raises MissingFileError, CorruptFileError, VocabularyError."""
        folder, size = self.file.folder, self.config.vocabulary
        if self.name is FamilyName.BERT:
            return wordpiece_metadata(folder, size)
        return unigram_metadata(folder, size)

    def tensors(self) -> tuple[TensorMapping, ...]:
        """Return all tensors of the file, in order."""
        return tensor_table(self.config)

    def prepare(self, source: TensorSource) -> TensorSource:
        """Return the encoder's tensors by plain names, positions from the first one that is used."""
        return named_tensors(source, self.config)


def read_family(file: ConfigFile, family: FamilyName | None) -> Bert:
    """Read an encoder; see ``glmserve.convert.families.detect.detect``."""
    name = MODEL_TYPES[file.model_type]
    if family not in (None, name):
        raise UnsupportedModelError(file.path, f"this is {name.value}, which cannot be converted as {family.value}")
    config = _read_config(file, name)
    if config.ranks:
        recipe = VectorRecipe(Pooling.RANK, False, "reranker: a score for each pair of texts")
    else:
        recipe = read_recipe(file.folder)
    return Bert(file, config, name, recipe)


def _read_config(file: ConfigFile, name: FamilyName) -> BertConfig:
    first = _padding_id(file) + 1 if name is FamilyName.XLM_ROBERTA else 0
    config = BertConfig(
        name=file.name,
        layers=file.positive_int("num_hidden_layers", MOST_LAYERS),
        hidden=file.positive_int("hidden_size"),
        ffn=file.positive_int("intermediate_size"),
        heads=file.positive_int("num_attention_heads"),
        vocabulary=file.positive_int("vocab_size"),
        context=file.positive_int("max_position_embeddings", 1 << 24) - first,
        first_position=first,
        segments=file.positive_int("type_vocab_size"),
        epsilon=file.positive_number("layer_norm_eps"),
        ranks=any(one.endswith(_RERANKER) for one in file.architectures),
    )
    _check(file, config)
    return config


def _padding_id(file: ConfigFile) -> int:
    value = file.raw.get("pad_token_id", 1)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 20:
        raise UnsupportedModelError(file.path, f"pad_token_id is {value!r}, and positions are counted from it")
    return value


def _check(file: ConfigFile, config: BertConfig) -> None:
    """Raise UnsupportedModelError where llama.cpp would compute something else."""
    if config.context < 1 or config.hidden % config.heads:
        raise UnsupportedModelError(file.path, "its positions or heads come to nothing; it is no such model")
    if file.raw.get("hidden_act", "gelu") not in _GELU:
        raise UnsupportedModelError(file.path, f"hidden_act is {file.raw['hidden_act']!r}; llama.cpp computes gelu")
    if file.raw.get("position_embedding_type", "absolute") != "absolute" or file.raw.get("is_decoder", False):
        raise UnsupportedModelError(
            file.path, "position_embedding_type must be absolute, and is_decoder false: llama.cpp has no other BERT"
        )
    if not config.ranks:
        return
    if config.segments != 1:
        raise UnsupportedModelError(
            file.path,
            f"it is a reranker with {config.segments} segments, and llama.cpp gives all tokens the first one; "
            "rerankers of the family XLM-RoBERTa, such as bge-reranker-base, are converted",
        )
    labels = file.raw.get("id2label")
    count = len(labels) if isinstance(labels, dict) else file.raw.get("num_labels", 2)
    if count != 1:
        raise UnsupportedModelError(file.path, f"it is a classifier with {count} labels; a reranker has one")
