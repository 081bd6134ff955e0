"""Fields of a request to ``/v1/messages`` that are ignored or rejected on purpose."""

from glmserve.api.common.field_policy import FieldPolicy, Ignored, Rejected

_IGNORED = (
    Ignored("metadata"),
    Ignored("thinking", "the model has no separate reasoning"),
    Ignored("context_management", "the server never shortens the context"),
    Ignored("cache_control", "prefixes are always cached"),
    Ignored("service_tier"),
    Ignored("inference_geo"),
    Ignored("diagnostics"),
    Ignored("speed"),
    Ignored("user_profile_id"),
    Ignored("workspace_id"),
)
_REJECTED = (
    Rejected("container"),
    Rejected("mcp_servers"),
    Rejected("max_tokens_to_sample", (), "use max_tokens"),
    Rejected("prompt", (), "use messages"),
    Rejected("stop", (), "use stop_sequences"),
)

MESSAGES = FieldPolicy(_IGNORED, _REJECTED)
"""The fields of a request for a message that are not supported."""

_OF_THE_ANSWER = ("max_tokens", "temperature", "top_p", "top_k", "stop_sequences", "stream")

COUNTED = FieldPolicy((*_IGNORED, *(Ignored(name, "it concerns the answer") for name in _OF_THE_ANSWER)), _REJECTED)
"""The same for ``/v1/messages/count_tokens``, where fields about the answer have no effect."""
