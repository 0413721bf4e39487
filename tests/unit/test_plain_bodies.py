"""Bodies of answers whose bytes the kernel moves into a pipe, whatever room that has."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import pytest
import urllib3
from botocore.response import StreamingBody

from dualreg.storage.s3_library import PlainBody

DATA = os.urandom(100_000)
#: Bytes of a pipe of a user who has too many of them.  Source: pipe(7).
ONE_PAGE = os.sysconf("SC_PAGE_SIZE")
LENGTH = b"Content-Length: %d" % len(DATA), DATA
CHUNKS = b"Transfer-Encoding: chunked", b"%x\r\n%b\r\n0\r\n\r\n" % (len(DATA), DATA)


@contextmanager
def answered(header: bytes, body: bytes) -> Iterator[Any]:
    """Yield the body of an answer, as the library has it."""
    with socket.create_server(("127.0.0.1", 0)) as server, urllib3.PoolManager(timeout=60) as pool:

        def serve() -> None:
            client = server.accept()[0]
            with client:
                client.recv(64 << 10)
                client.sendall(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n%b" % (header, body))

        thread = Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        yield StreamingBody(
            pool.request("GET", url, preload_content=False, decode_content=False),  # type: ignore[no-untyped-call]
            len(DATA),
        )
        thread.join()


@pytest.mark.parametrize("room", [ONE_PAGE, 512 << 10])
def test_bytes_are_moved_into_pipes_of_any_size(room: int) -> None:
    """No write waits for room that nobody makes; at the end, the library has its connection back."""
    with answered(*LENGTH) as streaming:
        body, (end, begin) = PlainBody.of(streaming), os.pipe()
        fcntl.fcntl(begin, fcntl.F_SETPIPE_SZ, room)
        os.set_blocking(begin, False)  # so that a write for which there is no room shows
        pieces = []
        while (left := len(DATA) - sum(map(len, pieces))) and (moved := body.move(begin, left, 60)):
            pieces.append(os.read(end, moved))
            assert len(pieces[-1]) == moved
        assert b"".join(pieces) == DATA
        assert streaming._raw_stream.isclosed()
        os.close(begin)
        os.close(end)


def test_chunks_are_not_moved() -> None:
    """The kernel would take what marks them for bytes of the body."""
    with answered(*CHUNKS) as streaming:
        assert PlainBody.of(streaming) is streaming
        assert streaming.read() == DATA
