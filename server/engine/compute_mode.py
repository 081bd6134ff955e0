"""How llama.cpp computes on the CPU: as it is built, or a safer way where that does not work on this machine."""

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType


class ComputeMode(str, Enum):
    """From the fastest to the safest. Each one leaves out what the ones before it leave out."""

    STANDARD = "standard"
    """As llama.cpp decides."""
    NO_EXTRA_BUFFERS = "no_extra_buffers"
    """Weights stay as they lie in the file. Without repacked weights there is no AMX either: it takes no others."""
    PLAIN_KERNELS = "plain_kernels"
    """Also without tiled matrix products and without fused operations."""

    @property
    def extra_buffers(self) -> bool:
        """Whether llama.cpp may repack weights for the CPU, which AMX needs."""
        return self is ComputeMode.STANDARD

    @property
    def environment(self) -> Mapping[str, str]:
        """Environment variables that llama.cpp reads when it is loaded."""
        return _PLAIN if self is ComputeMode.PLAIN_KERNELS else {}

    @property
    def in_words(self) -> str:
        """For the log and for ``glmserve doctor``."""
        return _WORDS[self]

    @property
    def safer(self) -> "ComputeMode | None":
        """The next one; None after the safest."""
        modes = list(ComputeMode)
        after = modes.index(self) + 1
        return modes[after] if after < len(modes) else None


_PLAIN = MappingProxyType({"GGML_CPU_TILED_MM": "0", "GGML_CPU_DISABLE_FUSION": "1"})

_WORDS = MappingProxyType(
    {
        ComputeMode.STANDARD: "as built",
        ComputeMode.NO_EXTRA_BUFFERS: "without repacked weights and AMX",
        ComputeMode.PLAIN_KERNELS: "without repacked weights, AMX, tiled and fused kernels",
    }
)
