"""Fields of a request to ``/v1/responses`` that are ignored or rejected on purpose."""

from glmserve.api.common.field_policy import FieldPolicy, Ignored, Rejected

RESPONSES = FieldPolicy(
    ignored=(
        Ignored("user"),
        Ignored("reasoning", "the model has no separate reasoning"),
        Ignored("context_management", "use truncation to shorten a conversation"),
        Ignored("client_metadata", "Codex sends it to describe itself"),
        Ignored("safety_identifier"),
        Ignored("service_tier"),
        Ignored("prompt_cache_retention"),
        Ignored("prompt_cache_options"),
        Ignored("max_tool_calls", "it limits built-in tools, and the server has none"),
        Ignored("stream_options", "events are never obfuscated"),
        Ignored("moderation"),
        Ignored("access_programs"),
        Ignored("background_options"),
        Ignored("image"),
    ),
    rejected=(
        Rejected("background", (False,), "a response is generated only while its request is open"),
        Rejected("conversation", (), "use previous_response_id"),
        Rejected("personality"),
        Rejected("n", (1,)),
        Rejected("messages", (), "use input"),
        Rejected("max_tokens", (), "use max_output_tokens"),
        Rejected("max_completion_tokens", (), "use max_output_tokens"),
        Rejected("response_format", (), "use text.format"),
    ),
)
