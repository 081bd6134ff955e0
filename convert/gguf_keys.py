"""The values a GGUF's key-value section can hold, and the keys of this project."""

from typing import TypeAlias

MetadataValue: TypeAlias = str | bool | int | float | bytes | tuple[str, ...] | tuple[int, ...] | tuple[float, ...]
"""Written as string, bool, uint32, float32, and arrays of uint8, string, int32 and float32."""

Metadata: TypeAlias = dict[str, MetadataValue]

PROMPT_FORMAT = "glmserve.prompt_format"
"""How messages become a prompt, by the name of a format that the server knows."""

PROMPT_PREFIX_IDS = "glmserve.prompt_prefix_ids"
"""Token ids that every prompt starts with; they cannot be produced from text."""

NORMALIZER = "glmserve.normalizer"
"""Name of the normaliser that the server applies before llama.cpp's tokenizer; absent if there is none."""

NORMALIZER_TABLE = "glmserve.normalizer_table"
"""SentencePiece's compiled replacements for it: zlib, then base64."""

SPACE_PREFIX = "glmserve.space_prefix"
"""With a normalizer: text starts with a space of the tokenizer's own."""

NORMALIZE_VECTORS = "glmserve.normalize_vectors"
"""Of an embedding model: whether its authors scale vectors to length 1."""

TRIM_SPACES = "glmserve.trim_spaces"
"""With a unigram vocabulary: how white space is dealt with, in words of ``glmserve.convert.vocab.unigram``."""

USER_TOKEN_ID = "glmserve.user_token_id"
ASSISTANT_TOKEN_ID = "glmserve.assistant_token_id"

PREFIX_LENGTH = "glmserve.prefix.length"
"""Tokens of a P-Tuning v2 prefix, in a file of its own."""

ORIGIN = "glmserve.origin"
"""A digest of the source checkpoint; see ``glmserve.convert.target.origin_of``."""
