"""The values a GGUF's key-value section can hold, and the keys of this project."""

from typing import TypeAlias

MetadataValue: TypeAlias = str | bool | int | float | tuple[str, ...] | tuple[int, ...] | tuple[float, ...]
"""Written as string, bool, uint32, float32, and arrays of string, int32 and float32."""

Metadata: TypeAlias = dict[str, MetadataValue]

PROMPT_FORMAT = "glmserve.prompt_format"
"""How messages become a prompt, by the name of a format that the server knows."""

PROMPT_PREFIX_IDS = "glmserve.prompt_prefix_ids"
"""Token ids that every prompt starts with; they cannot be produced from text."""
