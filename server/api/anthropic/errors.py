"""Errors in Anthropic's words."""

from collections.abc import Mapping
from types import MappingProxyType

from glmserve.api.anthropic.response_types import FaultType, MessageFailure, MessageFault
from glmserve.http.error_replies import THREAD_NOT_FOUND, ErrorReply
from glmserve.http.request_record import current_request

_TYPES: Mapping[int, FaultType] = MappingProxyType(
    {
        401: "authentication_error",
        403: "permission_error",
        404: "not_found_error",
        408: "timeout_error",
        429: "rate_limit_error",
        503: "overloaded_error",
        504: "timeout_error",
    }
)
"""By status; any other is an invalid request below 500, and the server's fault from there on."""


def failure(reply: ErrorReply) -> MessageFailure:
    """Return the error reply; clients read its type and the status."""
    usual: FaultType = "invalid_request_error" if reply.status < 500 else "api_error"
    error_type = _TYPES.get(reply.status, usual)
    fault: MessageFault = {"type": error_type, "message": reply.message}
    if reply.code == THREAD_NOT_FOUND:
        fault["details"] = {"error_code": THREAD_NOT_FOUND}
    return {
        "type": "error",
        "error": fault,
        "request_id": current_request().id,
    }
