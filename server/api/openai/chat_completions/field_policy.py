"""Every field of a chat request and of its messages, and what becomes of it."""

from collections.abc import Mapping

from server.api.common.field_policy import FieldTable, Honoured, Ignored, Refused, check_neutral

_HONOURED = (
    Honoured("model", "absent or null: the server's default model"),
    Honoured(
        "messages",
        "roles system, developer, user, assistant, tool, function; content as text, as text parts, or null; "
        "tool_calls, tool_call_id, function_call",
    ),
    Honoured("temperature", "0 to 2; 0 is greedy"),
    Honoured("top_p", "0 to 1; 0 keeps only the likeliest token"),
    Honoured("top_k", "extension; 0 or -1 turns it off"),
    Honoured("min_p", "extension; 0 to 1"),
    Honoured("presence_penalty", "-2 to 2"),
    Honoured("frequency_penalty", "-2 to 2"),
    Honoured("repetition_penalty", "extension; above 0, at most 2"),
    Honoured("max_tokens", "cut to what the context leaves, which is also what -1 asks for; 0 says nothing"),
    Honoured("max_completion_tokens", "the same; wins over max_tokens"),
    Honoured("min_tokens", "extension; no end token before so many; a stop string ends the answer anyway"),
    Honoured("ignore_eos", "extension; goes on to max_tokens"),
    Honoured("stop", "a string or up to 16; empty strings are left out"),
    Honoured("seed", "any integer; answer i of n uses seed + i"),
    Honoured("logit_bias", "token ids, as strings, with -100 to 100; -100 bans a token"),
    Honoured("logprobs", "of the model's own distribution, before penalties and temperature"),
    Honoured("top_logprobs", "0 to 20; needs logprobs"),
    Honoured(
        "response_format", "text, json_object, json_schema; strict: all of the schema or a refusal; beside tools, too"
    ),
    Honoured("structured_outputs", "extension; one of json, regex, choice, grammar (Lark), json_object"),
    Honoured("guided_json", "extension; the older spelling"),
    Honoured("guided_regex", "extension; the older spelling"),
    Honoured("guided_choice", "extension; the older spelling"),
    Honoured("guided_grammar", "extension; the older spelling"),
    Honoured("n", "up to 128, and up to what the server runs and lets wait (--parallel, --max-waiting)"),
    Honoured("stream"),
    Honoured("stream_options", "include_usage"),
    Honoured("do_sample", "extension of Zhipu's SDKs; false: greedy"),
    Honoured("timings", "extension; true: the reply, or a last chunk, says what the engine took, as llama-server does"),
    Honoured("tools", "up to 128 functions; any others are left out, as x-glmserve-ignored-tools says"),
    Honoured("tool_choice", "none, auto, required (or any), a function, or allowed_tools"),
    Honoured("parallel_tool_calls", "false: at most one call; true, the default: up to 8 where the family can"),
    Honoured("functions", "the older name of tools; answered with function_call"),
    Honoured("function_call", "none, auto, or a function"),
    Honoured(
        "continue_final_message",
        "extension; the answer goes on with the last message; prefix or partial in it say the same",
    ),
    Honoured("cache_salt", "extension; the cached prompt is found by requests with the same salt alone"),
    Honoured("prompt_cache_key", "with API keys: parts what a key has cached, but for system messages"),
    Honoured("add_generation_prompt", "extension; false only together with continue_final_message"),
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
    Refused("prompt_logprobs", (0,)),
    Refused("modalities", ("text",)),
    Refused("audio"),
    Refused("prediction"),
    Refused("suffix"),
    Refused("web_search_options"),
    Refused("chat_template_kwargs", (False,)),
    Refused("chat_template"),
    Refused("add_special_tokens", (False,)),
    Refused("documents"),
    Refused("echo", (False,)),
    Refused("best_of", (1,)),
    Refused("use_beam_search", (False,)),
    Refused("num_beams", (1,)),
    Refused("length_penalty", (1,)),
    Refused("early_stopping", (False,)),
    Refused("stop_token_ids"),
    Refused("bad_words"),
    Refused("allowed_token_ids"),
    Refused("include_stop_str_in_output", (False,)),
    Refused("truncate_prompt_tokens", (-1,)),
    Refused("grammar", (), "spelled structured_outputs here"),
    Refused("json_schema", (), "spelled response_format here"),
    Refused("guided_decoding_backend", (), "there is one"),
    Refused("guided_whitespace_pattern"),
    Refused("logits_processors"),
    Refused("typical_p", (1,)),
    Refused("top_a", (0,)),
    Refused("tfs_z", (1,)),
    Refused("mirostat", (0,)),
    Refused("mirostat_mode", (0,)),
    Refused("repeat_penalty", (1,), "spelled repetition_penalty here"),
    Refused("n_predict", (-1,), "spelled max_tokens here"),
    Refused("lora"),
)

CHAT = FieldTable(_HONOURED, _IGNORED, _REFUSED)
"""The fields of the body."""

MESSAGE_REFUSED = (Refused("audio"),)
"""Fields of a message. Any other, such as ``name`` or ``type``, only labels it and is accepted."""


def check_chat_fields(body: Mapping[str, object]) -> None:
    """Refuse what would change the answer and is not supported.

    Raises:
        InvalidRequest: a field is not supported, or not known.
    """
    CHAT.check(body)
    messages = body.get("messages")
    for index, message in enumerate(messages if isinstance(messages, list) else []):
        if isinstance(message, dict):
            for rule in MESSAGE_REFUSED:
                check_neutral(rule, message.get(rule.name), f"messages[{index}].{rule.name}")
