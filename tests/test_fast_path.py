"""Answers without a thread: byte for byte what gunicorn sends, in turn, and only where nothing waits.

And what a thread does with the next requests of its client.
"""

import os
import re
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.workers.base import Worker as BaseWorker
from werkzeug.middleware.proxy_fix import ProxyFix

from dualreg.cli.connection import HEAD_LIMIT, Connection
from dualreg.cli.fast_path import FastPath
from dualreg.cli.serve import gunicorn_settings
from dualreg.cli.server_log import ServerLog
from dualreg.cli.shares import Shares
from dualreg.cli.worker import Worker
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry import Registry
from dualreg.settings import Settings
from dualreg.storage.memory import MemoryStore
from dualreg.web.app import create_app
from tests.builders import image, layer, v1_chain
from tests.programs import until
from tests.properties.registries import push_v1, push_v2
from tests.test_tls import make_certificate

#: On PostgreSQL, all requests have threads.
pytestmark = pytest.mark.sqlite

NAME = RepositoryName("team/app")
IMAGE, CHAIN = image(layer({"f": b"1"})), v1_chain(layer({"a": b"a"}), layer({"b": b"b"}))
#: Blobs: one that fits into any buffer, one that does not, and one that is never sent at once.
SMALL, MIDDLE, LARGE = (bytes(range(256)) * count for count in (8, 250, 300))
#: What is wrong with no request, but not in the list of what is plain.
ODD = "X-Odd: 1"
#: What differs between any two answers.
_OWN = re.compile(rb"\r\n(?:Date|X-Request-Id): [^\r]+")
_LENGTH = re.compile(rb"\r\nContent-Length: ([0-9]+)\r\n")


def blob(data: bytes) -> str:
    """Return the path of a blob."""
    return f"/v2/{NAME}/blobs/{Digest.of(data)}"


@dataclass
class Running:
    """A worker that runs in a thread of this process.

    Attributes:
        threads: The requests for which it used a thread.
    """

    worker: Worker
    port: int
    threads: list[Connection] = field(default_factory=list)

    def connect(self, buffer: int = 0) -> socket.socket:
        """Connect; with a receive buffer of that size, if it is given."""
        connection = socket.socket()
        if buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        connection.settimeout(10)
        connection.connect(("127.0.0.1", self.port))
        return connection

    def ask(self, connection: socket.socket, *requests: bytes) -> list[bytes]:
        """Send requests together; return the answers, without their dates."""
        connection.sendall(b"".join(requests))
        return read(connection, *requests)

    def warm(self, request: bytes) -> bytes:
        """Ask in a thread, so that the answer is remembered; return it."""
        with closing(self.connect()) as connection:
            return self.ask(connection, request)[0]


def read(connection: socket.socket, *requests: bytes) -> list[bytes]:
    """Return the answers to requests that were sent, without their dates."""
    answers, received = [], b""
    for request in requests:
        while b"\r\n\r\n" not in received:
            received += receive(connection)
        end = received.index(b"\r\n\r\n") + 4
        found = _LENGTH.search(received, 0, end)
        length = int(found[1]) if found and not request.startswith(b"HEAD") else 0
        while len(received) < end + length:
            received += receive(connection)
        answers.append(_OWN.sub(b"", received[: end + length], count=2))
        received = received[end + length :]
    assert not received
    return answers


def receive(connection: socket.socket) -> bytes:
    """Receive something."""
    data = connection.recv(1 << 16)
    assert data
    return data


def request(path: str, *lines: str, method: str = "GET") -> bytes:
    """Return a request."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: registry", *lines, "", ""]).encode()


def configured(settings: Settings) -> Config:
    """Return the configuration of gunicorn."""
    cfg = Config()
    for name, value in gunicorn_settings(settings).items():
        cfg.set(name, value)
    return cfg


@pytest.fixture
def run(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Running]]:
    """Runs a worker over the registry, with settings of the test's choice."""
    monkeypatch.setattr(BaseWorker, "init_process", lambda _: None)  # signals, and the rest of a process
    for data in (SMALL, MIDDLE, LARGE):
        registry.uploads.ingest(NAME, [data])
    push_v2(registry, NAME, Tag("one"), IMAGE)
    push_v1(registry, NAME, Tag("v1"), CHAIN)
    started: list[tuple[Worker, threading.Thread]] = []

    def start(access_log: Path | None = None, **chosen: Any) -> Running:
        settings = Settings.model_validate({"audit": "off", "threads": 4} | chosen)
        cfg, listener = configured(settings), socket.create_server(("127.0.0.1", 0))
        cfg.set("accesslog", access_log and f"{access_log}")
        log = ServerLog(cfg)
        log.access_log.handlers = [each for each in log.access_log.handlers if hasattr(each, "_gunicorn")]
        worker = Worker(0, os.getppid(), [listener], None, 0, cfg, log)
        worker.wsgi = create_app(settings, registry)
        worker.init_process()
        running = Running(worker, listener.getsockname()[1])
        enqueue = worker.enqueue_req
        monkeypatch.setattr(worker, "enqueue_req", lambda conn: (running.threads.append(conn), enqueue(conn)))
        thread = threading.Thread(target=worker.run)
        thread.start()
        started.append((worker, thread))
        return running

    yield start
    for worker, thread in started:
        worker.handle_exit(None, None)
        thread.join(20)
        assert not thread.is_alive()
        assert worker.nr_conns == 0
        worker._health.shutdown()
        for handler in worker.log.access_log.handlers:
            handler.close()
        worker.tmp.close()


@pytest.fixture
def running(run: Callable[..., Running]) -> Running:
    """A worker with the settings that ``dualreg serve`` has by default, but no access log."""
    return run()


#: A read that needs a thread each time.
ODD_READ = request("/v1/search?q=other")
DIGEST = f"/v2/{NAME}/manifests/{IMAGE.digest}"
V1 = f"/v1/images/{CHAIN[-1].id}"
#: What is answered again, and the status.
READS: dict[str, tuple[bytes, int]] = {
    f"{method} {what}": (request(path, *lines, method=method), status)
    for method in ("GET", "HEAD")
    for what, path, lines, status in [
        ("the version", "/v2/", [], 200),
        ("a tag", f"/v2/{NAME}/manifests/one", [f"Accept: {IMAGE.media_type}"], 200),
        (
            "a tag, with many types",
            f"/v2/{NAME}/manifests/one",
            [f"Accept: {IMAGE.media_type}", "Accept: a/b"],
            200,
        ),
        ("a digest", DIGEST, ["Accept: */*", "Connection: keep-alive"], 200),
        ("a digest that is known", DIGEST, [f'If-None-Match: "{IMAGE.digest}"'], 304),
        ("a small blob", blob(SMALL), [], 200),
        ("a blob", blob(MIDDLE), [], 200),
        ("a blob that is known", blob(MIDDLE), [f'If-None-Match: "{Digest.of(MIDDLE)}"'], 304),
        ("a range", blob(LARGE), ["Range: bytes=5-60000"], 206 if method == "GET" else 200),
        ("the end", blob(LARGE), ["Range: bytes=-1"], 206 if method == "GET" else 200),
        ("tags", f"/v2/{NAME}/tags/list?n=1", [], 200),
    ]
}
#: V1 reads are repeated within the session of a repository.
V1_READS = {
    f"{method} {what}": (method, f"{V1}/{what}")
    for method in ("GET", "HEAD")
    for what in ("json", "layer", "ancestry")
}


@pytest.mark.parametrize("read_", READS)
def test_the_bytes_are_those_of_a_thread(running: Running, read_: str) -> None:
    """On one connection that is kept, and sends another request in a thread between two without."""
    plain, status = READS[read_]
    odd = plain.replace(b"\r\n\r\n", f"\r\n{ODD}\r\n\r\n".encode())
    expected = running.warm(plain)
    assert expected.startswith(b"HTTP/1.1 %d " % status)
    with closing(running.connect()) as connection:
        for sent, threads in [(plain, 0), (odd, 1), (plain, 0), (plain, 0)]:
            before = len(running.threads)
            assert running.ask(connection, sent) == [expected]
            assert len(running.threads) == before + threads


@pytest.mark.parametrize("read_", V1_READS)
def test_the_bytes_of_v1_are_those_of_a_thread(running: Running, read_: str) -> None:
    """With the session's token, whatever else the daemon sends."""
    begin = request(f"/v1/repositories/{NAME}/images", "X-Docker-Token: true")
    token = re.search(rb"\r\nX-Docker-Token: ([^\r]+)", running.warm(begin))
    assert token
    method, path = V1_READS[read_]
    plain = request(path, f"Authorization: Token {token[1].decode()}", "Cookie: a=b", method=method)
    expected = running.warm(plain)

    def takes_no_thread() -> bool:
        """The switch of V1 is known for a second; then a thread has to look at it."""
        threads = len(running.threads)
        with closing(running.connect()) as connection:
            assert running.ask(connection, plain) == [expected]
        return len(running.threads) == threads

    assert until(takes_no_thread)


@pytest.mark.parametrize("parts", [1, 3])
def test_requests_in_one_packet_are_answered_in_their_order(running: Running, parts: int) -> None:
    """Without a thread, or with one for each that needs it, and with a head that comes in parts."""
    plain = [sent for sent, _ in READS.values()]
    expected = [running.warm(each) for each in plain]
    other = running.warm(ODD_READ)
    with closing(running.connect()) as connection:
        threads = len(running.threads)
        together = b"".join(plain)
        for at in range(parts):
            connection.sendall(together[at * len(together) // parts : (at + 1) * len(together) // parts])
            time.sleep(0.05)
        assert read(connection, *plain) == expected
        assert len(running.threads) == threads
        assert running.ask(connection, *plain[:2], ODD_READ, plain[2], ODD_READ) == [
            *expected[:2],
            other,
            expected[2],
            other,
        ]
        assert len(running.threads) > threads


def test_requests_over_tls(run: Callable[..., Running], tmp_path: Path) -> None:
    """What was decrypted already is answered too, although nothing more arrives."""
    chain, key = make_certificate(tmp_path, "at once")
    running, context = run(tls_cert=chain, tls_key=key), ssl.create_default_context(cafile=chain)
    plain = [sent for sent, _ in READS.values()]
    with context.wrap_socket(running.connect(), server_hostname="127.0.0.1") as connection:
        expected = [running.ask(connection, each)[0] for each in plain]
        threads = len(running.threads)
        assert [running.ask(connection, each)[0] for each in plain] == expected
        for each in plain:
            connection.sendall(each)  # in a record of its own
        assert read(connection, *plain) == expected
        assert running.ask(connection, *plain) == expected
        assert len(running.threads) == threads


@pytest.mark.slow
def test_a_head_may_come_byte_by_byte(running: Running) -> None:
    """It is answered when it is complete, and not before."""
    plain = READS["GET a tag"][0]
    expected = running.warm(plain)
    threads = len(running.threads)
    with closing(running.connect()) as connection:
        for at in range(len(plain)):
            connection.sendall(plain[at : at + 1])
            time.sleep(0.002)
        assert read(connection, plain) == [expected]
    assert len(running.threads) == threads


def test_one_connection_does_not_take_all_turns(running: Running) -> None:
    """Another one is answered while it has a thousand requests waiting."""
    plain = READS["HEAD a tag"][0]
    expected = running.warm(plain)
    with closing(running.connect()) as greedy, closing(running.connect()) as other:
        running.ask(other, plain)
        order: list[str] = []
        real = Worker._send

        def note(worker: Worker, connection: Connection, answer: Any) -> None:
            order.append("other" if connection.client == other.getsockname() else "greedy")
            real(worker, connection, answer)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Worker, "_send", note)
            greedy.sendall(plain * 1000)
            assert until(lambda: order)
            assert running.ask(other, plain) == [expected]
            assert read(greedy, *[plain] * 1000) == [expected] * 1000
        assert order.index("other") < len(order) - 1


@pytest.mark.parametrize("others", [0, 1, None])
def test_a_connection_is_left_to_a_worker_with_fewer(
    running: Running, monkeypatch: pytest.MonkeyPatch, others: int | None
) -> None:
    """For a moment, if there is one that accepts connections; this one takes it if that one does not."""
    monkeypatch.setattr("dualreg.cli.shares.PATIENCE", 1)
    plain = READS["GET a tag"][0]
    with closing(running.connect()) as first:
        expected = running.warm(plain)
        assert running.ask(first, plain) == [expected]
        assert until(lambda: running.worker.nr_conns == 1)
        shares, other = running.worker._shares, running.worker.age + 1
        shares.remove(other) if others is None else shares.set(other, others)
        began = time.monotonic()
        assert running.warm(plain) == expected
        assert (time.monotonic() - began >= 1) is (others == 0)


def test_each_connection_is_left_to_a_worker_with_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long ago the other worker took the last one; a round in which none waited says that it did."""
    monkeypatch.setattr("dualreg.cli.shares.PATIENCE", 0.02)
    shares = Shares()
    shares.set(1, 1)
    shares.set(2, 0)
    for _ in range(3):
        assert shares.leaves(1)
        shares.end_round()
        shares.end_round()
        time.sleep(0.04)
    assert shares.leaves(1)
    shares.end_round()
    time.sleep(0.04)
    assert not shares.leaves(1)


def test_requests_that_have_arrived_share_a_look(
    running: Running, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the rows, in which nothing can have changed before they came; one that comes later has its own."""
    plain, tags = READS["GET a small blob"][0], request(f"/v2/{NAME}/tags/list")
    expected, before = running.warm(plain), running.warm(tags)
    looks, arrived, look = list[object](), threading.Event(), type(registry).version
    with ExitStack() as stack:
        clients = [stack.enter_context(closing(running.connect())) for _ in range(5)]
        for client in clients:
            assert running.ask(client, plain) == [expected]

        def count(asked: Registry, *, wait: bool = True) -> object:
            looks.append(found := look(asked, wait=wait))
            if len(looks) == 1:  # when it is too late for the others
                push_v2(registry, NAME, Tag("two"), IMAGE)
                clients[-1].sendall(tags)
            return found

        running.worker.method_queue.defer(arrived.wait, 20)
        for client in clients[:-1]:
            client.sendall(plain)
        monkeypatch.setattr(type(registry), "version", count)
        arrived.set()
        assert [read(client, plain) for client in clients[:-1]] == [[expected]] * 4
        after = read(clients[-1], tags)
    assert after != [before]
    assert b'"two"' in after[0]
    assert 1 < len(looks) <= 3  # of the later one, in the loop and in a thread
    assert looks[0] not in looks[1:]


def test_a_client_that_reads_slowly_gets_all(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread sends what did not fit, and holds a slot; then the connection goes on."""
    plain, small = READS["GET a blob"][0], READS["GET a small blob"][0]
    expected = [running.warm(plain), running.warm(small)]
    answer = Connection.answer
    monkeypatch.setattr(Connection, "answer", lambda conn, data: answer(conn, data[:100]))
    threads = len(running.threads)
    with closing(running.connect()) as connection:
        assert running.ask(connection, plain, small, plain) == [*expected, expected[0]]
    assert len(running.threads) == threads
    slots = running.worker.wsgi.extensions["dualreg"].slots
    assert until(lambda: slots._held.total() == 0)


def test_a_client_that_reads_nothing_is_given_up(run: Callable[..., Running]) -> None:
    """After ``client_timeout``, with the rest of its answer unsent; its slot is free again."""
    running = run()
    running.worker._window = 0.5
    plain = READS["GET a blob"][0]
    running.warm(plain)
    with closing(running.connect(buffer=2048)) as connection:
        connection.sendall(plain * 200)
        assert until(lambda: running.worker._busy)
        assert until(lambda: not running.worker._busy and len(running.worker._waiting) < 2)
    slots = running.worker.wsgi.extensions["dualreg"].slots
    assert until(lambda: slots._held.total() == 0)


def test_a_client_that_is_gone_is_forgotten(running: Running) -> None:
    """Before or after it has sent a request."""
    plain = READS["GET a blob"][0]
    running.warm(plain)
    for sent in (plain, plain * 100, plain[:-1]):
        connection = running.connect()
        connection.sendall(sent)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()
    assert until(lambda: running.worker.nr_conns == 0)
    slots = running.worker.wsgi.extensions["dualreg"].slots
    assert until(lambda: slots._held.total() == 0)


def test_the_connection_that_asked_last_stays_longest(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When another one needs room, the one goes that has been silent for longest."""
    plain = READS["GET a tag"][0]
    running.warm(plain)
    with closing(running.connect()) as first, closing(running.connect()) as second:
        for connection in (first, second, first):
            running.ask(connection, plain)
        order = [second.getsockname(), first.getsockname()]
        assert until(lambda: [each.client for each in running.worker._waiting][-2:] == order)
        monkeypatch.setattr(running.worker, "_room", 2)
        with closing(running.connect()) as third:
            running.ask(third, plain)
            assert second.recv(1) == b""
            assert running.ask(first, plain)


def test_a_connection_whose_request_has_arrived_stays(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others that come in the same round need room: they have it when the request has been answered."""
    plain, waits = READS["GET a tag"][0], threading.Event()
    expected = running.warm(plain)
    with closing(running.connect()) as first, closing(running.connect()) as second:
        for connection in (first, second):
            running.ask(connection, plain)
        monkeypatch.setattr(running.worker, "_room", 2)
        real = running.worker.accept

        def accept(listener: socket.socket) -> None:
            """Accept after all else that has happened."""
            for connection in [*running.worker._waiting]:
                running.worker._on_readable(connection)
            real(listener)

        running.worker.method_queue.defer(waits.wait, 20)
        for key in [*running.worker.poller.get_map().values()]:
            if key.data == real:
                running.worker.poller.modify(key.fileobj, key.events, accept)
        for connection in (first, second):
            connection.sendall(plain)
        with closing(running.connect()) as third:
            third.sendall(plain)
            waits.set()
            assert [read(each, plain) for each in (first, second, third)] == [[expected]] * 3


def test_a_worker_that_stops_ends_its_connections(running: Running) -> None:
    """Its last answer says so."""
    plain = READS["GET a tag"][0]
    running.warm(plain)
    with closing(running.connect()) as connection:
        running.ask(connection, plain)
        running.worker.handle_exit(None, None)
        time.sleep(0.2)
        connection.sendall(plain)
        assert b"\r\nConnection: close\r\n" in receive(connection)


def test_the_last_request_of_a_worker_is_a_threads(running: Running) -> None:
    """With gunicorn's ``max_requests``, its answer ends the connection, and another worker takes over."""
    plain = READS["GET a tag"][0]
    running.warm(plain)
    threads = len(running.threads)
    running.worker.max_requests = running.worker.nr + 2
    with closing(running.connect()) as connection:
        assert b"\r\nConnection: keep-alive\r\n" in running.ask(connection, plain)[0]
        assert b"\r\nConnection: close\r\n" in running.ask(connection, plain)[0]
    assert len(running.threads) == threads + 1
    assert not running.worker.alive


@pytest.fixture
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads wait for the next request of their client for longer than a test takes."""
    monkeypatch.setattr("dualreg.cli.worker._MOMENT", 60)


def test_a_thread_goes_on_with_its_client(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers the next requests, if they come soon, whether they come one by one or together."""
    monkeypatch.setattr("dualreg.cli.worker._MOMENT", 1)
    expected = running.warm(ODD_READ)
    with closing(running.connect()) as connection:
        threads = len(running.threads)
        for count in (1, 1, 3):
            assert running.ask(connection, *[ODD_READ] * count) == [expected] * count
        assert len(running.threads) == threads + 1
        assert until(lambda: not running.worker._busy)
        assert running.ask(connection, ODD_READ) == [expected]
        assert len(running.threads) == threads + 2


@pytest.mark.usefixtures("_patient")
def test_the_last_free_thread_waits_for_nobody(run: Callable[..., Running]) -> None:
    """However many clients might send more, others are answered at once."""
    running = run(threads=2)
    with ExitStack() as stack:
        for _ in range(5):
            connection = stack.enter_context(closing(running.connect()))
            for _ in range(2):
                running.ask(connection, ODD_READ)
        assert until(lambda: running.worker._busy == 1)


@pytest.mark.usefixtures("_patient")
def test_a_thread_leaves_what_needs_none(running: Running) -> None:
    """It sends the answer, and the loop has the connection again."""
    plain, other = READS["GET a blob"][0], READS["GET a tag"][0]
    expected = [running.warm(plain), running.warm(other)]
    with closing(running.connect()) as connection:
        running.ask(connection, ODD_READ)
        threads = len(running.threads)
        assert running.worker._busy
        assert running.ask(connection, plain, other) == expected
        assert until(lambda: not running.worker._busy)
        assert running.ask(connection, other) == expected[1:]
        assert len(running.threads) == threads


@pytest.mark.usefixtures("_patient")
@pytest.mark.parametrize("sent", [b"\x16\x03\x01", b"\x16\r\n\r\n", b"GET /" + b"a" * HEAD_LIMIT])
def test_what_is_no_request_ends_what_a_thread_waits_for(running: Running, sent: bytes) -> None:
    """It is refused as on a new connection."""
    with closing(running.connect()) as connection:
        running.ask(connection, ODD_READ)
        connection.sendall(sent)
        assert b"\r\nConnection: close\r\n" in receive(connection)
    assert until(lambda: running.worker.nr_conns == 0)


@pytest.mark.usefixtures("_patient")
def test_a_thread_waits_for_the_beginning_only(running: Running) -> None:
    """Half a head leaves the connection to the loop, until the rest comes."""
    expected = running.warm(ODD_READ)
    with closing(running.connect()) as connection:
        running.ask(connection, ODD_READ)
        connection.sendall(ODD_READ[:9])
        assert until(lambda: not running.worker._busy)
        connection.sendall(ODD_READ[9:])
        assert read(connection, ODD_READ) == [expected]


@pytest.mark.usefixtures("_patient")
def test_a_client_that_leaves_frees_its_thread(running: Running) -> None:
    """At once."""
    with closing(running.connect()) as connection:
        running.ask(connection, ODD_READ)
        assert running.worker._busy
    assert until(lambda: running.worker.nr_conns == 0 and not running.worker._busy)


@pytest.mark.usefixtures("_patient")
def test_a_thread_for_health_waits_for_nobody(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """What its client asks next is for one of the other threads, even if one is free by then."""
    worker, gate, application = running.worker, threading.Event(), running.worker.wsgi
    monkeypatch.setattr(worker, "wsgi", lambda *given: gate.wait(10) and application(*given))
    with closing(running.connect()) as connection:
        worker._busy += worker.cfg.threads
        connection.sendall(request("/v2/", ODD))
        assert until(lambda: worker._handled)
        worker._busy -= worker.cfg.threads
        gate.set()
        read(connection, request("/v2/", ODD))
        assert until(lambda: not worker._handled)


def test_a_thread_of_a_worker_that_stops_waits_no_longer(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers what still comes, and ends the connection."""
    monkeypatch.setattr("dualreg.cli.worker._MOMENT", 1)
    with closing(running.connect()) as connection:
        running.ask(connection, ODD_READ)
        assert until(lambda: running.threads[-1].request is None)
        running.worker.handle_exit(None, None)
        assert b"\r\nConnection: close\r\n" in running.ask(connection, ODD_READ)[0]
        assert connection.recv(1) == b""


#: Settings of gunicorn, or of its environment, with which more is done for each request.
MORE: dict[str, object] = {
    "keepalive": 0,
    "worker_connections": 4,
    "limit_request_line": 4094,
    "limit_request_fields": 10,
    "proxy_protocol": True,
    "pre_request": lambda _worker, _request: None,
    "post_request": lambda _worker, _request, _environ, _response: None,
}


@pytest.mark.parametrize("name", [None, *MORE, "SCRIPT_NAME", "middleware", "another disk"])
def test_where_each_request_is_more_all_have_threads(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, name: str | None
) -> None:
    """Options of gunicorn do what they say, and files of other machines may take their time."""
    settings = Settings.model_validate({"audit": "off", "threads": 4})
    cfg, app = configured(settings), create_app(settings, registry)
    if name in MORE:
        cfg.set(name, MORE[name])
    elif name == "SCRIPT_NAME":
        monkeypatch.setenv(name, "/below")
    elif name == "middleware":
        app.wsgi_app = ProxyFix(app.wsgi_app)  # type: ignore[method-assign]  # as Werkzeug documents
    elif name:
        monkeypatch.setattr(MemoryStore, "is_local", lambda _: False)
    assert (FastPath.of(app, cfg, ServerLog(cfg)) is None) == (name is not None)


def test_the_access_log_has_the_same_lines(run: Callable[..., Running], tmp_path: Path) -> None:
    """But for the time that the request took."""
    log = tmp_path / "access.log"
    running, lines = run(log), ['Referer: https://elsewhere.example/"', "User-Agent: docker/28"]
    for path, method in [(blob(SMALL), "GET"), (blob(SMALL), "HEAD"), (f"/v2/{NAME}/tags/list?n=1", "GET")]:
        plain, odd = request(path, *lines, method=method), request(path, *lines, ODD, method=method)
        running.warm(plain)
        threads = len(running.threads)
        running.warm(plain)
        assert len(running.threads) == threads
        running.warm(odd)
        assert until(lambda: len(log.read_text().splitlines()) == 3)
        first, at_once, last = [
            re.sub(r"\[[^]]+\]|[0-9.]+ [0-9a-f]{32}", "", each) for each in log.read_text().splitlines()
        ]
        assert first == at_once == last
        assert f'"{method} {path.partition("?")[0]} HTTP/1.1" 200 ' in at_once
        assert '/\\"" "docker/28"' in at_once
        log.write_bytes(b"")


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[int]:
    """A pipe in the folder of the test, open for both, which waits for nothing."""
    os.mkfifo(tmp_path / "pipe")
    descriptor = os.open(tmp_path / "pipe", os.O_RDWR | os.O_NONBLOCK)
    yield descriptor
    os.close(descriptor)


def test_nothing_waits_for_a_reader_of_the_access_log(
    pipe: int, run: Callable[..., Running], tmp_path: Path
) -> None:
    """While it reads nothing, requests are answered as ever, also those that need threads; lines wait."""
    running, plain = run(tmp_path / "pipe"), READS["GET a tag"][0]
    running.warm(plain)
    threads = len(running.threads)
    running.warm(plain)
    lines = b""
    while lines.count(b"\n") < 2:
        lines += receive_from(pipe)
    with suppress(BlockingIOError):
        while True:
            os.write(pipe, bytes(4096))
    for _ in range(10):
        running.warm(plain)
    assert len(running.threads) == threads
    running.warm(ODD_READ)
    assert len(running.threads) == threads + 1
    assert until(lambda: not running.worker._busy)
    lines = b""
    while lines.count(b"\n") < 11:
        lines += receive_from(pipe)
    assert lines.count(b"/manifests/one HTTP/1.1") == 10
    assert lines.count(b"/v1/search HTTP/1.1") == 1


def receive_from(pipe: int) -> bytes:
    """Read what is in a pipe."""
    assert until(lambda: select.select([pipe], [], [], 0)[0])
    return os.read(pipe, 1 << 20)
