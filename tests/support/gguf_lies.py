"""Makes lies about a model file: what a header may say that is not so, each as a change of a good one."""

import math
import struct
from collections.abc import Callable
from dataclasses import replace
from random import Random

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from tests.support.gguf_file import ARRAY, SCALARS, STRING, Described, Entry, GgufFile, packed

_NUMBERS = (
    0, 1, 2, 3, 5, 7, 8, 31, 32, 33, 63, 64, 65, 127, 128, 255, 256, 257, 512, 513, 1023, 1024, 1664, 2**16, 2**20,
    2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1, -1, -2, -(2**31), -(2**63),
)  # fmt: skip
_REALS = (0.0, -0.0, 1e-45, 1e-5, 0.5, 1.0, -1.0, 4.0, 1e30, -1e30, float("inf"), float("-inf"), float("nan"))
_KEYS = (
    "attention.head_count", "attention.head_count_kv", "attention.key_length", "attention.value_length",
    "attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon", "attention.causal",
    "attention.sliding_window", "attention.max_alibi_bias", "attention.clamp_kqv",
    "block_count", "context_length", "embedding_length", "embedding_length_out", "expert_count", "expert_used_count",
    "expert_group_count", "feed_forward_length", "leading_dense_block_count", "logit_scale", "nextn_predict_layers",
    "pooling_type", "rope.dimension_count", "rope.dimension_sections", "rope.freq_base", "rope.scaling.alpha",
    "rope.scaling.attn_factor", "rope.scaling.factor", "rope.scaling.finetuned",
    "rope.scaling.original_context_length", "rope.scaling.type", "rope.scale_linear", "use_parallel_residual",
    "vocab_size", "classifier.output_labels", "decoder_start_token_id", "tensor_data_layout",
)  # fmt: skip
_OTHER_KEYS = (
    "general.alignment", "general.architecture", "general.file_type", "general.quantization_version", "general.name",
    "general.type", "split.count", "split.no", "split.tensors.count", "adapter.type", "adapter.lora.alpha",
    "adapter.lora.task_name", "adapter.alora.invocation_tokens", "glmserve.prefix.length", "tokenizer.ggml.model",
    "tokenizer.ggml.pre", "tokenizer.ggml.token_type_count", "tokenizer.ggml.merges", "tokenizer.ggml.bos_token_id",
    "tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.unknown_token_id",
    "tokenizer.ggml.seperator_token_id", "tokenizer.ggml.padding_token_id", "tokenizer.ggml.add_space_prefix",
    "tokenizer.ggml.precompiled_charsmap", "tokenizer.ggml.remove_extra_whitespaces", "tokenizer.ggml.add_bos_token",
    "tokenizer.huggingface.json", "tokenizer.rwkv.world", "tokenizer.chat_template", "tokenizer.ggml.eog_token_ids",
    "glmserve.normalizer", "glmserve.normalizer_table", "glmserve.space_prefix", "glmserve.prompt_format",
    "glmserve.user_token_id", "glmserve.assistant_token_id", "glmserve.prompt_prefix_ids",
)  # fmt: skip
_WORDS = (
    b"", b"llama", b"bert", b"gpt2", b"t5", b"rwkv", b"plamo2", b"none", b"no_vocab", b"default", b"glm4",
    b"chatglm-bpe", b"chatglm", b"baichuan", b"yarn", b"linear", b"longrope", b"mean", b"\xff\xfe", b"a\x00b",
    b"x" * 70, b"true", b"-1", b"99999999999", "▁你好".encode(), b"<0x0A>", b"{{ 1/0 }}", b"chatglm2", b"AAAAAAAA",
)  # fmt: skip

Lie = Callable[[GgufFile, Random], GgufFile]


def lie(file: GgufFile, random: Random) -> GgufFile:
    """Return ``file`` with one to three lies in its header."""
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        file = random.choice(_LIES)(file, random)
    return file


def _change_number(file: GgufFile, random: Random) -> GgufFile:
    scalars = [entry for entry in file.entries if entry.type in SCALARS]
    if not scalars:
        return file
    entry = random.choice(scalars)
    return file.put(_number(entry.key, entry.type, random))


def _number(key: bytes, kind: int, random: Random) -> Entry:
    if SCALARS[kind] in "fd":
        return Entry(key, kind, struct.pack(f"<{SCALARS[kind]}", random.choice(_REALS)))
    size = struct.calcsize(SCALARS[kind])
    return Entry(key, kind, (random.choice(_NUMBERS) % 2 ** (8 * size)).to_bytes(size, "little"))


def _any_value(key: bytes, random: Random) -> Entry:
    kind = random.choice((*SCALARS, STRING, STRING, ARRAY, ARRAY))
    if kind == STRING:
        return Entry(key, STRING, packed(random.choice((*_WORDS, b"x" * 100_000))))
    if kind == ARRAY:
        inner = random.choice((*SCALARS, STRING))
        count = random.choice((0, 1, 2, 3, 100, 1663, 1664, 1665))
        items = [packed(random.choice(_WORDS)) if inner == STRING else _number(key, inner, random).value] * count
        return Entry.array(key.decode("latin-1"), inner, items)
    return _number(key, kind, random)


def _known_key(file: GgufFile, random: Random) -> GgufFile:
    """A key that llama.cpp looks for, with the kind of value that it wants, or with any."""
    architecture = random.choice(("chatglm", "chatglm", "bert", "baichuan"))
    names = [*(f"{architecture}.{key}" for key in _KEYS), *_OTHER_KEYS]
    key = random.choice(names).encode("latin-1")
    kind = random.choice((4, 4, 4, 6, 6, 7))
    return file.put(_number(key, kind, random) if random.random() < 0.6 else _any_value(key, random))


def _other_type(file: GgufFile, random: Random) -> GgufFile:
    return file.put(_any_value(random.choice(file.entries).key, random))


def _drop_key(file: GgufFile, random: Random) -> GgufFile:
    return replace(file, entries=tuple(e for e in file.entries if e is not random.choice(file.entries)))


def _double_key(file: GgufFile, random: Random) -> GgufFile:
    return replace(file, entries=(*file.entries, random.choice(file.entries)))


def _change_array(file: GgufFile, random: Random) -> GgufFile:
    arrays = [entry for entry in file.entries if entry.type == ARRAY]
    if not arrays:
        return file
    entry = random.choice(arrays)
    kind, items = struct.unpack_from("<I", entry.value)[0], entry.items()
    match random.randrange(5):
        case 0:
            items = items[: random.choice((0, 1, len(items) // 2, max(len(items) - 1, 0)))]
        case 1:
            items = items * 2
        case 2:
            for _ in range(random.choice((1, 10, 1000))):
                if items:
                    items[random.randrange(len(items))] = (
                        packed(random.choice(_WORDS)) if kind == STRING else _number(entry.key, kind, random).value
                    )
        case 3:
            random.shuffle(items)
        case _:
            claimed = random.choice(_NUMBERS) % 2**64
            return file.put(Entry.array(entry.key.decode("latin-1"), kind, items, claimed=claimed))
    return file.put(Entry.array(entry.key.decode("latin-1"), kind, items))


def _change_tensor(file: GgufFile, random: Random) -> GgufFile:
    if not file.tensors:
        return file
    at = random.randrange(len(file.tensors))
    old = file.tensors[at]
    match random.randrange(6):
        case 0:
            new = replace(old, name=random.choice((*_WORDS, random.choice(file.tensors).name, b"blk.99.x.weight")))
        case 1:
            sizes = list(old.dimensions)
            sizes[random.randrange(len(sizes))] = random.choice(_NUMBERS)
            new = replace(old, dimensions=tuple(sizes))
        case 2:
            sizes = [random.choice((old.dimensions[0], 1, 0, 32)) for _ in range(random.randrange(6))]
            new = replace(old, dimensions=tuple(sizes))
        case 3:
            new = replace(old, type=random.choice((*range(42), 2**31, 2**32 - 1)))
        case 4:
            new = replace(old, offset=random.choice((*_NUMBERS, random.choice(file.tensors).offset, old.offset + 1)))
        case _:
            new = replace(old, dimensions=tuple(reversed(old.dimensions)))
    return replace(file, tensors=(*file.tensors[:at], new, *file.tensors[at + 1 :]))


def _other_layout(file: GgufFile, random: Random) -> GgufFile:
    """A tensor of another type, all others moved so that the file still agrees with itself."""
    if not file.tensors:
        return file
    chosen = random.randrange(len(file.tensors))
    kind = random.choice(list(GGML_QUANT_SIZES))
    tensors, end = [], 0
    for at, tensor in enumerate(file.tensors):
        changed = replace(tensor, type=int(kind) if at == chosen else tensor.type, offset=end)
        tensors.append(changed)
        try:
            block, size = GGML_QUANT_SIZES[GGMLQuantizationType(changed.type)]
        except (ValueError, KeyError):  # an earlier lie
            return file
        end += -(-math.prod(changed.dimensions) // block) * size
        end += -end % 32
        if end > 1 << 26:
            return file
    data = random.choice((bytes(end), (file.data * (end // max(len(file.data), 1) + 1))[:end]))
    return replace(file, tensors=tuple(tensors), data=data)


def _drop_tensor(file: GgufFile, random: Random) -> GgufFile:
    at = random.randrange(len(file.tensors) + 1)
    return replace(file, tensors=(*file.tensors[:at], *file.tensors[at + 1 :]))


def _double_tensor(file: GgufFile, random: Random, *, behind: bytes = b"") -> GgufFile:
    extra = random.choice(file.tensors) if file.tensors else Described(b"x", (1,), 0, 0)
    extra = replace(extra, name=extra.name + behind)
    return replace(file, tensors=(*file.tensors, extra))


def _change_counts(file: GgufFile, random: Random) -> GgufFile:
    wrong = random.choice((*_NUMBERS, len(file.entries) - 1, len(file.tensors) + 1)) % 2**64
    return replace(file, entry_count=wrong) if random.random() < 0.5 else replace(file, tensor_count=wrong)


def _nul_in_a_name(file: GgufFile, random: Random) -> GgufFile:
    """A key, a tensor or a token twice: the second time with what C does not see behind its name."""
    match random.randrange(3):
        case 0:
            entry = random.choice(file.entries)
            changed = _number(entry.key, entry.type, random) if entry.type in SCALARS else _any_value(entry.key, random)
            hidden = replace(changed, key=entry.key + b"\0x")
            return replace(file, entries=(hidden, *file.entries) if random.random() < 0.5 else (*file.entries, hidden))
        case 1:
            return _double_tensor(file, random, behind=b"\0")
        case _:
            return _token_twice(file, random)


def _token_twice(file: GgufFile, random: Random) -> GgufFile:
    for entry in file.entries:
        if entry.key == b"tokenizer.ggml.tokens" and entry.type == ARRAY and (items := entry.items()):
            copied, at = random.choice(items)[8:], random.randrange(len(items))
            items[at] = packed(random.choice((copied + b"\0", copied + b"\0x", b"", b"\0", b"[EMPTY_%d]" % (at ^ 1))))
            items[at ^ 1 if at ^ 1 < len(items) else 0] = packed(random.choice((copied, b"")))
            return file.put(Entry.array("tokenizer.ggml.tokens", STRING, items))
    return file


def _change_data(file: GgufFile, random: Random) -> GgufFile:
    """Values that no training gives: numbers that are none, huge ones, or noise."""
    data = bytearray(file.data)
    for _ in range(random.choice((1, 10, 1000))):
        value = random.choice((*(struct.pack("<f", real) for real in (*_REALS, 3e38)), random.randbytes(4)))
        at = random.randrange(max(len(data) // 4, 1)) * 4
        data[at : at + 4] = value
    return replace(file, data=bytes(data[: len(file.data)]))


def _cut(file: GgufFile, random: Random) -> GgufFile:
    return replace(file, data=file.data[: random.choice((0, 1, 31, len(file.data) // 2, max(len(file.data) - 1, 0)))])


_LIES: tuple[Lie, ...] = (
    _change_number, _change_number, _known_key, _known_key, _known_key, _other_type, _drop_key, _double_key,
    _change_array, _change_array, _change_tensor, _change_tensor, _other_layout, _other_layout, _drop_tensor,
    _double_tensor, _change_counts, _cut, _nul_in_a_name, _change_data,
)  # fmt: skip
