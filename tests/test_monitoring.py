"""Load balancers: they learn soon what is wrong, and never wait for what clients or databases keep busy."""

import http.client
import json
import os
import re
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from flask import Flask, Response
from prometheus_client.mmap_dict import MmapedDict

from dualreg.catalog.database import Catalog
from dualreg.catalog.upgrade import upgrade
from dualreg.cli.monitoring import Monitor
from dualreg.image.digest import Digest
from dualreg.web.context import parts_in
from tests.contracts.postgresql import postgresql_cluster
from tests.programs import DUALREG, Serving, children, dualreg_process, free_port, running, until, wait_for
from tests.protocol.clients.wire import Wire
from tests.test_refusals import read_answer
from tests.test_silence import connect, head
from tests.test_tls import make_certificate, served

pytestmark = pytest.mark.slow

THREADS = 4
BLOB = bytes(8 << 20)
PULL = f"/v2/slow/blobs/{Digest.of(BLOB)}"


def ask(host: str, path: str, method: str = "GET") -> tuple[int, dict[str, object]]:
    """Return status and document of an answer that comes within two seconds."""
    with closing(connect(host)) as connection:
        connection.settimeout(2.5)
        connection.sendall(head(method, path))
        status, headers, body = read_answer(connection)
    assert headers["connection"] == "close"
    assert headers["cache-control"] == "no-store"
    return status, json.loads(body) if body else {}


def push_blob(host: str) -> None:
    """Push BLOB."""
    assert (
        Wire(host).send("POST", f"/v2/slow/blobs/uploads/?digest={Digest.of(BLOB)}", {}, BLOB).status == 201
    )


@contextmanager
def slow_pull(host: str) -> Iterator[None]:
    """Begin a pull whose client reads nothing more for the block."""
    with closing(connect(host)) as connection:
        connection.sendall(head("GET", PULL))
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
        yield


@pytest.mark.parametrize("own", [False, True])
def test_clients_that_hold_all_threads_change_nothing(tmp_path: Path, *, own: bool) -> None:
    """An instance with slow clients is no broken one."""
    bind = f"127.0.0.1:{free_port()}"
    settings = {"monitoring_bind": bind} if own else {}
    with dualreg_process(
        tmp_path / "data", workers=1, threads=1, client_timeout="10m", **settings
    ) as serving:
        push_blob(serving.host)
        asked = bind if own else serving.host
        with slow_pull(serving.host):
            for _ in range(10):
                assert ask(asked, "/livez") == (200, {"status": "alive"})
                assert ask(asked, "/readyz?verbose") == (200, {"status": "ready"})
            assert ask(asked, "/readyz", "HEAD") == (200, {})
        text = serving.log.read_text()
        assert '"POST /v2/slow/blobs/uploads/ ' in text
        assert not re.search('"(?:GET|HEAD) /(?:livez|readyz)', text)


@contextmanager
def unread_page(host: str, kind: ssl.SSLContext | None = None) -> Iterator[socket.socket]:
    """Ask for the page of metrics, and read none of it for the block; yield the connection."""
    name, port = host.split(":")
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        connection.settimeout(10)
        connection.connect((name, int(port)))
        with kind.wrap_socket(connection) if kind else connection as client:
            client.sendall(head("GET", "/metrics"))
            yield client


def fill_page(serving: Serving) -> None:
    """Have the page of metrics be larger than what the kernel keeps for a client that reads nothing."""
    (worker,) = children(serving.process.pid)
    maps = Path(f"/proc/{worker}/maps").read_text()
    folder = Path(next(line.split()[-1] for line in maps.splitlines() if line.endswith(".db"))).parent
    file = MmapedDict(str(folder / "counter_1.db"))
    for number in range(500):
        labels = {"route": f"{number:020000}", "method": "GET", "status": "200"}
        name = "dualreg_http_requests_total"
        file.write_value(json.dumps([name.removesuffix("_total"), name, labels, "help"]), 1.0, 0.0)
    file.close()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_slow_readers_of_metrics_hold_no_thread(tmp_path: Path, scheme: str) -> None:
    """However many they are, load balancers get an answer; and each of them gets its page when it reads."""
    settings, kind = {"metrics_networks": "127.0.0.1"}, None
    if scheme == "https":
        chain, key = make_certificate(tmp_path, "127.0.0.1")
        settings |= {"tls_cert": f"{chain}", "tls_key": f"{key}"}
        kind = ssl.create_default_context(cafile=chain)
        kind.check_hostname = False
    data, port = tmp_path / "data", free_port()
    env = {"DUALREG_BIND": f"127.0.0.1:{port}", "DUALREG_DATA": f"{data}", "DUALREG_WORKERS": "1"}
    env |= {"DUALREG_THREADS": "1", "DUALREG_CLIENT_TIMEOUT": "10m"}
    env |= {f"DUALREG_{name.upper()}": value for name, value in settings.items()}
    host, log = env["DUALREG_BIND"], tmp_path / "log"
    with ExitStack() as stack:
        process = stack.enter_context(running([DUALREG, "serve"], log, env))
        wait_for(lambda: children(process.pid) and (kind is None or served(host)), process, log)
        assert until(lambda: b".db" in Path(f"/proc/{children(process.pid)[0]}/maps").read_bytes())
        fill_page(Serving(host, process, log))
        readers = [stack.enter_context(unread_page(host, kind)) for _ in range(3)]
        assert all(each.recv(1) for each in readers)
        if kind is None:  # then a spare thread has to answer
            push_blob(host)
            stack.enter_context(slow_pull(host))
        with closing(connect(host)) as plain, kind.wrap_socket(plain) if kind else plain as client:
            for _ in range(5):
                client.sendall(head("GET", "/v2/"))
                client.settimeout(2.5)
                received = b""
                while not received.endswith(b"{}"):
                    received += client.recv(1 << 16)
        for each in readers:
            status, headers, body = read_answer(each, b"H")
            assert (status, len(body)) == (200, int(headers["content-length"]))
            assert len(body) > 8 << 20


def test_who_reads_no_metrics_is_given_up(tmp_path: Path) -> None:
    """After ``client_timeout``, although some bytes were taken."""
    settings = {"metrics_networks": "127.0.0.1", "client_timeout": "1s"}
    with dualreg_process(tmp_path / "data", workers=1, threads=1, **settings) as serving:
        fill_page(serving)
        with unread_page(serving.host) as client:
            assert client.recv(1) == b"H"
            time.sleep(3.5)
            _, headers, body = read_answer(client, b"H")
            assert len(body) < int(headers["content-length"])
        assert ask(serving.host, "/livez")[0] == 200


def test_a_thread_that_waits_for_the_next_request_leaves_it_to_the_loop(tmp_path: Path) -> None:
    """A proxy asks on connections on which it has just sent other requests."""
    with dualreg_process(tmp_path / "data", workers=1, threads=THREADS) as serving:
        assert until(lambda: ask(serving.host, "/readyz")[0] == 200)
        with closing(connect(serving.host)) as client:
            client.sendall(head("GET", "/v2/none/manifests/1") + head("GET", "/readyz"))
            status, _, rest = read_answer(client)
        assert status == 404
        assert rest.partition(b"HTTP/1.1 ")[2].startswith(b"200 OK\r\n")
        assert rest.endswith(b'{"status": "ready"}\n')


def test_the_own_address_serves_nothing_else(tmp_path: Path) -> None:
    """It speaks no TLS, whatever the other one does; the main one answers, too."""
    chain, key = make_certificate(tmp_path, "server")
    host, bind, log = f"127.0.0.1:{free_port()}", tmp_path / "socket", tmp_path / "log"
    settings = {"BIND": host, "TLS_CERT": chain, "TLS_KEY": key, "MONITORING_BIND": f"unix:{bind}"}
    env = {f"DUALREG_{name}": f"{value}" for name, value in settings.items()}
    with running([DUALREG, "serve", "--data", tmp_path / "data"], log, env) as process:
        wait_for(lambda: served(host), process, log)
        assert f"Answering /livez, /readyz and /metrics on unix:{bind}\n" in log.read_text()
        for path, status in (("/readyz", 200), ("/v2/", 404), ("/", 404)):
            with closing(socket.socket(socket.AF_UNIX)) as client:
                client.connect(f"{bind}")
                client.sendall(head("GET", path))
                assert read_answer(client)[0] == status
        context = ssl.create_default_context(cafile=chain)
        with closing(http.client.HTTPSConnection(host, timeout=5, context=context)) as wire:
            wire.request("GET", "/readyz")
            assert wire.getresponse().read() == b'{"status": "ready"}\n'


def test_few_wait_for_a_check(app: Flask) -> None:
    """Connections that wait are those that clients could have: beyond some, what is known is the answer."""
    deferred: list[object] = []
    monitor = Monitor(parts_in(app.extensions), lambda: False, lambda *call: deferred.append(call))
    answers: list[Response] = []
    for _ in range(150):
        monitor.answer(head("GET", "/readyz"), answers.append)
    assert len(answers) >= 50  # more if the check has ended meanwhile
    assert {json.loads(each.get_data())["status"] for each in answers} <= {"starting", "ready"}
    monitor._answer_all()
    assert len(answers) == 150


def test_an_instance_that_stops_asks_for_no_more_requests(tmp_path: Path) -> None:
    """It is not ready while it goes on with what it has begun, but alive; the pull ends well."""
    with dualreg_process(tmp_path / "data", workers=2, threads=THREADS) as serving:
        push_blob(serving.host)
        assert until(lambda: ask(serving.host, "/readyz")[0] == 200)
        name, _, port = serving.host.partition(":")
        with closing(socket.create_connection((name, int(port)), timeout=20)) as pull:
            pull.sendall(head("GET", PULL))
            received = pull.recv(100)
            serving.process.send_signal(signal.SIGTERM)
            assert until(lambda: ask(serving.host, "/readyz") == (503, {"status": "draining"}))
            assert ask(serving.host, "/livez") == (200, {"status": "alive"})
            assert Wire(serving.host).send("GET", "/v2/").status == 503
            while data := pull.recv(1 << 20):
                received += data
        assert received.endswith(b"\r\n\r\n" + BLOB)
        assert serving.process.wait(20) == 0


def test_a_store_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    """So is an audit log; when they work again, so does the instance."""
    with dualreg_process(tmp_path / "data", workers=1) as serving:
        push_blob(serving.host)
        (uploads := tmp_path / "data/uploads").rename(aside := tmp_path / "aside")
        uploads.write_bytes(b"")  # no folder
        assert until(lambda: ask(serving.host, "/readyz")[0] == 503, 30)
        status, document = ask(serving.host, "/readyz")
        assert (status, document["status"]) == (503, "failing")
        assert document["failures"] == {"storage": "NotADirectoryError"}
        uploads.unlink()
        aside.rename(uploads)
        assert until(lambda: ask(serving.host, "/readyz") == (200, {"status": "ready"}), 30)


@pytest.mark.postgres
def test_a_database_that_does_not_answer_is_named_in_time(tmp_path: Path) -> None:
    """Stopped or stalled, it makes nobody wait for two seconds; when it answers again, all is well."""
    with postgresql_cluster() as cluster, ExitStack() as stack:
        with cluster.running() as process:
            with closing(Catalog(cluster.url())) as catalog:
                upgrade(catalog)
            options = {"database": cluster.url(), "audit": "off", "gc_interval": "0s"}
            serving = stack.enter_context(dualreg_process(tmp_path / "data", workers=2, **options))
            assert until(lambda: ask(serving.host, "/readyz") == (200, {"status": "ready"}))
            stalled = [process.pid, *children(process.pid)]
            for each in stalled:
                os.kill(each, signal.SIGSTOP)
            try:
                failing = {"status": "failing", "failures": {"catalog": "TimeoutError"}}
                assert until(lambda: ask(serving.host, "/readyz") == (503, failing), 30)
                assert ask(serving.host, "/livez") == (200, {"status": "alive"})
            finally:
                for each in stalled:
                    os.kill(each, signal.SIGCONT)
            assert until(lambda: ask(serving.host, "/readyz")[0] == 200)
        lost = {"status": "failing", "failures": {"catalog": "OperationalError"}}
        assert until(lambda: ask(serving.host, "/readyz") == (503, lost), 10)
        with cluster.running():
            assert until(lambda: ask(serving.host, "/readyz") == (200, {"status": "ready"}), 10)
        assert "Traceback" not in serving.log.read_text()
