"""Policy of every field of a chat request and of its messages."""

from collections.abc import Mapping

from glmserve.api.common.field_policy import FieldPolicy, Ignored, Rejected, Supported, check_neutral

_HONOURED = (
    Supported("model", "absent or null: the server's default model"),
    Supported(
        "messages",
        "roles system, developer, user, assistant, tool, function; content as text, as text parts, or null; "
        "tool_calls, tool_call_id, function_call",
    ),
    Supported("temperature", "0 to 2; 0 is greedy"),
    Supported("top_p", "0 to 1; 0 keeps only the likeliest token"),
    Supported("top_k", "extension; 0 or -1 turns it off"),
    Supported("min_p", "extension; 0 to 1"),
    Supported("presence_penalty", "-2 to 2"),
    Supported("frequency_penalty", "-2 to 2"),
    Supported("repetition_penalty", "extension; above 0, at most 2"),
    Supported("max_tokens", "cut to what the context leaves, which is also what -1 asks for; 0 says nothing"),
    Supported("max_completion_tokens", "the same; wins over max_tokens"),
    Supported("min_tokens", "extension; no end token before so many; a stop string ends the answer anyway"),
    Supported("ignore_eos", "extension; goes on to max_tokens"),
    Supported("stop", "a string or up to 16; empty strings are left out"),
    Supported("seed", "any integer; answer i of n uses seed + i"),
    Supported("logit_bias", "token ids, as strings, with -100 to 100; -100 bans a token"),
    Supported("logprobs", "of the model's own distribution, before penalties and temperature"),
    Supported("top_logprobs", "0 to 20; needs logprobs"),
    Supported(
        "response_format", "text, json_object, json_schema; strict: all of the schema or a refusal; beside tools, too"
    ),
    Supported("structured_outputs", "extension; one of json, regex, choice, grammar (Lark), json_object"),
    Supported("guided_json", "extension; the older spelling"),
    Supported("guided_regex", "extension; the older spelling"),
    Supported("guided_choice", "extension; the older spelling"),
    Supported("guided_grammar", "extension; the older spelling"),
    Supported("n", "up to 128, and up to what the server runs and lets wait (--parallel, --max-waiting)"),
    Supported("stream"),
    Supported("stream_options", "include_usage"),
    Supported("do_sample", "extension of Zhipu's SDKs; false: greedy"),
    Supported(
        "timings", "extension; true: the reply, or a last chunk, says what the engine took, as llama-server does"
    ),
    Supported("tools", "up to 128 functions; any others are left out, as x-glmserve-ignored-tools says"),
    Supported("tool_choice", "none, auto, required (or any), a function, or allowed_tools"),
    Supported("parallel_tool_calls", "false: at most one call; true, the default: up to 8 where the family can"),
    Supported("functions", "the older name of tools; answered with function_call"),
    Supported("function_call", "none, auto, or a function"),
    Supported(
        "continue_final_message",
        "extension; the answer goes on with the last message; prefix or partial in it say the same",
    ),
    Supported("cache_salt", "extension; the cached prompt is found by requests with the same salt alone"),
    Supported("prompt_cache_key", "with API keys: parts what a key has cached, but for system messages"),
    Supported("add_generation_prompt", "extension; false only together with continue_final_message"),
)

_NO_THINKING = "the model does not reason apart from its answer"
_IGNORED = (
    Ignored("reasoning_effort", _NO_THINKING),
    Ignored("reasoning", _NO_THINKING),
    Ignored("thinking", _NO_THINKING),
    Ignored("enable_thinking", _NO_THINKING),
    Ignored("include_reasoning", _NO_THINKING),
    Ignored("user_id"),
    Ignored("user"),
    Ignored("metadata"),
    Ignored("store", "nothing is stored"),
    Ignored("service_tier"),
    Ignored("safety_identifier"),
    Ignored("prompt_cache_retention"),
    Ignored("prompt_cache_options"),
    Ignored("cache_prompt", "llama-server's; prefixes are always cached"),
    Ignored("verbosity"),
    Ignored("moderation"),
    Ignored("request_id"),
    Ignored("max_length", "without effect in the openai_api.py of 2023, too; max_tokens bounds an answer"),
    Ignored("function", "what the client beside ChatGLM3's server calls its functions; without effect there, too"),
    Ignored("skip_special_tokens", "special tokens never appear as text"),
    Ignored("spaces_between_special_tokens"),
)

_REFUSED = (
    Rejected("prompt_logprobs", (0,)),
    Rejected("modalities", ("text",)),
    Rejected("audio"),
    Rejected("prediction"),
    Rejected("suffix"),
    Rejected("web_search_options"),
    Rejected("chat_template_kwargs", (False,)),
    Rejected("chat_template"),
    Rejected("add_special_tokens", (False,)),
    Rejected("documents"),
    Rejected("echo", (False,)),
    Rejected("best_of", (1,)),
    Rejected("use_beam_search", (False,)),
    Rejected("num_beams", (1,)),
    Rejected("length_penalty", (1,)),
    Rejected("early_stopping", (False,)),
    Rejected("stop_token_ids"),
    Rejected("bad_words"),
    Rejected("allowed_token_ids"),
    Rejected("include_stop_str_in_output", (False,)),
    Rejected("truncate_prompt_tokens", (-1,)),
    Rejected("grammar", (), "spelled structured_outputs here"),
    Rejected("json_schema", (), "spelled response_format here"),
    Rejected("guided_decoding_backend", (), "there is one"),
    Rejected("guided_whitespace_pattern"),
    Rejected("logits_processors"),
    Rejected("typical_p", (1,)),
    Rejected("top_a", (0,)),
    Rejected("tfs_z", (1,)),
    Rejected("mirostat", (0,)),
    Rejected("mirostat_mode", (0,)),
    Rejected("repeat_penalty", (1,), "spelled repetition_penalty here"),
    Rejected("n_predict", (-1,), "spelled max_tokens here"),
    Rejected("lora"),
)

CHAT = FieldPolicy(_HONOURED, _IGNORED, _REFUSED)
"""The fields of the body."""

MESSAGE_REFUSED = (Rejected("audio"),)
"""Fields of a message. Any other, such as ``name`` or ``type``, only labels it and is accepted."""


def check_chat_fields(body: Mapping[str, object]) -> None:
    """Reject unsupported fields that would change the answer.

    Raises:
        InvalidRequest: a field is not supported, or not known.
    """
    CHAT.check(body)
    messages = body.get("messages")
    for index, message in enumerate(messages if isinstance(messages, list) else []):
        if isinstance(message, dict):
            for rule in MESSAGE_REFUSED:
                check_neutral(rule, message.get(rule.name), f"messages[{index}].{rule.name}")
