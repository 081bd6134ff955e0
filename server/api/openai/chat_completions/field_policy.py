"""Fields of a chat request and of its messages that are ignored or rejected on purpose."""

from glmserve.api.common.field_policy import FieldPolicy, Ignored, Rejected, check_neutral

_NO_THINKING = "the model has no separate reasoning"
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
    Ignored("cache_prompt", "prefixes are always cached"),
    Ignored("verbosity"),
    Ignored("moderation"),
    Ignored("request_id"),
    Ignored("max_length", "use max_tokens to limit the answer"),
    Ignored("function", "ChatGLM3's example client sends it; its server ignores it, too; use tools"),
    Ignored("skip_special_tokens", "special tokens are never part of the text"),
    Ignored("spaces_between_special_tokens"),
)

_REJECTED = (
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
    Rejected("grammar", (), "use structured_outputs"),
    Rejected("json_schema", (), "use response_format"),
    Rejected("guided_decoding_backend", (), "the server has only one backend"),
    Rejected("guided_whitespace_pattern"),
    Rejected("logits_processors"),
    Rejected("typical_p", (1,)),
    Rejected("top_a", (0,)),
    Rejected("tfs_z", (1,)),
    Rejected("mirostat", (0,)),
    Rejected("mirostat_mode", (0,)),
    Rejected("repeat_penalty", (1,), "use repetition_penalty"),
    Rejected("n_predict", (-1,), "use max_tokens"),
    Rejected("lora"),
)

CHAT = FieldPolicy(_IGNORED, _REJECTED)
"""The fields of the body that are not supported."""

MESSAGE_REJECTED = (Rejected("audio"),)
"""Rejected fields of a message. Any other unknown field, such as ``type``, is only a label and is accepted."""


def check_messages(messages: object) -> object:
    """Return ``messages``, for a validator. Raises InvalidRequest where one has a rejected field."""
    for index, message in enumerate(messages if isinstance(messages, list) else []):
        if isinstance(message, dict):
            for rule in MESSAGE_REJECTED:
                check_neutral(rule, message.get(rule.name), f"messages[{index}].{rule.name}")
    return messages
