"""Recognises files that are no GGUF: a web page, a Git LFS pointer, another format of weights. Pure."""

import codecs
from dataclasses import dataclass

_PAGES = (b"<!doctype html", b"<html", b"<head", b"<?xml", b"<!--")
_LFS = b"version https://git-lfs"


@dataclass(frozen=True, slots=True)
class OtherContent:
    """The recognised content."""

    what: str
    """Follows the name of the file."""
    advice: str


_DOWNLOAD = "download the file again"
_CHECKPOINT = "give the folder of the checkpoint, which is converted"

_STARTS = (
    (b"PK\x03\x04", OtherContent("is a zip archive, as torch.save writes it", _CHECKPOINT)),
    *(
        (magic, OtherContent("is in a format that came before GGUF", "convert the checkpoint again"))
        for magic in (b"lmgg", b"fmgg", b"tjgg")
    ),
)


def other_content(start: bytes) -> OtherContent | None:
    """Recognise a file by its first bytes; None if it is unknown or empty."""
    for magic, known in _STARTS:
        if start.startswith(magic):
            return known
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 1 << 30:
        return OtherContent("is a safetensors file", _CHECKPOINT)
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    return _other_text(text) if text and _is_text(start) else None


def _other_text(text: bytes) -> OtherContent:
    if text.startswith(_LFS):
        return OtherContent("is a pointer of Git LFS, not the file itself", "get the file with git lfs pull")
    if text.lower().startswith(_PAGES):
        return OtherContent("is a web page (HTML), such as the error page of a download", _DOWNLOAD)
    kind = "JSON" if text[:1] in (b"{", b"[") else "text"
    shown = text[:40].decode("utf-8", "replace")
    return OtherContent(f"is {kind}, not a model; it begins with {shown!r}", _DOWNLOAD)


def _is_text(start: bytes) -> bool:
    """Tell whether the bytes are UTF-8 without control characters, up to a character that the end cuts off."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return False
    return not any(byte < 32 and byte not in b"\t\n\f\r" for byte in start)
