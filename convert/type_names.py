"""How people write the types of weights. Apart from the types, which need numpy: settings and help do without."""

from collections.abc import Mapping
from types import MappingProxyType

_OTHER: Mapping[str, str] = MappingProxyType(
    {
        "int4": "q4_k_m", "4bit": "q4_k_m", "q4": "q4_k_m", "q4_k": "q4_k_m",
        "int8": "q8_0", "8bit": "q8_0", "q8": "q8_0", "q6": "q6_k", "q5": "q5_k_m", "q5_k": "q5_k_m",
        "q3": "q3_k_m", "q3_k": "q3_k_m", "q2": "q2_k",
        "fp16": "f16", "float16": "f16", "half": "f16", "bfloat16": "bf16", "fp32": "f32", "float32": "f32",
    }
)  # fmt: skip


def usual_name(given: str) -> str:
    """Return the usual name of a type that is written in another way, such as ``Q4_K_M``, ``INT8`` or ``fp16``."""
    name = given.strip().lower().replace("-", "_")
    return _OTHER.get(name, name)
