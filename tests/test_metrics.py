"""Metrics of a running server: whoever counted, whoever may read them, and whatever clients send."""

import http.client
import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dualreg.assembly import open_registry, prepare
from dualreg.catalog.webhooks import WebhookRow
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.monitoring.names import PREFIX
from dualreg.settings import Settings
from tests.builders import image, layer, v1_chain
from tests.programs import DUALREG, Serving, children, dualreg_process, free_port, require, running, until
from tests.prometheus import prometheus
from tests.protocol.clients.v1 import V1Client
from tests.protocol.clients.v2 import V2Client
from tests.protocol.clients.wire import Wire
from tests.test_silence import connect, head
from tests.unit.test_metrics import expressions, samples, total

pytestmark = pytest.mark.slow


def scrape(host: str, path: str = "/metrics", **headers: str) -> tuple[int, bytes]:
    """Return status and page."""
    with closing(http.client.HTTPConnection(host, timeout=20)) as connection:
        connection.request(
            "GET", path, headers={name.replace("_", "-"): each for name, each in headers.items()}
        )
        answer = connection.getresponse()
        return answer.status, answer.read()


def page(host: str) -> bytes:
    """Return the page."""
    status, found = scrape(host)
    assert status == 200
    return found


@pytest.fixture(scope="module")
def monitored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Serving, str]]:
    """A server of two workers, and the address for its monitoring."""
    bind = f"127.0.0.1:{free_port()}"
    folder = tmp_path_factory.mktemp("metrics")
    settings = {"monitoring_bind": bind, "gc_interval": "0s", "metrics_networks": "192.0.2.0/24"}
    with dualreg_process(folder / "data", workers=2, threads=4, **settings) as serving:
        assert until(lambda: total(page(bind), "workers") == 2)
        yield serving, bind
        assert "Traceback" not in serving.log.read_text()


def test_two_workers_count_together(monitored: tuple[Serving, str]) -> None:
    """Each request once, with its bytes, whichever worker answers, and with a thread or without."""
    serving, bind = monitored
    blob = os.urandom(300_000)
    V2Client(serving.host).push("team/app", "1", image(layer({"a": blob})))
    V1Client(serving.host).push("team/old", "1", v1_chain(layer({"b": b"2"})))
    before = page(bind)
    path = "/v2/team/app/manifests/1"
    for _ in range(40):
        Wire(serving.host).send("GET", path)  # each on a connection of its own
    with closing(http.client.HTTPConnection(serving.host, timeout=20)) as connection:
        for _ in range(40):
            connection.request("GET", path, headers={"Accept": "*/*"})
            size = len(connection.getresponse().read())
    labels = {"route": "/v2/<name>/manifests/<reference>", "method": "GET"}

    def grown(name: str, **labels: str) -> float:
        return total(page(bind), name, **labels) - total(before, name, **labels)

    assert until(lambda: grown("http_requests_total", status="200", **labels) == 80)
    assert grown("http_request_duration_seconds_count", **labels) == 80
    assert grown("http_response_bytes_total", route=labels["route"]) == 80 * size
    assert grown("http_requests_at_once_total") > 30
    found = page(bind)
    assert total(found, "http_request_bytes_total") > len(blob)
    assert total(found, "http_requests_total", route="/v1/images/<image>/layer", method="PUT") == 1
    assert total(found, "catalog_transaction_duration_seconds_count", kind="write", result="ok") > 0
    assert total(found, "store_operation_duration_seconds_count", driver="file", operation="publish") > 0
    assert total(found, "threads") == 8


def test_a_worker_that_is_killed_takes_nothing_along(monitored: tuple[Serving, str]) -> None:
    """No counter goes down, in any scrape; the worker that follows adds to them."""
    serving, bind = monitored
    for _ in range(20):
        Wire(serving.host).send("GET", "/v2/_catalog")
    assert until(lambda: total(page(bind), "http_requests_total", route="/v2/_catalog") >= 20)
    known = {key: value for key, value in samples(page(bind)).items() if key[0].endswith("_total")}
    for worker in children(serving.process.pid)[:1]:
        os.kill(worker, signal.SIGKILL)

    def grew() -> bool:
        try:
            found = samples(page(bind))
        except (OSError, http.client.HTTPException):
            return False  # the worker that is killed had accepted the connection
        assert all(found[key] >= value for key, value in known.items())
        return total(page(bind), "workers") == 2

    assert until(grew)
    Wire(serving.host).send("GET", "/v2/_catalog")
    assert until(lambda: total(page(bind), "http_requests_total", route="/v2/_catalog") >= 21)


def test_clients_cannot_make_the_page_grow(monitored: tuple[Serving, str]) -> None:
    """Hostile paths, methods and agents are the values that there are; what no route takes is ``none``."""
    serving, bind = monitored

    def send_all(number: int) -> None:
        for method in ("GET", "PROPFIND", f"X{number}", "get", "TRACE"):
            for path in (
                f"/{number}",
                f"/v2/r{number}/manifests/t{number}",
                f"/v2/{number}",
                f"/v1/{number}/%ff",
            ):
                with closing(connect(serving.host)) as connection:
                    connection.sendall(head(method, path, f"User-Agent: a{number}", "Connection: close"))
                    while connection.recv(1 << 16):
                        pass

    before = total(page(bind), "http_requests_total")
    send_all(0)
    assert until(lambda: total(page(bind), "http_requests_total") >= before + 20)
    known = {*samples(page(bind))}
    for number in range(1, 6):
        send_all(number)
    assert until(lambda: total(page(bind), "http_requests_total") >= before + 120)
    grown = {key for key in samples(page(bind)) if key not in known}
    assert not {key for key in grown if key[0].startswith(f"{PREFIX}http")}
    labels = [dict(own) for (name, own) in samples(page(bind)) if name == f"{PREFIX}http_requests_total"]
    assert {each["method"] for each in labels} <= {
        "GET",
        "HEAD",
        "POST",
        "PUT",
        "PATCH",
        "DELETE",
        "OPTIONS",
        "other",
    }
    assert all(re.fullmatch(r"none|/[a-z0-9_/<>.]*", each["route"]) for each in labels)


@pytest.mark.parametrize(
    ("forwarded", "status"),
    [
        (None, 404),
        ("192.0.2.7", 200),
        ("192.0.2.7, 198.51.100.1", 404),
        ("198.51.100.1, 192.0.2.7", 200),
        ("x", 404),
    ],
)
def test_the_main_address_shows_them_to_few(
    monitored: tuple[Serving, str], forwarded: str | None, status: int
) -> None:
    """Those in metrics_networks, behind a proxy too; nobody else finds out that there is anything."""
    serving, _ = monitored
    headers = {} if forwarded is None else {"X_Forwarded_For": forwarded}
    found, content = scrape(serving.host, **headers)
    assert found == status
    assert (PREFIX.encode() in content) == (status == 200)


def test_promtool_finds_nothing(monitored: tuple[Serving, str]) -> None:
    """Names, units and helps are as Prometheus has them."""
    require("promtool", package="prometheus")
    _, bind = monitored
    assert until(lambda: total(page(bind), "repositories") or b"figures_timestamp" in page(bind))
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=page(bind), check=False, capture_output=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def _fill(data: Path) -> None:
    """Make a registry that has what not every one has: a webhook, and traffic of an upstream."""
    prepare(settings := Settings(data=data))
    with closing(open_registry(settings)) as registry:
        registry.webhooks.add(WebhookRow("ci", "https://ci.example/hook", "cloudevents", ("*",), ("push",)))
        with closing(registry.traffic()) as traffic:
            traffic.count("https://hub.example", hits=1)


def _check_expressions(evaluate: Callable[[str], Sequence[Any]]) -> None:
    """Check that Prometheus evaluates each rule, and finds something for each query of the dashboard."""
    asked = expressions()
    queries = {where: each for where, each in asked.items() if where.startswith("panel ")}
    assert len(queries) > 50

    def missing() -> list[str]:
        return [where for where, each in queries.items() if not evaluate(each)]

    until(lambda: not missing(), 60)
    assert missing() == []
    assert [where for where, each in asked.items() if evaluate(each) is None] == []


def test_garbage_and_storage_are_counted(tmp_path: Path) -> None:
    """Collections add to totals in the catalog, a failing store to its failures; a stop removes the files.

    The dashboard shows all there is.
    """
    bind, digest = f"127.0.0.1:{free_port()}", Digest.of(b"content")
    _fill(tmp_path / "data")
    with dualreg_process(tmp_path / "data", workers=1, monitoring_bind=bind, gc_grace="1s") as serving:
        wire = Wire(serving.host)
        assert wire.send("POST", f"/v2/a/blobs/uploads/?digest={digest}", {}, b"content").status == 201
        V2Client(serving.host).push("team/app", "1", image(layer({"a": b"1"}), oci=True))
        accept = {"Accept": media_types.DOCKER_MANIFEST}
        assert wire.send("GET", "/v2/team/app/manifests/1", accept).status == 200
        env = {"DUALREG_DATA": str(tmp_path / "data"), "DUALREG_GC_GRACE": "0s", "DUALREG_UPLOAD_TTL": "0s"}
        for _ in range(3):
            with running([DUALREG, "gc", "--full"], tmp_path / "gc.log", env) as process:
                assert process.wait(60) == 0
        found = page(bind)
        assert total(found, "gc_started_total") == 3
        assert total(found, "gc_runs_total", result="complete") == 3
        assert total(found, "gc_deleted_bytes_total") == len(b"content")
        assert total(found, "gc_last_end_timestamp_seconds") > 1e9
        assert total(found, "ready") == 1
        assert total(found, "room_bytes") > 0
        (uploads := tmp_path / "data/uploads").rename(tmp_path / "aside")
        uploads.write_bytes(b"")
        assert until(lambda: total(page(bind), "failing", component="storage") == 1)
        assert total(page(bind), "ready") == 0
        assert wire.send("GET", "/_status").status == 503
        assert total(page(bind), "store_failures_total", driver="file") > 0
        with prometheus(tmp_path, bind) as evaluate:
            _check_expressions(evaluate)
        folders = {each for each in Path("/dev/shm").glob("dualreg-metrics-*")
                   if (each / f"counter_{children(serving.process.pid)[0]}.db").exists()}  # fmt: skip
        assert len(folders) == 1
    assert not any(each.exists() for each in folders)


def test_by_default_nothing_is_counted(tmp_path: Path) -> None:
    """No file is made, and no address shows metrics."""
    with dualreg_process(tmp_path / "data", workers=1) as serving:
        assert scrape(serving.host)[0] == 404
        assert scrape(serving.host, "/metrics?x")[0] == 404
        worker = children(serving.process.pid)[0]
        assert not [*Path("/dev/shm").glob(f"dualreg-metrics-*/*_{worker}.db")]
        with socket.socket() as client:
            client.settimeout(5)
            client.connect(("127.0.0.1", int(serving.host.rpartition(":")[2])))
            client.sendall(head("POST", "/metrics", "Content-Length: 0"))
            assert client.recv(100).startswith(b"HTTP/1.1 404")
