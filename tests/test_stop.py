"""Graceful stops and reloads: uploads keep what has arrived, and no connection is reset."""

import http.client
import json
import os
import signal
import ssl
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from dualreg.image.digest import Digest
from tests import builders
from tests.programs import (
    DUALREG,
    Process,
    children,
    dualreg_process,
    dualreg_server,
    free_port,
    running,
    until,
    wait_for,
    wait_until_up,
)
from tests.protocol.clients.v1 import V1Client
from tests.protocol.clients.wire import Wire
from tests.test_refusals import read_answer
from tests.test_silence import connect, head
from tests.test_tls import make_certificate, served

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
CONTENT = os.urandom(900_000)
#: How much of it arrives before the stop: more than a read, and no multiple of anything.
ARRIVED = 300_001
SIGNALS = {"stop": signal.SIGTERM, "reload": signal.SIGHUP}


@contextmanager
def impatient(data: Path, *more: str | Path) -> Iterator[tuple[str, Process]]:
    """Run a server that waits one second for uploads when it stops, with *more* options."""
    host, log = f"127.0.0.1:{free_port()}", data.parent / "impatient.log"
    options = ["--chdir", ROOT, "--bind", host, "-k", "dualreg.cli.worker.Worker", "--threads", "4"]
    options += ["--graceful-timeout", "11", "--timeout", "0", "--no-control-socket"]
    command = [DUALREG.with_name("gunicorn"), *options, *more, "wsgi:app"]
    with running(command, log, {"DUALREG_DATA": str(data)}) as process:
        if more:
            wait_for(lambda: served(host), process, log)
        else:
            wait_until_up(f"http://{host}/v2/", process, log)
        yield host, process
    assert "Traceback" not in log.read_text()


#: Serves, with workers that say so and wait before they begin what the first argument names.
SLOW_START = """
import sys, time
from dualreg.cli import main, serve
moment = sys.argv.pop(1)
owner = serve.Worker if moment == "init_process" else serve._Server
real = getattr(owner, moment)
setattr(owner, moment, lambda self: (print("forked", flush=True), time.sleep(2), real(self))[2])
main()
"""


@pytest.mark.parametrize("moment", ["init_process", "load"])
def test_a_stop_right_after_a_fork_is_not_lost(tmp_path: Path, moment: str) -> None:
    """The worker has not said yet what it does on signals, or makes the application."""
    log, options = tmp_path / "log", ["--bind", f"127.0.0.1:{free_port()}", "--data", tmp_path / "data"]
    with running([sys.executable, "-c", SLOW_START, moment, "serve", *options], log) as process:
        wait_for(lambda: log.read_text().count("forked") == 2, process, log)
        began = time.monotonic()
        process.terminate()
        assert process.wait(60) == 0
        assert time.monotonic() - began < 25  # a server kills workers after 30


def chunked(data: bytes) -> bytes:
    """Return *data* in chunks of several sizes, without the last one."""
    sizes = [1, 8_000, 100_000, len(data) - 108_001]
    parts, at = [], 0
    for size in sizes:
        parts.append(f"{size:x}\r\n".encode() + data[at : at + size] + b"\r\n")
        at += size
    return b"".join(parts)


def begin(
    method: str, path: str, *, in_chunks: bool = False, headers: Mapping[str, str] | None = None
) -> bytes:
    """Return the beginning of an upload of CONTENT."""
    lines = [f"{name}: {value}" for name, value in (headers or {}).items()]
    lines += ["Transfer-Encoding: chunked" if in_chunks else f"Content-Length: {len(CONTENT)}"]
    arrived = CONTENT[:ARRIVED]
    return head(method, path, *lines) + (chunked(arrived) if in_chunks else arrived)


@pytest.mark.parametrize("how", SIGNALS)
@pytest.mark.parametrize("kind", ["PATCH", "PATCH in chunks", "PUT", "PUT in chunks"])
def test_an_upload_that_takes_too_long_keeps_what_arrived(tmp_path: Path, kind: str, how: str) -> None:
    """The client is asked to come back, and goes on where it was: with the next server, or another worker."""
    method, digest = kind.partition(" ")[0], Digest.of(CONTENT)
    with impatient(tmp_path / "data") as (host, process):
        location = Wire(host).send("POST", "/v2/late/blobs/uploads/").headers["location"]
        path = location if method == "PATCH" else f"{location}?digest={digest}"
        with closing(connect(host)) as connection:
            connection.sendall(begin(method, path, in_chunks="chunks" in kind))
            time.sleep(0.5)
            process.send_signal(SIGNALS[how])
            status, headers, body = read_answer(connection)
        assert (status, headers["retry-after"], headers["connection"]) == (503, "5", "close")
        assert json.loads(body)["errors"][0]["message"].startswith("the server is stopping")
        if how == "stop":
            assert process.wait(25) == 0
            with dualreg_server(tmp_path / "data") as following:
                resume(following, location, digest)
        else:
            resume(host, location, digest)


def resume(host: str, location: str, digest: Digest) -> None:
    """Send the rest of an upload as a client that asks how far it came."""
    wire = Wire(host)
    held = wire.send("GET", location)
    assert (held.status, held.headers["range"]) == (204, f"0-{ARRIVED - 1}")
    assert wire.send("PATCH", held.headers["location"], {}, CONTENT[ARRIVED:]).status == 202
    assert wire.send("PUT", f"{location}?digest={digest}").status == 201
    assert wire.send("GET", f"/v2/late/blobs/{digest}").body == CONTENT


def test_an_upload_over_tls_keeps_what_arrived(tmp_path: Path) -> None:
    """Looking every second whether the server stops loses no byte of the stream."""
    chain, key = make_certificate(tmp_path, "stop")
    with impatient(tmp_path / "data", "--certfile", chain, "--keyfile", key) as (host, process):
        context = ssl.create_default_context(cafile=chain)
        with closing(http.client.HTTPSConnection(host, timeout=20, context=context)) as wire:
            wire.request("POST", "/v2/late/blobs/uploads/")
            answer = wire.getresponse()
            location = answer.headers["location"]
            answer.read()
        with context.wrap_socket(connect(host), server_hostname="127.0.0.1") as connection:
            connection.sendall(begin("PATCH", location)[:-1])
            time.sleep(1.5)
            connection.sendall(CONTENT[ARRIVED - 1 : ARRIVED])
            process.send_signal(signal.SIGTERM)
            assert read_answer(connection)[0] == 503
        assert process.wait(25) == 0
    with dualreg_server(tmp_path / "data") as following:
        resume(following, location, Digest.of(CONTENT))


def test_v1_sends_a_layer_again(tmp_path: Path) -> None:
    """Its API cannot continue: what arrived is discarded, and the layer can be sent anew."""
    chain = builders.v1_chain(builders.layer({"a": b"1"}))
    with impatient(tmp_path / "data") as (host, process):
        wire = Wire(host)
        begun = wire.send("PUT", "/v1/repositories/late/", {"X-Docker-Token": "true"}, b"[]")
        token = {"Authorization": f"Token {begun.headers['x-docker-token']}"}
        path = f"/v1/images/{chain[0].id}"
        assert wire.send("PUT", f"{path}/json", token, chain[0].json).status == 200
        with closing(connect(host)) as connection:
            connection.sendall(begin("PUT", f"{path}/layer", in_chunks=True, headers=token))
            time.sleep(0.5)
            process.send_signal(signal.SIGTERM)
            status, headers, body = read_answer(connection)
        assert (status, headers["retry-after"]) == (503, "5")
        assert json.loads(body)["error"].startswith("the server is stopping")
        assert process.wait(25) == 0
    assert not [
        file for file in (tmp_path / "data").rglob("*") if file.is_file() and file.stat().st_size == ARRIVED
    ]
    with dualreg_server(tmp_path / "data") as following:
        V1Client(following).push("late", "1", chain)
        assert V1Client(following).pull("late", "1")[0].layer == chain[0].layer


@pytest.mark.parametrize("path", ["/v2/", "/v1/_ping", "/_ping"])
def test_new_connections_are_told_that_the_server_stops(tmp_path: Path, path: str) -> None:
    """As long as an upload keeps it alive, in each dialect; the upload still succeeds."""
    target = f"/v2/late/blobs/uploads/?digest={Digest.of(CONTENT)}"
    with dualreg_process(tmp_path / "data") as (host, process, _):
        with closing(connect(host)) as connection:
            connection.sendall(begin("POST", target))
            time.sleep(0.5)
            process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            for _ in range(20):
                with closing(connect(host)) as late:
                    late.sendall(head("GET", path))
                    status, headers, body = read_answer(late)
                assert (status, headers["retry-after"], headers["connection"]) == (503, "5", "close")
                assert b"the server is stopping" in body
                assert path == "/_ping" or json.loads(body)
            connection.sendall(CONTENT[ARRIVED:])
            assert read_answer(connection)[0] == 201
        assert process.wait(25) == 0


def test_new_connections_of_a_reload_are_for_the_next_workers(tmp_path: Path) -> None:
    """While the workers before them still receive an upload, which succeeds."""
    target = f"/v2/late/blobs/uploads/?digest={Digest.of(CONTENT)}"
    with dualreg_process(tmp_path / "data", workers=1) as (host, process, _):
        with closing(connect(host)) as connection:
            connection.sendall(begin("POST", target))
            time.sleep(0.5)
            (before,) = children(process.pid)
            process.send_signal(signal.SIGHUP)
            assert until(lambda: len(children(process.pid)) > 1)
            for _ in range(100):
                assert Wire(host).send("GET", "/v2/").status == 200
            assert before in children(process.pid)
            connection.sendall(CONTENT[ARRIVED:])
            assert read_answer(connection)[0] == 201
        assert until(lambda: before not in children(process.pid))
        assert Wire(host).send("GET", f"/v2/late/blobs/{Digest.of(CONTENT)}").body == CONTENT


@pytest.mark.parametrize("how", SIGNALS)
def test_open_connections_end_between_requests(tmp_path: Path, how: str) -> None:
    """An idle one ends without a reset, one that sends a request meanwhile, or half of one, is answered."""
    with dualreg_process(tmp_path / "data", workers=1) as (host, process, _):
        idle, late, half = (connect(host) for _ in range(3))
        for connection in (idle, late):
            connection.sendall(head("GET", "/v2/"))
            received = b""
            while not received.endswith(b"\r\n\r\n{}"):
                received += connection.recv(1 << 16)
        half.sendall(head("GET", "/v2/")[:20])
        time.sleep(0.3)
        process.send_signal(SIGNALS[how])
        time.sleep(0.7)
        late.sendall(head("GET", "/v2/"))
        answers = [read_answer(late)]
        assert idle.recv(1) == b""
        half.sendall(head("GET", "/v2/")[20:])
        answers.append(read_answer(half))
        assert [(status, headers["connection"]) for status, headers, _ in answers] == [(200, "close")] * 2
        for connection in (idle, late, half):
            connection.close()
        assert how == "reload" or process.wait(25) == 0


def test_a_request_that_was_sent_before_the_stop_is_answered(tmp_path: Path) -> None:
    """Even if its connection was not accepted yet."""
    with dualreg_process(tmp_path / "data", workers=1) as (host, process, _):
        (worker,) = children(process.pid)
        os.kill(worker, signal.SIGSTOP)
        waiting = [connect(host) for _ in range(20)]
        for connection in waiting:
            connection.sendall(head("GET", "/v2/"))
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        os.kill(worker, signal.SIGCONT)
        assert {read_answer(connection)[0] for connection in waiting} <= {200, 503}
        for connection in waiting:
            connection.close()
        assert process.wait(25) == 0


@pytest.mark.parametrize("again", [False, True], ids=["once", "twice"])
def test_ctrl_c_lets_requests_finish(tmp_path: Path, again: bool) -> None:  # noqa: FBT001 -- a case
    """A terminal sends it to all processes; a second one ends them at once."""
    target = f"/v2/late/blobs/uploads/?digest={Digest.of(CONTENT)}"
    with dualreg_process(tmp_path / "data") as (host, process, _):
        with closing(connect(host)) as connection:
            connection.sendall(begin("POST", target))
            time.sleep(0.5)
            for pid in (process.pid, *children(process.pid)):
                os.kill(pid, signal.SIGINT)
            time.sleep(1)
            if again:
                process.send_signal(signal.SIGINT)
            else:
                connection.sendall(CONTENT[ARRIVED:])
                assert read_answer(connection)[0] == 201
        assert process.wait(15 if again else 25) == 0
