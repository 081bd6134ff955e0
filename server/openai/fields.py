"""Every field of a chat request by name: honoured, accepted without effect, or refused unless it changes nothing.

Data, so that the documentation can be made from it. A field that is in no list is refused by name: most unknown
fields are ones that some other server samples with, and an answer that silently ignores them is a wrong answer.
Null never asks for anything, so it is accepted everywhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from server.errors import InvalidRequest, shown_name


@dataclass(frozen=True, slots=True)
class Honoured:
    """A field that does what OpenAI (or, for an extension, vLLM) says it does."""

    name: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Ignored:
    """A field that is accepted and has no effect, because no effect on the answer is asked for."""

    name: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """A field that would change the answer and is not supported; its ``neutral`` values are accepted."""

    name: str
    neutral: tuple[object, ...] = ()
    note: str = ""


HONOURED: tuple[Honoured, ...] = (
    Honoured("model", "absent or null: the server's default model"),
    Honoured("messages", "roles system, developer, user, assistant; content as text, as text parts, or null"),
    Honoured("temperature", "0 to 2; 0 is greedy"),
    Honoured("top_p", "0 to 1; 0 keeps only the likeliest token"),
    Honoured("top_k", "extension; 0 or -1 turns it off"),
    Honoured("min_p", "extension; 0 to 1"),
    Honoured("presence_penalty", "-2 to 2"),
    Honoured("frequency_penalty", "-2 to 2"),
    Honoured("repetition_penalty", "extension; above 0, at most 2"),
    Honoured("max_tokens", "at least 1; cut to what the context leaves"),
    Honoured("max_completion_tokens", "the same; wins over max_tokens"),
    Honoured("min_tokens", "extension; no end of the answer before so many tokens"),
    Honoured("ignore_eos", "extension; goes on to max_tokens"),
    Honoured("stop", "a string or up to 16; empty strings are left out"),
    Honoured("seed", "any integer; answer i of n uses seed + i"),
    Honoured("n", "up to 8, and up to the server's --parallel"),
    Honoured("stream"),
    Honoured("stream_options", "include_usage"),
)

IGNORED: tuple[Ignored, ...] = (
    Ignored("user"),
    Ignored("metadata"),
    Ignored("store", "nothing is stored"),
    Ignored("service_tier"),
    Ignored("safety_identifier"),
    Ignored("prompt_cache_key", "prefixes are always cached"),
    Ignored("prompt_cache_retention"),
    Ignored("prompt_cache_options"),
    Ignored("cache_prompt", "llama-server's; prefixes are always cached"),
    Ignored("parallel_tool_calls", "without tools there are no calls"),
    Ignored("verbosity"),
    Ignored("moderation"),
    Ignored("request_id"),
    Ignored("skip_special_tokens", "special tokens never appear as text"),
    Ignored("spaces_between_special_tokens"),
)

REFUSED: tuple[Refused, ...] = (
    Refused("tools", ([],)),
    Refused("tool_choice", ("none", "auto")),
    Refused("functions", ([],)),
    Refused("function_call", ("none", "auto")),
    Refused("response_format", ({"type": "text"},)),
    Refused("logprobs", (False,)),
    Refused("top_logprobs", (0,)),
    Refused("prompt_logprobs", (0,)),
    Refused("logit_bias", ({}, [])),
    Refused("modalities", (["text"],)),
    Refused("audio"),
    Refused("prediction"),
    Refused("suffix", ("",)),
    Refused("web_search_options"),
    Refused("reasoning_effort", ("none",), "the model does not reason apart from its answer"),
    Refused("reasoning", ({}, {"effort": "none"})),
    Refused("thinking", ({"type": "disabled"},)),
    Refused("enable_thinking", (False,)),
    Refused("include_reasoning", (False,)),
    Refused("chat_template_kwargs", ({}, {"enable_thinking": False}, {"thinking": False})),
    Refused("chat_template", ("",)),
    Refused("add_generation_prompt", (True,)),
    Refused("continue_final_message", (False,)),
    Refused("add_special_tokens", (False,)),
    Refused("documents", ([],)),
    Refused("echo", (False,)),
    Refused("best_of", (1,)),
    Refused("use_beam_search", (False,)),
    Refused("num_beams", (1,)),
    Refused("do_sample", (True,)),
    Refused("length_penalty", (1, 1.0)),
    Refused("early_stopping", (False,)),
    Refused("stop_token_ids", ([],)),
    Refused("bad_words", ([],)),
    Refused("allowed_token_ids", ([],)),
    Refused("include_stop_str_in_output", (False,)),
    Refused("truncate_prompt_tokens", (-1,)),
    Refused("structured_outputs", ({},)),
    Refused("guided_json"),
    Refused("guided_regex"),
    Refused("guided_choice"),
    Refused("guided_grammar"),
    Refused("grammar", ("",)),
    Refused("json_schema"),
    Refused("logits_processors", ([],)),
    Refused("typical_p", (1, 1.0)),
    Refused("top_a", (0, 0.0)),
    Refused("tfs_z", (1, 1.0)),
    Refused("mirostat", (0,)),
    Refused("mirostat_mode", (0,)),
    Refused("repeat_penalty", (1, 1.0), "spelled repetition_penalty here"),
    Refused("n_predict", (-1,), "spelled max_tokens here"),
    Refused("lora", ([],)),
)

_MESSAGE_REFUSED: tuple[Refused, ...] = (
    Refused("tool_calls", ([],)),
    Refused("function_call"),
    Refused("tool_call_id", ("",)),
    Refused("audio"),
    Refused("refusal", ("",)),
    Refused("prefix", (False,)),
    Refused("partial", (False,)),
)
"""Fields of a message. Any other, such as ``name`` or ``type``, only labels it and is accepted."""

_ACCEPTED = frozenset((*(field.name for field in HONOURED), *(field.name for field in IGNORED)))
_REFUSED: Mapping[str, Refused] = MappingProxyType({field.name: field for field in REFUSED})


def check_fields(body: Mapping[str, object]) -> None:
    """Refuse what would change the answer and is not supported.

    Raises:
        InvalidRequest: a field is not supported, or not known.
    """
    for name, value in body.items():
        if name in _ACCEPTED or value is None:
            continue
        rule = _REFUSED.get(name)
        if rule is None:
            raise InvalidRequest(
                f"{shown_name(name)} is not a field that this server knows; leave it out",
                param=name,
                code="unknown_parameter",
            )
        _check_neutral(rule, value, name)
    messages = body.get("messages")
    if isinstance(messages, list):
        for index, message in enumerate(messages):
            _check_message(message, f"messages[{index}]")


def _check_message(message: object, path: str) -> None:
    if not isinstance(message, dict):
        return
    for rule in _MESSAGE_REFUSED:
        if message.get(rule.name) is not None:
            _check_neutral(rule, message[rule.name], f"{path}.{rule.name}")


def _check_neutral(rule: Refused, value: object, path: str) -> None:
    # The types are compared too, as True equals 1.
    if any(type(value) is type(neutral) and value == neutral for neutral in rule.neutral):
        return
    note = f" ({rule.note})" if rule.note else ""
    raise InvalidRequest(
        f"{path} is not supported by this server{note}; leave it out", param=path, code="unsupported_parameter"
    )
