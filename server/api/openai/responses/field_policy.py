"""Policy of every field of a request to ``/v1/responses``."""

from glmserve.api.common.field_policy import FieldPolicy, Ignored, Rejected, Supported

RESPONSES = FieldPolicy(
    honoured=(
        Supported("model", "absent or null: the server's default model"),
        Supported(
            "input",
            "a string, or items: messages of text, calls, outputs; reasoning is dropped, a reference refused",
        ),
        Supported(
            "instructions", "a system message in front; not taken over by the responses that go on from this one"
        ),
        Supported("prompt", "id of a stored prompt, and a string for each of its variables; it comes before input"),
        Supported("previous_response_id", "goes on from a response that was stored and has not been dropped since"),
        Supported("store", "true unless said otherwise; kept in memory, within bounds"),
        Supported(
            "max_output_tokens", "cut to what the context leaves, which is also what -1 asks for; 0 says nothing"
        ),
        Supported("temperature", "0 to 2; 0 is greedy"),
        Supported("top_p", "0 to 1; 0 keeps only the likeliest token"),
        Supported("tools", "functions; any others are left out, as x-glmserve-ignored-tools says"),
        Supported("tool_choice", "none, auto, required (or any), one function, or allowed_tools"),
        Supported("parallel_tool_calls", "true unless said otherwise: an answer may have several calls"),
        Supported("top_logprobs", "0 to 20"),
        Supported(
            "text", "format: text, json_object or json_schema (strict: all of it or a refusal); beside tools, too"
        ),
        Supported("truncation", "auto leaves out the oldest items where the context is too short; disabled is a 400"),
        Supported("stream"),
        Supported("metadata", "up to 16 strings, which come back"),
        Supported("include", "message.output_text.logprobs; the others are accepted, as no such items are ever made"),
        Supported("top_k", "extension; 0 or -1 turns it off"),
        Supported("min_p", "extension; 0 to 1"),
        Supported("presence_penalty", "extension; -2 to 2"),
        Supported("frequency_penalty", "extension; -2 to 2"),
        Supported("repetition_penalty", "extension; above 0, at most 2"),
        Supported("min_tokens", "extension; no end token before so many; a stop string ends the answer anyway"),
        Supported("ignore_eos", "extension; goes on to max_output_tokens"),
        Supported("stop", "extension; a string or up to 16"),
        Supported("seed", "extension; any integer"),
        Supported("cache_salt", "extension; the cached prompt is found by requests with the same salt alone"),
        Supported("prompt_cache_key", "with API keys: parts what a key has cached, but for system messages"),
    ),
    ignored=(
        Ignored("user"),
        Ignored("reasoning", "the model does not reason apart from its answer"),
        Ignored("context_management", "what a context is cut by is truncation"),
        Ignored("client_metadata", "what Codex tells of itself"),
        Ignored("safety_identifier"),
        Ignored("service_tier"),
        Ignored("prompt_cache_retention"),
        Ignored("prompt_cache_options"),
        Ignored("max_tool_calls", "is about tools that the server runs, and this one runs none"),
        Ignored("stream_options", "nothing is obfuscated"),
        Ignored("moderation"),
        Ignored("access_programs"),
        Ignored("background_options"),
        Ignored("image"),
    ),
    refused=(
        Rejected("background", (False,), "a response is made while its request is open"),
        Rejected("conversation", (), "go on with previous_response_id"),
        Rejected("personality"),
        Rejected("n", (1,)),
        Rejected("messages", (), "spelled input here"),
        Rejected("max_tokens", (), "spelled max_output_tokens here"),
        Rejected("max_completion_tokens", (), "spelled max_output_tokens here"),
        Rejected("response_format", (), "spelled text.format here"),
    ),
)
