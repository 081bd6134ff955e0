"""The GELU of BERT in llama.cpp on a CPU: it looks values up in a table that is made of an approximation by tanh.

The difference to the function that the models were trained with reaches 3e-4 in a vector of length 1. With the table
filled by the function itself it is below 1e-4; what is left is the rounding of the table to f16.
"""

import ctypes
import logging
import math
from pathlib import Path

import llama_cpp
import numpy as np

log = logging.getLogger(__name__)

_TABLE = "ggml_table_gelu_f16"
_SIZE = 1 << 16
_LIBRARY = "libggml-cpu.so.0"
"""Of the three copies of the library in the wheel, the one that is loaded."""


def use_exact_gelu() -> bool:
    """Fill the table of this process by the exact function; tell whether the build has one.

    The table is made when a backend is first used, so llama.cpp has to be initialised before.
    """
    try:
        library = ctypes.CDLL(str(Path(llama_cpp.__file__).parent / "lib" / _LIBRARY))
        table = np.ctypeslib.as_array((ctypes.c_uint16 * _SIZE).in_dll(library, _TABLE))
    except (OSError, ValueError) as error:
        log.info("GELU is approximated by tanh: this build has no table to correct (%s)", error)
        return False
    values = np.arange(_SIZE, dtype=np.uint16).view(np.float16)
    finite = np.isfinite(values)
    exact = [0.5 * x * (1.0 + math.erf(x / math.sqrt(2.0))) for x in values[finite].astype(np.float64).tolist()]
    table[finite] = np.array(exact).astype(np.float16).view(np.uint16)
    return True
