"""Silent and slow clients: none of them stops others, and each is given up after ``client_timeout``."""

import http.client
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest

from dualreg.image.digest import Digest
from tests.programs import DUALREG, Serving, dualreg_process, free_port, running, wait_for, wait_until_up
from tests.protocol.clients.wire import Wire
from tests.test_tls import make_certificate, served

pytestmark = pytest.mark.slow

THREADS, CLIENTS = 4, 10
BLOB = bytes(8 << 20)
BLOB_PATH = f"/v2/slow/blobs/{Digest.of(BLOB)}"
LARGE = 1 << 20


def serve(folder: Path, **settings: str) -> AbstractContextManager[Serving]:
    """Run a server of one process with THREADS threads."""
    return dualreg_process(folder / "data", workers=1, threads=THREADS, **settings)


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """HOST:PORT of a server that gives clients more time than a test takes, and has BLOB."""
    with serve(tmp_path_factory.mktemp("patient"), client_timeout="10m") as (host, _, _):
        stored = Wire(host).send("POST", f"/v2/slow/blobs/uploads/?digest={Digest.of(BLOB)}", {}, BLOB)
        assert stored.status == 201
        yield host


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """HOST:PORT of a server that gives clients a second, and has BLOB."""
    with serve(tmp_path_factory.mktemp("hasty"), client_timeout="1s") as (host, _, log):
        stored = Wire(host).send("POST", f"/v2/slow/blobs/uploads/?digest={Digest.of(BLOB)}", {}, BLOB)
        assert stored.status == 201
        yield host
        assert "Traceback" not in log.read_text()


def connect(host: str) -> socket.socket:
    """Connect with a small receive buffer, which a server fills at once."""
    name, _, port = host.rpartition(":")
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(20)
    connection.connect((name, int(port)))
    return connection


def start_upload(host: str) -> str:
    """Start an upload; return its path."""
    return Wire(host).send("POST", "/v2/slow/blobs/uploads/").headers["location"]


def head(method: str, path: str, *lines: str) -> bytes:
    """Return the head of a request."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: registry", *lines, "", ""]).encode()


#: What each client of a kind sends before it falls silent.
KINDS: dict[str, Callable[[str], bytes]] = {
    "nothing": lambda _: b"",
    "half a request line": lambda _: b"GET /v2/slow",
    "a request, then half a head": lambda _: head("GET", "/v2/_catalog?n=1") + head("GET", "/v2/")[:-2],
    "half a head": lambda _: head("GET", "/v2/_catalog")[:-2],
    "a byte of a manifest": lambda _: head("PUT", "/v2/slow/manifests/1", "Content-Length: 60000") + b"{",
    "a byte of a large manifest": lambda _: (
        head("PUT", "/v2/slow/manifests/1", f"Content-Length: {LARGE}") + b"{"
    ),
    "a byte that it asked to send": lambda _: (
        head("PUT", "/v2/slow/manifests/1", "Content-Length: 9", "Expect: 100-continue") + b"{"
    ),
    "a byte of V1 JSON": lambda _: (
        head("PUT", "/v1/repositories/slow/", "Transfer-Encoding: chunked") + b"1\r\n[\r\n"
    ),
    "a byte of an upload": lambda host: head("PATCH", start_upload(host), f"Content-Length: {LARGE}") + b"1",
    "a byte of a chunked upload": lambda host: (
        head("PATCH", start_upload(host), "Transfer-Encoding: chunked") + b"1\r\n1\r\n"
    ),
    "a byte of a refused body": lambda _: (
        head("PUT", "/v2/UPPER/manifests/1", f"Content-Length: {LARGE}") + b"1"
    ),
    "a body that nobody reads": lambda _: head("GET", "/v2/_catalog", f"Content-Length: {LARGE}"),
    "a request for a blob": lambda _: head("GET", BLOB_PATH),
    "a request for ranges": lambda _: head("GET", BLOB_PATH, "Range: bytes=0-4000000,4100000-"),
    "a last request": lambda _: head("GET", "/v2/_catalog", "Connection: close"),
}


@contextmanager
def silent(host: str, kind: str, clients: int = CLIENTS) -> Iterator[list[socket.socket]]:
    """Keep *clients* connections of a kind open for the block."""
    with ExitStack() as stack:
        connections = []
        for _ in range(clients):
            connection = stack.enter_context(closing(connect(host)))
            connection.sendall(KINDS[kind](host))
            connections.append(connection)
        yield connections


@pytest.mark.parametrize("kind", KINDS)
def test_silent_clients_stop_nobody(patient: str, kind: str) -> None:
    """While more of them than threads wait, others push small documents, read, and ask for health at once."""
    with silent(patient, kind):
        began = time.monotonic()
        for method, path, body in (
            ("GET", "/v2/", b""),
            ("GET", "/_status", b""),
            ("GET", "/v1/search?q=other", b""),
            ("PUT", "/v1/repositories/other/", b"[]"),
        ):
            assert Wire(patient).send(method, path, {}, body).status == 200, path
        assert time.monotonic() - began < 3


@pytest.mark.parametrize("kind", KINDS)
def test_silent_clients_are_given_up(hasty: str, kind: str) -> None:
    """After ``client_timeout`` the connection ends, with or without a response."""
    with silent(hasty, kind, clients=1) as (connection,):
        deadline, received = time.monotonic() + 10, 0
        # What the buffers hold comes anyway; Linux 6.18 lets them grow once more after the first second.
        time.sleep(4 if kind.startswith("a request") else 0)
        with suppress(ConnectionResetError):
            while data := connection.recv(1 << 16):
                received += len(data)
        assert received < len(BLOB)
        assert time.monotonic() < deadline


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v2/slow/blobs/uploads/?digest=sha256:" + "0" * 64, "TOOMANYREQUESTS"),
        (BLOB_PATH, "TOOMANYREQUESTS"),
    ],
    ids=["upload", "download"],
)
@pytest.mark.parametrize("kind", ["a byte of an upload", "a request for a blob"])
def test_uploads_and_downloads_leave_threads_to_others(patient: str, kind: str, path: str, code: str) -> None:
    """The last quarter of the threads is not theirs: they are asked to come back."""
    method, body = ("POST", bytes(LARGE)) if "uploads" in path else ("GET", b"")
    with silent(patient, kind):
        time.sleep(0.3)
        answer = Wire(patient).send(method, path, {}, body)
        assert (answer.status, answer.headers["retry-after"]) == (429, "5")
        assert code in answer.body.decode()
        elsewhere = {"X-Forwarded-For": "198.51.100.7"}
        answer = Wire(patient).send(method, path, elsewhere, body)
        assert answer.status == (400 if body else 200)  # the last slot is for others
    time.sleep(0.3)
    assert Wire(patient).send("GET", BLOB_PATH).body == BLOB


def test_slow_clients_are_served_as_long_as_they_move(hasty: str) -> None:
    """An upload and a download that take several times as long as ``client_timeout`` succeed."""
    content = bytes(range(256)) * 400
    path = f"/v2/slow/blobs/uploads/?digest={Digest.of(content)}"
    with closing(connect(hasty)) as connection:
        connection.sendall(head("POST", path, f"Content-Length: {len(content)}"))
        for at in range(0, len(content), 20_480):
            connection.sendall(content[at : at + 20_480])
            time.sleep(0.5)
        assert connection.recv(12) == b"HTTP/1.1 201"


@pytest.mark.parametrize(
    ("sent", "status"),
    [(b"\x16\x03\x01\x02\x00\x01\x00", b"400"), (b"GET /" + b"x" * (300 << 10), b"414")],
    ids=["TLS", "an endless path"],
)
def test_what_is_no_request_is_refused_at_once(patient: str, sent: bytes, status: bytes) -> None:
    """A client that tries TLS on the plain port goes on to plain HTTP only when that has failed."""
    with closing(connect(patient)) as connection:
        connection.settimeout(2)
        connection.sendall(sent)
        assert connection.recv(12) == b"HTTP/1.1 " + status


def test_many_short_connections(tmp_path: Path) -> None:
    """Processes that compete for them lose none."""
    with (
        dualreg_process(tmp_path / "data", workers=3, threads=THREADS) as (host, _, _),
        ThreadPoolExecutor(16) as pool,
    ):
        answers = [*pool.map(lambda _: Wire(host).send("GET", "/v1/search?q=other").status, range(600))]
    assert answers == [200] * 600


def test_any_gunicorn_gives_up_silent_clients(tmp_path: Path) -> None:
    """``gunicorn wsgi:app`` waits as long as the setting says, too."""
    host, log, root = f"127.0.0.1:{free_port()}", tmp_path / "log", Path(__file__).parents[1]
    command = [DUALREG.with_name("gunicorn"), "--chdir", root, "--config", root / "gunicorn.conf.py"]
    variables = {"BIND": host, "DATA": str(tmp_path / "data"), "CLIENT_TIMEOUT": "1s", "WORKERS": "1"}
    env = {f"DUALREG_{name}": value for name, value in variables.items()}
    with running([*command, "wsgi:app"], log, env) as process:
        wait_until_up(f"http://{host}/v2/", process, log)
        with closing(connect(host)) as connection:
            connection.settimeout(10)
            connection.sendall(head("GET", "/v2/")[:-2])
            assert connection.recv(12) == b"HTTP/1.1 408"


def test_silence_over_tls(tmp_path: Path) -> None:
    """Handshakes that do not begin, or do not end, and half a head within TLS, hold no thread."""
    chain, key = make_certificate(tmp_path, "silence")
    context = ssl.create_default_context(cafile=chain)
    host, log = f"127.0.0.1:{free_port()}", tmp_path / "log"
    options = ["--bind", host, "--data", tmp_path / "data", "--tls-cert", chain, "--tls-key", key]
    options += ["--workers", "1", "--threads", str(THREADS)]
    with running([DUALREG, "serve", *options], log) as process, ExitStack() as stack:
        wait_for(lambda: served(host), process, log)
        for _ in range(CLIENTS):
            stack.enter_context(closing(connect(host)))
            stack.enter_context(closing(connect(host))).sendall(b"\x16\x03\x01\x02\x00\x01")
            within = stack.enter_context(context.wrap_socket(connect(host), server_hostname="127.0.0.1"))
            within.sendall(b"GET /v2/ HTTP/1.1\r\n")
        with closing(http.client.HTTPSConnection(host, timeout=5, context=context)) as other:
            for _ in range(2):
                other.request("GET", "/v2/_catalog")
                response = other.getresponse()
                assert (response.status, response.read()) == (200, b'{"repositories": []}')
