"""The line between what trains and what is held out: a checksum, so that it depends on no order and no state."""

import zlib


def held_out(key: str, one_in: int) -> bool:
    """Say whether ``key`` belongs to the held-out part, which is one ``one_in``-th of all keys."""
    return zlib.crc32(key.encode("utf-8")) % one_in == 0
