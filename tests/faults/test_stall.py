"""A worker that is stopped in the middle of an upload, and goes on after another one has taken over."""

import os
import signal
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dualreg.image.digest import Digest
from tests.programs import Serving, children, dualreg_process, until
from tests.protocol.clients.v2 import V2Client

PIECE = bytes(range(256)) * 4096
HELD = b"held!"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The data folder."""
    return tmp_path / "data"


@pytest.fixture
def serving(data: Path) -> Iterator[Serving]:
    """``dualreg serve`` with two workers."""
    with dualreg_process(data, workers=2) as serving:
        yield serving


def begin(serving: Serving, head: str, body: bytes) -> socket.socket:
    """Begin a chunked request, and leave it open after the first chunk."""
    host, _, port = serving.host.partition(":")
    connection = socket.create_connection((host, int(port)), timeout=20)
    head = f"{head} HTTP/1.1\r\nHost: {serving.host}\r\nTransfer-Encoding: chunked\r\n\r\n"
    connection.sendall(head.encode() + f"{len(body):x}\r\n".encode() + body + b"\r\n")
    return connection


def writer(serving: Serving, data: Path) -> int | None:
    """Return the worker that has a staged file open, once it is *PIECE* and what was held before."""
    for worker in children(serving.process.pid):
        for descriptor in Path(f"/proc/{worker}/fd").iterdir():
            try:
                target = descriptor.readlink()
                if target.parent == data / "uploads" and target.stat().st_size == len(HELD + PIECE):
                    return worker
            except FileNotFoundError:
                continue
    return None


@contextmanager
def stopped(worker: int) -> Iterator[None]:
    """Stop a worker for the block."""
    os.kill(worker, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(worker, signal.SIGCONT)


def end_leases(data: Path) -> None:
    """Have all leases run out now."""
    with sqlite3.connect(data / "catalog.sqlite3", timeout=20) as catalog:
        catalog.execute("UPDATE uploads SET lease_until = '2000-01-01 00:00:00.000000'")
    catalog.close()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["PATCH", "PUT"])
@pytest.mark.parametrize("follower", ["PATCH", "PUT"])
def test_late_bytes_do_not_reach_what_is_published(
    serving: Serving, data: Path, method: str, follower: str
) -> None:
    """The stopped worker goes on with its body, and answers that the upload is busy or gone."""
    client = V2Client(serving.host)
    location = client.start_upload("team/app")
    assert client.wire.send("PATCH", location, {}, HELD).status == 202
    wrong, right = HELD + PIECE + b"late", HELD + bytes(reversed(PIECE)) * 2
    query = f"?digest={Digest.of(wrong)}" if method == "PUT" else ""
    with begin(serving, f"{method} {location}{query}", PIECE) as late:
        assert until(lambda: writer(serving, data))
        with stopped(writer(serving, data) or 0):
            other = V2Client(serving.host)
            assert other.wire.send("PATCH", location, {}, b"x").status == 409
            end_leases(data)
            last = right.removeprefix(HELD)
            if follower == "PATCH":
                assert other.wire.send("PATCH", location, {}, last).status == 202
                last = b""
            done = other.wire.send("PUT", f"{location}?digest={Digest.of(right)}", {}, last)
            assert done.status == 201
        late.sendall(b"4\r\nlate\r\n0\r\n\r\n")
        assert int(late.recv(65536).split()[1]) in (404, 409)
    entry = {"digest": str(Digest.of(right)), "size": len(right)}
    assert client.pull_blob("team/app", entry) == right
    assert until(lambda: not [*(data / "uploads").glob("*-*")])
