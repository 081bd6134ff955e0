"""Pages of the items that a response was made from."""

from collections.abc import Mapping, Sequence

from glmserve.api.openai.responses.response_types import InputItems
from glmserve.http.errors import InvalidRequest

_DEFAULT_LIMIT = 20
_MAX_LIMIT = 100


def page(items: Sequence[dict[str, object]], query: Mapping[str, str]) -> InputItems:
    """Return the items that ``query`` asks for: ``order`` (the latest first by default), ``after`` an id, ``limit``.

    Raises:
        InvalidRequest: one of these has a wrong value, or no item is called ``after``.
    """
    order, limit = query.get("order", "desc"), query.get("limit", str(_DEFAULT_LIMIT))
    if order not in ("asc", "desc"):
        raise InvalidRequest("order must be 'asc' or 'desc'", param="order")
    if not (limit.isdecimal() and len(limit) < 4 and 1 <= int(limit) <= _MAX_LIMIT):
        raise InvalidRequest(f"limit must be a number from 1 to {_MAX_LIMIT}", param="limit")
    ordered = list(items) if order == "asc" else list(reversed(items))
    ids = [item["id"] for item in ordered]
    after = query.get("after")
    if after is not None and after not in ids:
        raise InvalidRequest("after must be the id of one of the items", param="after")
    start = 0 if after is None else ids.index(after) + 1
    shown, rest = ordered[start : start + int(limit)], ordered[start + int(limit) :]
    ends = [str(item["id"]) for item in shown] or [""]
    return {"object": "list", "data": shown, "first_id": ends[0], "last_id": ends[-1], "has_more": bool(rest)}
