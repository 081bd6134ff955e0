"""Policy of every field of a text completion."""

from glmserve.api.common.field_policy import FieldPolicy, Rejected, Supported
from glmserve.api.openai.chat_completions.field_policy import CHAT

_SAMPLING = (
    "model",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "logit_bias",
    "response_format",
    "structured_outputs",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "min_tokens",
    "ignore_eos",
    "stop",
    "seed",
    "n",
    "stream",
    "stream_options",
    "cache_salt",
    "prompt_cache_key",
)
"""Fields with the same policy as in a chat."""

_HONOURED = (
    Supported("prompt", "a text, a list of texts, token ids, or a list of lists of token ids; never a chat"),
    Supported("max_tokens", "16 where absent; 0 with echo, to score the prompt alone"),
    Supported("echo", "the prompt in front of each answer"),
    Supported("logprobs", "0 to 20 of the likeliest tokens at each place, and with echo at those of the prompt"),
    Supported("add_special_tokens", "extension; false leaves out what the model's tokenizer puts before a text"),
    *(field for field in CHAT.honoured if field.name in _SAMPLING),
)

_REFUSED = (
    Rejected("suffix", (), "the model only goes on after a text"),
    Rejected("best_of", (1,), "spelled n here: all answers are returned"),
    Rejected("prompt_embeds"),
    Rejected("messages", (), "spelled prompt here; /v1/chat/completions takes messages"),
    Rejected("return_token_ids", (False,)),
)

_OWN = frozenset((*(field.name for field in _HONOURED), *(field.name for field in _REFUSED)))

COMPLETION = FieldPolicy(
    _HONOURED,
    tuple(field for field in CHAT.ignored if field.name not in _OWN),
    (*_REFUSED, *(field for field in CHAT.refused if field.name not in _OWN)),
)
"""The fields of the body. What a chat does not take is not taken here either."""
