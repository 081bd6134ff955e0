"""GELU by its definition in llama.cpp's graph of BERT, which has the approximation by tanh.

The models were trained with the definition. The approximation, and the table of f16 in which llama.cpp looks it up on
a CPU, change a vector of length 1 by up to 3e-4. llama.cpp has the definition as an operation of its own, in f32, for
CPUs and for GPUs. It calls back before it computes each node of a graph, and the operation is exchanged there.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import llama_cpp

_NUMBER = ctypes.c_int64
"""Of two fields that follow each other: the kind of an operation, and its first parameter, which names the function."""
_EXAMINED_BYTES = 256
"""Of a tensor, from its beginning; the operation stands before its name and data."""
_SCRATCH_BYTES = 16 << 10
_F32 = 0


class _Layout(NamedTuple):
    """How a tensor says which function it is of."""

    place: int
    """In bytes from the beginning of a tensor."""
    approximate: int
    exact: int


class _InitParams(ctypes.Structure):
    _fields_ = (("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool))


@cache
def _layout() -> _Layout:
    """Find the operation in two tensors that differ in it alone, since no function of the library sets it.

    Raises:
        OSError: the library is not where it should be.
        AttributeError: it lacks a function.
        ValueError: its tensors differ in other ways.
    """
    library = ctypes.CDLL(str(Path(llama_cpp.__file__).parent / "lib" / "libggml-base.so"))
    for name in ("ggml_init", "ggml_new_tensor_1d", "ggml_gelu", "ggml_gelu_erf"):
        getattr(library, name).restype = ctypes.c_void_p
    library.ggml_init.argtypes = [_InitParams]
    library.ggml_new_tensor_1d.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int64]
    library.ggml_gelu.argtypes = library.ggml_gelu_erf.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    library.ggml_free.argtypes = [ctypes.c_void_p]
    context = library.ggml_init(_InitParams(_SCRATCH_BYTES, None, True))
    try:
        of = library.ggml_new_tensor_1d(context, _F32, 1)
        tensors = (library.ggml_gelu(context, of), library.ggml_gelu_erf(context, of))
        return _compared(*(ctypes.string_at(tensor, _EXAMINED_BYTES) for tensor in tensors))
    finally:
        library.ggml_free(context)


def _compared(approximate: bytes, exact: bytes) -> _Layout:
    words = memoryview(approximate).cast("i"), memoryview(exact).cast("i")
    differing = [index for index, pair in enumerate(zip(*words, strict=True)) if pair[0] != pair[1]]
    if len(differing) != 1 or not differing[0]:
        raise ValueError(f"the tensors differ in {len(differing)} places")
    place = 4 * (differing[0] - 1)
    return _Layout(place, *(_NUMBER.from_buffer_copy(tensor, place).value for tensor in (approximate, exact)))


@cache
def exact_gelu() -> Callable[[int, bool, int], bool]:
    """Return the function that llama.cpp is to call before each node of a context's graphs.

    Raises:
        OSError, AttributeError, ValueError: this build has another form.
    """
    place, approximate, exact = _layout()
    at = _NUMBER.from_address

    def exchange(tensor: int, ask: bool, _: int) -> bool:
        operation = at(tensor + place)
        if ask and operation.value == approximate:
            operation.value = exact
        return False  # the values of the node are not wanted: nothing is computed apart

    return llama_cpp.ggml_backend_sched_eval_callback(exchange)  # type: ignore[no-any-return]
