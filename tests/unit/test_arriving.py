"""Requests that arrive in parts of any size."""

import time

import pytest

from dualreg.cli.connection import Arriving
from dualreg.web.slots import SMALL_BODY

LINE = b"PUT /v2/a/manifests/b HTTP/1.1\r\n"


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
@pytest.mark.parametrize(
    ("head", "body", "waits"),
    [
        (LINE + b"Host: x\r\nContent-Length: 9\r\n\r\n", b"\r\n\r\n56789", True),
        (LINE + b"content-length:\t9\r\nHost: x\r\n\r\n", b"123456789", True),
        (LINE + b"Content-Length: 9\r\nExpect: 100-continue\r\n\r\n", b"123456789", False),
        (LINE + b"Content-Length: %d\r\n\r\n" % (SMALL_BODY + 1), b"123456789", False),
        (LINE + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n0\r\n\r\n", False),
        (LINE + b"\r\n", b"", False),
        (LINE + b"\r\n", b"\r\nContent-Length: 99\r\nExpect: x\r\n\r\n", False),
    ],
)
def test_when_a_request_is_handled(head: bytes, body: bytes, size: int, *, waits: bool) -> None:
    """As soon as its head has arrived, or its body if that is small and comes unasked; not before."""
    arriving, sent = Arriving(), head + body
    ready_at = len(head) + len(body) * waits
    for at in range(0, len(sent), size):
        arriving.add(sent[at : at + size])
        arrived = min(at + size, len(sent))
        assert (arriving.has_head, arriving.is_ready) == (arrived >= len(head), arrived >= ready_at)
    assert arriving.data == sent


def test_small_parts_cost_little() -> None:
    """A long head is not searched again for each part, neither before its end nor while the body arrives."""
    head = LINE + b"Content-Length: %d\r\n" % SMALL_BODY + b"X: y\r\n" * 40_000
    arriving, began = Arriving(), time.process_time()
    for byte in [*head, *b"\r\n", *bytes(SMALL_BODY)]:
        arriving.add(bytes((byte,)))
    assert arriving.is_ready
    assert time.process_time() - began < 3  # it takes 0.2 s; searches of all that has arrived took a minute
