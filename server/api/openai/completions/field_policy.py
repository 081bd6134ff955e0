"""Fields of a text completion that are ignored or rejected on purpose."""

from glmserve.api.common.field_policy import FieldPolicy, Rejected
from glmserve.api.openai.chat_completions.field_policy import CHAT

_OWN = (
    Rejected("suffix", (), "the model only continues a text"),
    Rejected("best_of", (1,), "use n, which returns all answers"),
    Rejected("prompt_embeds"),
    Rejected("messages", (), "use prompt, or /v1/chat/completions"),
    Rejected("return_token_ids", (False,)),
)
_SUPPORTED = frozenset({"echo", "add_special_tokens"})
"""Fields that only a chat rejects."""
_REPLACED = _SUPPORTED.union(field.name for field in _OWN)

COMPLETION = FieldPolicy(CHAT.ignored, (*_OWN, *(field for field in CHAT.rejected if field.name not in _REPLACED)))
"""The fields of the body that are not supported, such as the fields of a chat."""
