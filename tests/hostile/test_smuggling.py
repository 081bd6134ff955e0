"""Requests with two readings: each is refused, and nothing behind it is taken for a request.

The table is of the kinds that broke other servers and proxies; the bytes are tried all, in each place around a header
that frames a body.
"""

import json
from collections.abc import Iterator

import pytest

from tests.support.raw_http import Recorder, exchange, pieces, recording, replies

POST = b"POST /first HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"

HEADS = [
    POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n",
    POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    POST + b"Content-Length: 0\r\nContent-Length: 5\r\n\r\nhello",
    POST + b"Content-Length: 5\r\ncontent-length: 36\r\n\r\nhello",
    POST + b"Content-Length: 5, 5\r\n\r\nhello",
    POST + b"Content-Length: +5\r\n\r\nhello",
    POST + b"Content-Length: -5\r\n\r\nhello",
    POST + b"Content-Length: 5 5\r\n\r\nhello",
    POST + b"Content-Length: 0x5\r\n\r\nhello",
    POST + b"Content-Length: 1_0\r\n\r\nhello",
    POST + b"Content-Length: 5.0\r\n\r\nhello",
    POST + b"Content-Length: 5;\r\n\r\nhello",
    POST + b"Content-Length: \xd9\xa5\r\n\r\nhello",
    POST + b"Content-Length:\r\n\r\nhello",
    POST + b"Content-Length: 18446744073709551621\r\n\r\nhello",
    POST + b"Content-Length : 5\r\n\r\nhello",
    POST + b"Content-Length:\r\n 5\r\n\r\nhello",
    POST + b" Content-Length: 5\r\n\r\nhello",
    b"POST /first HTTP/1.1\r\n Content-Length: 5\r\nHost: x\r\n\r\nhello",
    b"POST /first HTTP/1.1\r\n\tHost: x\r\nContent-Length: 5\r\n\r\nhello",
    POST + b"Transfer-Encoding: identity\r\n\r\nhello",
    POST + b"Transfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello",
    POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: chunked,\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: chunkedx\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: chunk\r\n\r\n0\r\n\r\n",
    POST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
    POST + b"Transfer-Encoding:\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding\x00: chunked\r\n\r\n0\r\n\r\n",
    POST + b"Transfer Encoding: chunked\r\n\r\n0\r\n\r\n",
    POST + b"X: a\r\n folded\r\n\r\n",
    POST + b"X: a\r\n\tTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    POST + b"X: a\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    POST + b"X: a\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    POST + b"X: a\0b\r\n\r\n",
    POST + b"X: a\x01b\r\n\r\n",
    POST + b"X\0: a\r\n\r\n",
    POST + b": a\r\n\r\n",
    POST + b"no colon\r\n\r\n",
    b"GET /first HTTP/1.1\nHost: x\n\n",
    b"GET /first HTTP/1.1\r\nHost: x\n\r\n",
    b"GET /first HTTP/1.1\r\nHost: x\r\n\n",
    b"GET /first HTTP/1.1\rHost: x\r\n\r\n",
    b"GET /first HTTP/1.1\r\nHost: x\r\n\rX",
    b"GET /first\r\n\r\n",
    b"GET /first HTTP/0.9\r\nHost: x\r\n\r\n",
    b"GET /first HTTP/1.2\r\nHost: x\r\n\r\n",
    b"GET /first HTTP/1.10\r\nHost: x\r\n\r\n",
    b"GET /first HTTP/3.0\r\nHost: x\r\n\r\n",
    b"GET /first HTTP/1.1 \r\nHost: x\r\n\r\n",
    b"GET /first http/1.1\r\nHost: x\r\n\r\n",
    b"GET /fi rst HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET\t/first\tHTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET first HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"NONE /first HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /first HTTP/1.1\r\n\r\n",
    b"GET /first HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
    b"GET /first HTTP/1.1\r\nHost: x\r\nhost: y\r\n\r\n",
    b"GET /first HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n",
    b"GET /first HTTP/1.1\r\nHost: x, y\r\n\r\n",
    b"GET /first HTTP/1.1\r\nHost: x y\r\n\r\n",
    b"GET /first HTTP/1.1\r\nHost: user@x\r\n\r\n",
    b"GET /first HTTP/1.1\r\nHost: x/y\r\n\r\n",
    b"POST /first HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
]

BODIES = [
    CHUNKED + b"5\nhello\r\n0\r\n\r\n",
    CHUNKED + b"5\r\nhello\n0\r\n\r\n",
    CHUNKED + b"5\r\nhelloXX0\r\n\r\n",
    CHUNKED + b"5\r\nhello\r\n0\n\n",
    CHUNKED + b"5\r\nhello\r\n0\r\n\n",
    CHUNKED + b"5\rhello\r\n0\r\n\r\n",
    CHUNKED + b" 5\r\nhello\r\n0\r\n\r\n",
    CHUNKED + b"5 \r\nhello\r\n0\r\n\r\n",
    CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n",
    CHUNKED + b"+5\r\nhello\r\n0\r\n\r\n",
    CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n",
    CHUNKED + b"0_5\r\nhello\r\n0\r\n\r\n",
    CHUNKED + b"\r\nhello\r\n0\r\n\r\n",
    CHUNKED + b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    CHUNKED + b"5;a\nhello\r\n0\r\n\r\n",
    CHUNKED + b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    CHUNKED + b'5;a="\r\n"\r\nhello\r\n0\r\n\r\n',
    CHUNKED + b"5 ;a=b\r\nhello\r\n0\r\n\r\n",
    CHUNKED + b"5;\0\r\nhello\r\n0\r\n\r\n",
    CHUNKED + b"0\r\nContent-Length: 36\r\n\r\n",
    CHUNKED + b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
    CHUNKED + b"0\r\nX: a\nY: b\r\n\r\n",
    CHUNKED + b"0\r\n X: a\r\n\r\n",
]


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, Recorder]]:
    with recording() as found:
        yield found


@pytest.mark.parametrize("sent", [*HEADS, *BODIES], ids=repr)
def test_what_can_be_read_in_two_ways_is_refused_and_ends_the_connection(
    server: tuple[str, Recorder], sent: bytes
) -> None:
    url, recorder = server
    recorder.seen.clear()
    for size in (10**6, 3):
        (reply,) = replies(exchange(url, pieces(sent + SMUGGLED, size)))
        assert reply.status == 400
        assert json.loads(reply.body)["error"]["code"] == "malformed_request"
        assert reply.values("connection") == ["close"]
        assert reply.values("cache-control") == ["no-store"]
    assert set(recorder.seen) <= {"POST /first"}
    assert not recorder.seen or sent in BODIES


PLACES = {
    "before the name": lambda name, byte, value: byte + name + b": " + value,
    "in the name": lambda name, byte, value: name[:4] + byte + name[4:] + b": " + value,
    "after the name": lambda name, byte, value: name + byte + b": " + value,
    "before the value": lambda name, byte, value: name + b":" + byte + value,
    "in the value": lambda name, byte, value: name + b": " + value[:1] + byte + value[1:],
    "after the value": lambda name, byte, value: name + b": " + value + byte,
    "around the value": lambda name, byte, value: name + b": " + byte + value + byte,
}
FRAMES = {
    "length": (b"Content-Length", b"%d" % len(SMUGGLED), SMUGGLED),
    "chunked": (b"Transfer-Encoding", b"chunked", b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("frame", FRAMES)
def test_no_byte_beside_a_header_that_frames_a_body_gives_it_another_meaning(
    server: tuple[str, Recorder], frame: str, place: str
) -> None:
    """Where such a request is taken, the header says what it says without the byte, or is one of another name."""
    url, recorder = server
    name, value, body = FRAMES[frame]
    taken = set()
    for byte in map(bytes, zip(range(256))):
        if byte.isdigit() and frame == "length" and "value" in place:
            continue  # another length
        line = PLACES[place](name, byte, value)
        recorder.seen.clear()
        head = b"POST /first HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + line + b"\r\n\r\n"
        (reply,) = replies(exchange(url, head + body))
        if reply.status != 200:
            assert reply.status == 400
            assert not any("smuggled" in one for one in recorder.seen)
            continue
        taken.add(byte)
        assert reply.json()["body"] == ("" if "name" in place else SMUGGLED.decode())
        assert recorder.seen == ["POST /first"]
    assert taken == _taken(frame, place)


def _taken(frame: str, place: str) -> set[bytes]:
    """Return the bytes with which a request is one all the same."""
    if "name" in place:
        token = {bytes([number]) for number in range(33, 127) if chr(number) not in '"(),/:;<=>?@[\\]{}'}
        return token | ({b":"} if place == "in the name" else set())
    if place == "in the value":
        return set()
    if frame == "chunked" and place != "before the value":
        return {b" "}  # a tab would be right as well
    return {b" ", b"\t"}


def test_a_refusal_waits_for_the_answers_before_it(server: tuple[str, Recorder]) -> None:
    """It used to be written into the middle of the answer that was on its way."""
    url, _ = server
    for bad in (b"\0\r\n\r\n", POST + b"Content-Length: x\r\n\r\n", CHUNKED + b"zz\r\n"):
        slow, parts, refused = replies(
            exchange(url, b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\nGET /parts HTTP/1.1\r\nHost: x\r\n\r\n" + bad)
        )
        assert (slow.status, parts.status, refused.status) == (200, 200, 400)
        assert slow.json()["path"] == "/slow"
        assert parts.json()["path"] == "/parts"


def test_what_follows_a_body_is_not_taken_for_headers(server: tuple[str, Recorder]) -> None:
    url, _ = server
    trailers = b"Authorization: Bearer forged\r\nX-Forwarded-For: 1.2.3.4\r\n"
    ended = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    slow = CHUNKED.replace(b"/first", b"/slow")
    first, _ = replies(exchange(url, [slow + b"2\r\nhi\r\n", b"0\r\n" + trailers + b"\r\n" + ended]))
    assert first.json()["body"] == "hi"
    assert sorted(first.json()["headers"]) == ["host", "transfer-encoding"]


@pytest.mark.parametrize(
    "filler",
    [
        b"0\r\nX: " + b"x" * 200_000,
        b"0\r\n" + b"X: y\r\n" * 40_000,
        b"1;" + b"x" * 200_000,
        b"1;yyyyyyyyyyyyyyyyyyyyyyyy\r\nx\r\n" * 9000,
    ],
    ids=["a trailer", "trailers", "an extension", "extensions"],
)
def test_what_a_body_has_beside_its_content_is_bounded(server: tuple[str, Recorder], filler: bytes) -> None:
    (reply,) = replies(exchange(server[0], [CHUNKED, *pieces(filler, 10_000)]))
    assert reply.status in (400, 431)


def test_a_body_in_the_smallest_chunks_is_taken(server: tuple[str, Recorder]) -> None:
    url, _ = server
    ended = b"0\r\n\r\nGET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    first, _ = replies(exchange(url, [CHUNKED, *[b"1\r\nx\r\n" * 10_000] * 5, ended]))
    assert first.json()["body"] == "x" * 50_000


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (bytes.fromhex("16030100c8010000c40303") + bytes(60), "https://"),
        (b"hello\r\n\r\n", "not a valid HTTP/1.1 request"),
        (b"\0" * 100, "not a valid HTTP/1.1 request"),
    ],
)
def test_what_is_no_http_is_told_so(
    server: tuple[str, Recorder], caplog: pytest.LogCaptureFixture, sent: bytes, told: str
) -> None:
    (reply,) = replies(exchange(server[0], sent))
    assert reply.status == 400
    assert told in json.loads(reply.body)["error"]["message"]
    assert ("a client sent TLS" in caplog.text) == ("https" in told)
