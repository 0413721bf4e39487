"""A worker that is killed in the middle of a request takes nothing with it that was answered for."""

import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from dualreg.image.digest import Digest
from tests import builders
from tests.programs import children, free_port, running, until, wait_until_up
from tests.protocol.clients.v1 import V1Client, session
from tests.protocol.clients.v2 import V2Client

PIECE = bytes(range(256)) * 4096


class Server(NamedTuple):
    """A server of one worker, started by us."""

    host: str
    data: Path
    pid: int

    def worker(self) -> int:
        """Return the worker's process id."""
        return children(self.pid)[0]

    def kill_worker(self) -> None:
        """Kill it without a warning, and wait for its successor."""
        victim = self.worker()
        os.kill(victim, signal.SIGKILL)
        assert until(lambda: {*children(self.pid)} - {victim} and victim not in children(self.pid), 15)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """``dualreg serve`` with one worker."""
    port, log = free_port(), tmp_path / "log"
    env = {
        "DUALREG_BIND": f"127.0.0.1:{port}",
        "DUALREG_DATA": str(tmp_path / "data"),
        "DUALREG_WORKERS": "1",
    }
    with running([Path(sys.executable).with_name("dualreg"), "serve"], log, env) as process:
        wait_until_up(f"http://127.0.0.1:{port}/v2/", process, log)
        yield Server(f"127.0.0.1:{port}", tmp_path / "data", process.pid)


def begin(host: str, head: str, body: bytes, authorization: str = "") -> socket.socket:
    """Begin a chunked request, and leave it open after the first chunk."""
    name, _, port = host.partition(":")
    connection = socket.create_connection((name, int(port)), timeout=20)
    start = f"{head} HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n"
    start += f"Authorization: {authorization}\r\n\r\n" if authorization else "\r\n"
    connection.sendall(start.encode() + f"{len(body):x}\r\n".encode() + body + b"\r\n")
    return connection


def staged(server: Server) -> list[int]:
    """Return the sizes of all staged files."""
    return [path.stat().st_size for path in (server.data / "uploads").glob("*-*")]


def wait_for_bytes(server: Server, count: int) -> None:
    """Wait until *count* bytes of one upload are in its file."""
    deadline = time.monotonic() + 15
    while count not in staged(server):
        assert time.monotonic() < deadline, staged(server)
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_an_upload_survives_its_worker(server: Server, method: str) -> None:
    """GET says what is durable, and the client goes on from there at once."""
    client = V2Client(server.host)
    held, whole = b"held!", b"held!" + PIECE + b"end"
    location = client.start_upload("team/app")
    assert client.wire.send("PATCH", location, {}, held).status == 202
    query = f"?digest={Digest.of(whole)}" if method == "PUT" else ""
    with begin(server.host, f"{method} {location}{query}", PIECE):
        wait_for_bytes(server, len(held) + len(PIECE))
        server.kill_worker()
    status = client.wire.send("GET", location)
    assert (status.status, status.headers["range"]) == (204, "0-4")
    place = {"Content-Range": f"5-{len(PIECE) + 4}"}
    patched = client.wire.send("PATCH", location, place, PIECE)
    assert (patched.status, patched.headers["range"]) == (202, f"0-{len(PIECE) + 4}")
    done = client.wire.send("PUT", f"{location}?digest={Digest.of(whole)}", {}, b"end")
    assert done.status == 201
    assert client.wire.send("GET", done.headers["location"]).body == whole


@pytest.mark.slow
def test_a_v1_layer_is_sent_again(server: Server) -> None:
    """The image stays as incomplete as it was; a new push of it succeeds."""
    (image,) = builders.v1_chain(builders.layer({"a": os.urandom(1 << 16)}))
    client = V1Client(server.host)
    headers = session(client.wire, "team/app")
    assert client.wire.send("PUT", f"/v1/images/{image.id}/json", headers, image.json).status == 200
    with begin(server.host, f"PUT /v1/images/{image.id}/layer", image.layer, headers["Authorization"]):
        time.sleep(0.3)
        server.kill_worker()
    probe = client.wire.send("GET", f"/v1/images/{image.id}/json", headers)
    assert probe.status == 400
    assert client.push("team/app", "latest", [image]) == [image.id]
    (pulled,) = client.pull("team/app", "latest")
    assert pulled.layer == image.layer
    assert len(V2Client(server.host).pull("team/app", "latest").layers) == 1
