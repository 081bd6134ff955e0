"""Whether this CPU has AMX, and what follows for tests that call llama.cpp in their own process.

llama.cpp's AMX kernels write outside their tensors in some models, such as hybrid ones. A server ends
such an engine process and starts one without them. The process of the tests would die later, in another test. Servers
and engine processes that tests start compute with AMX as they always do.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import PropertyMock, patch

from glmserve.engine.config import ComputeMode

_CPU = Path("/proc/cpuinfo")
HAS_AMX = _CPU.exists() and "amx_int8" in _CPU.read_text("utf-8", "replace")


@contextmanager
def out_of_this_process() -> Iterator[None]:
    """Load models without AMX in this process; those that it starts are not concerned."""
    if not HAS_AMX:
        yield
        return
    with patch.object(ComputeMode, "extra_buffers", PropertyMock(return_value=False)):
        yield
