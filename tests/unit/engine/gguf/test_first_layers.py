from io import BytesIO
from pathlib import Path

import pytest
from gguf import GGMLQuantizationType as Kind

from glmserve.engine.gguf.first_layers import choose_layers, type_mix, write_first_layers
from glmserve.engine.gguf.gguf_header import GgufHeader, HeaderError, TensorEntry, read_header
from tests.support.minimal_gguf import write_gguf


def header(*layers: Kind) -> GgufHeader:
    """One matrix in each layer, of these types, behind one of the vocabulary."""
    matrices = [TensorEntry(f"blk.{i}.ffn_up.weight", (4, 32), kind, 0, 1) for i, kind in enumerate(layers)]
    return GgufHeader({}, {}, (TensorEntry("token_embd.weight", (8, 32), Kind.F16, 0, 1), *matrices))


def test_one_layer_of_each_kind_is_chosen_and_numbered_anew() -> None:
    chosen = choose_layers(header(Kind.Q4_K, Kind.Q4_K, Kind.Q6_K, Kind.Q4_K))
    assert chosen.layers == 2
    assert [(name, tensor.name) for name, tensor in chosen.tensors] == [
        ("token_embd.weight", "token_embd.weight"),
        ("blk.0.ffn_up.weight", "blk.0.ffn_up.weight"),
        ("blk.1.ffn_up.weight", "blk.2.ffn_up.weight"),
    ]


def test_a_file_with_many_kinds_gives_a_few() -> None:
    assert choose_layers(header(Kind.Q4_K, Kind.Q5_K, Kind.Q6_K, Kind.Q8_0), most=2).layers == 2


def test_files_of_one_recipe_have_one_mix() -> None:
    one, other = header(Kind.Q4_K, Kind.Q6_K), header(Kind.Q6_K, Kind.Q4_K, Kind.Q4_K)
    assert type_mix(one) == type_mix(other)
    assert type_mix(one) != type_mix(header(Kind.Q4_K, Kind.Q5_K))


def test_the_small_file_holds_what_the_large_one_does(tiny_gguf: Path, tmp_path: Path) -> None:
    small = tmp_path / "small.gguf"
    with small.open("wb") as file:
        layers = write_first_layers(tiny_gguf, file)
    whole, part = read_header(tiny_gguf), read_header(small)
    key = "chatglm.block_count"
    all_layers = whole.metadata[key]
    assert isinstance(all_layers, int)
    assert part.metadata[key] == layers < all_layers
    assert {**part.metadata, key: 0} == {**whole.metadata, key: 0}
    assert part.token_types == whole.token_types
    contents = small.read_bytes(), tiny_gguf.read_bytes()
    sources = dict(choose_layers(whole).tensors)
    for tensor in part.tensors:
        source = sources[tensor.name]
        ours, theirs = (
            data[t.offset : t.offset + t.nbytes] for data, t in zip(contents, (tensor, source), strict=True)
        )
        assert ours == theirs, tensor.name


def test_a_file_that_does_not_say_its_layers_is_refused(tmp_path: Path) -> None:
    write_gguf(tmp_path / "odd.gguf", "odd")
    with pytest.raises(HeaderError, match=r"odd\.block_count"):
        write_first_layers(tmp_path / "odd.gguf", BytesIO())
