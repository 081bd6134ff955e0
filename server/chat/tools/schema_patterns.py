"""Regular expressions as JSON schemas have them (ECMA-262), and as the grammar engine takes them. Pure.

The engine has no look-around, no word boundaries, no back-references, and anchors only at the ends. Without its
look-arounds an expression takes more texts than with them, and never fewer.
"""

import re
from dataclasses import dataclass

_MAX_DEPTH = 100
_LOOK_AROUND = ("(?=", "(?!", "(?<=", "(?<!")
_GROUP = re.compile(r"\((?:\?(?::|P?<[^\W\d]\w*>|[imsx-]+:?))?(?!\?)")
_ESCAPE = re.compile(
    r"\\(?:[pP](?:\{[^{}]*\}|[A-Z])|[ux]\{[0-9a-fA-F]{1,6}\}|u(?![dD][89a-fA-F])[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}"
    r"|[dDwWsStnrfvaAz]|[^A-Za-z0-9<>])"
)
_CLASS = re.compile(r"\[\^?(?:\\.|[^\]\\^])(?:\\.|[^\]\\])*\]", re.DOTALL)
_CLASS_ESCAPE = re.compile(r"\\[pPux]\{[^{}]*\}|\\u.{4}|\\x..|\\.", re.DOTALL)
_ESCAPED = re.compile(r"\\.", re.DOTALL)
_REPEAT = re.compile(r"(?:[*+?]|\{[0-9]+(?:,[0-9]*)?\})\??")


@dataclass(slots=True)
class _Branch:
    """Where one level of an expression stands."""

    opened_at_start: bool
    at_start: bool
    at_end: bool = False
    """``$`` has come: nothing may follow."""
    any_at_end: bool = False
    repeatable: bool = False


def is_supported(pattern: str) -> bool:
    """Return whether the engine takes ``pattern``, as far as its form tells. Takes time linear in its length."""
    levels = [_Branch(opened_at_start=True, at_start=True)]
    at = 0
    while at < len(pattern):
        end = _step(pattern, at, levels)
        if end is None or len(levels) > _MAX_DEPTH:
            return False
        at = end
    return len(levels) == 1


def without_look_around(pattern: str) -> str | None:
    """Return ``pattern`` without look-arounds and word boundaries, or None where the rest is not supported."""
    kept: list[str] = []
    at = 0
    while at < len(pattern):
        if pattern.startswith(_LOOK_AROUND, at):
            end = _group_end(pattern, at)
            if end is None:
                return None
            at = end
            continue
        found = _ESCAPED.match(pattern, at) or _CLASS.match(pattern, at)
        if found is None and pattern[at] == "[":
            return None
        text = pattern[at] if found is None else found[0]
        kept.append("" if text in (r"\b", r"\B") else text)
        at += len(text)
    rest = "".join(kept)
    return rest if is_supported(rest) else None


def _step(pattern: str, at: int, levels: list[_Branch]) -> int | None:
    """Go on by one element; return where it ends, or None where it is not supported."""
    here, character = levels[-1], pattern[at]
    if character in "^$|":
        return at + 1 if _anchor(here, character) else None
    if character == ")":
        return _close(levels, at)
    if character in "*+?{":
        repeat = _REPEAT.match(pattern, at)
        return repeat.end() if repeat and here.repeatable else None
    return None if here.at_end else _atom(pattern, at, levels)


def _anchor(here: _Branch, character: str) -> bool:
    """Take an anchor, or the bar between branches; return whether it may stand there."""
    here.repeatable = False
    if character == "^":
        return here.at_start
    if character == "$":
        here.at_end = True
    else:
        here.any_at_end |= here.at_end
        here.at_start, here.at_end = here.opened_at_start, False
    return True


def _atom(pattern: str, at: int, levels: list[_Branch]) -> int | None:
    here, character = levels[-1], pattern[at]
    form = {"(": _GROUP, "[": _CLASS, "\\": _ESCAPE}.get(character)
    found = form.match(pattern, at) if form else None
    if form and (found is None or not _is_class_supported(found[0])):
        return None
    if character == "(":
        levels.append(_Branch(opened_at_start=here.at_start, at_start=here.at_start))
    here.at_start, here.repeatable = False, True
    return at + 1 if found is None else found.end()


def _close(levels: list[_Branch], at: int) -> int | None:
    if len(levels) == 1:
        return None
    closed = levels.pop()
    levels[-1].at_end |= closed.at_end or closed.any_at_end
    return at + 1


def _is_class_supported(text: str) -> bool:
    if not text.startswith("["):
        return True
    return all(_ESCAPE.fullmatch(escape) for escape in _CLASS_ESCAPE.findall(text))


def _group_end(pattern: str, at: int) -> int | None:
    """Return the end of the group that begins at ``at``, or None where it is not closed."""
    depth = 0
    while at < len(pattern):
        if pattern[at] == "\\":
            at += 2
            continue
        if pattern[at] == "[":
            found = _CLASS.match(pattern, at)
            if found is None:
                return None
            at = found.end()
            continue
        depth += {"(": 1, ")": -1}.get(pattern[at], 0)
        at += 1
        if not depth:
            return at
    return None
