"""Policy of every field of a request to ``/v1/messages``."""

from glmserve.api.common.field_policy import FieldPolicy, Ignored, Rejected, Supported

_HONOURED = (
    Supported("model", "absent or null: the server's default model"),
    Supported(
        "messages",
        "roles user, assistant, system; text, tool_use, tool_result, documents of text; thinking is dropped",
    ),
    Supported("system", "a string or blocks of text"),
    Supported("tools", "custom ones; those of Anthropic's own are left out, as x-glmserve-ignored-tools says"),
    Supported("tool_choice", "auto, any, tool, none; disable_parallel_tool_use"),
    Supported("output_config", "format json_schema; effort has no effect"),
)
_OF_AN_ANSWER = (
    Supported("max_tokens", "required; cut to what the context leaves, as are -1 and 0"),
    Supported("temperature", "0 to 1; 0 is greedy"),
    Supported("top_p", "0 to 1; 0 keeps only the likeliest token"),
    Supported("top_k", "0 turns it off"),
    Supported("stop_sequences", "up to 16; the answer tells which one ended it"),
    Supported("stream"),
)
_IGNORED = (
    Ignored("metadata"),
    Ignored("thinking", "the model does not think apart from its answer"),
    Ignored("context_management", "is about thinking and old results of tools: the context is cut nowhere"),
    Ignored("cache_control", "prefixes are always cached"),
    Ignored("service_tier"),
    Ignored("inference_geo"),
    Ignored("diagnostics"),
    Ignored("speed"),
    Ignored("thread", "of the tool runner of Anthropic's SDKs; nothing is kept here"),
    Ignored("user_profile_id"),
    Ignored("workspace_id"),
)
_REFUSED = (
    Rejected("container"),
    Rejected("mcp_servers"),
    Rejected("max_tokens_to_sample", (), "spelled max_tokens here"),
    Rejected("prompt", (), "spelled messages here"),
    Rejected("stop", (), "spelled stop_sequences here"),
)

COUNTED = FieldPolicy(_HONOURED, (*_IGNORED, *(Ignored(field.name) for field in _OF_AN_ANSWER)), _REFUSED)
"""Policy of ``/v1/messages/count_tokens``, where fields about the answer have no effect."""

MESSAGES = FieldPolicy((*_HONOURED, *_OF_AN_ANSWER), _IGNORED, _REFUSED)
