"""The exchange of GELU's approximation for its definition."""

import ctypes
import struct

import llama_cpp
import pytest

from glmserve.engine.embedding import exact_gelu as subject
from glmserve.engine.embedding.exact_gelu import exact_gelu

BEFORE = struct.pack("3i", 7, 0, 0)
OPERATION, TANH, ERF = 8, 5, 9


def tensor(function: int, operation: int = OPERATION) -> bytes:
    return BEFORE + struct.pack("2i", operation, function) + bytes(8)


def test_the_place_of_the_function_is_where_two_tensors_differ() -> None:
    found = subject._compared(tensor(TANH), tensor(ERF))
    assert found.place == len(BEFORE)
    assert tensor(ERF)[found.place :][:8] == found.exact.to_bytes(8, "little")


@pytest.mark.parametrize("other", [tensor(TANH), tensor(ERF, OPERATION + 1), b"\1" + tensor(TANH)[1:]])
def test_tensors_that_differ_elsewhere_or_not_at_all_are_not_guessed_at(other: bytes) -> None:
    with pytest.raises(ValueError, match="the tensors differ in"):
        subject._compared(tensor(TANH), other)


def test_only_the_approximation_is_exchanged_and_no_values_are_asked_for() -> None:
    llama_cpp.llama_backend_init()
    place, approximate, exact = subject._layout()
    exchange = exact_gelu()
    for before, ask, after in (
        (approximate, True, exact),
        (approximate, False, approximate),
        (exact + 1, True, exact + 1),
    ):
        memory = ctypes.create_string_buffer(256)
        number = ctypes.c_int64.from_buffer(memory, place)
        number.value = before
        assert exchange(ctypes.addressof(memory), ask, 0) is False
        assert number.value == after
