"""An object store that hangs or is gone: what has no need of it goes on, and all goes on once it is back."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from dualreg.image.digest import Digest
from tests import builders
from tests.contracts.radosgw import s3_bucket, settings_of
from tests.contracts.s3_faults import Faults, faulty
from tests.programs import children, dualreg_process, free_port, require, until
from tests.protocol.clients.v2 import V2Client
from tests.unit.test_metrics import total

pytestmark = [pytest.mark.s3, pytest.mark.slow]

#: Seconds in which what has no need of the object store is answered: those for a place, and a slow machine's.
SOON = 4.0
#: Seconds after which no client has to wait any longer, and in which all goes on.
LAST, BACK = 22.0, 15.0


class Proxy:
    """The proxy before the object store, which can be stopped and started again where it was."""

    faults: Faults

    def __init__(self, endpoint: str) -> None:
        """Start it before the S3 server at *endpoint*."""
        self._endpoint, self._running, self._port = endpoint, ExitStack(), 0
        self.start()

    def start(self) -> None:
        """Start it."""
        self.url, self.faults = self._running.enter_context(faulty(self._endpoint, self._port))
        self._port = urlsplit(self.url).port or 0

    def stop(self) -> None:
        """Stop it: connections are refused."""
        self._running.close()


@contextmanager
def registry(folder: Path, **settings: str | int) -> Iterator[tuple[str, Proxy, Path]]:
    """Run a registry of one process over a bucket; yield where it serves, the proxy and the log."""
    with s3_bucket() as url:
        chosen = settings_of(url)
        proxy = Proxy(chosen["s3_endpoint"])
        chosen |= {"s3_endpoint": proxy.url} | settings
        try:
            with dualreg_process(folder / "data", workers=1, **chosen) as (host, _, log):
                yield host, proxy, log
        finally:
            proxy.stop()


def many(number: int, request: Callable[[], object]) -> list[threading.Thread]:
    """Have clients send a request at the same time; those that do not end are no reason to wait."""
    threads = [threading.Thread(target=request, daemon=True) for _ in range(number)]
    for thread in threads:
        thread.start()
    return threads


def timed(host: str, method: str, path: str, headers: dict[str, str] | None = None) -> tuple[int, float]:
    """Return the status of an answer, and after how many seconds all of it was there; 0: it broke off."""
    began = time.monotonic()
    try:
        with closing(HTTPConnection(host, timeout=60)) as connection:
            connection.request(method, path, headers=headers or {})
            answer = connection.getresponse()
            status = answer.status
            answer.read()
    except (OSError, HTTPException):
        status = 0
    return status, time.monotonic() - began


@pytest.mark.parametrize("request_of", ["part", "join", "link"])
def test_a_process_that_is_killed_takes_nothing_with_it(tmp_path: Path, request_of: str) -> None:
    """While it waits for the object store, in a push; what was acknowledged is there, and clients go on."""
    image = builders.image(builders.layer({"a": os.urandom(9 << 20)}))
    first = builders.image(builders.layer({"b": b"2"}))
    wanted = {
        "part": lambda method, path: method == "PUT" and "partNumber" in path,
        "join": lambda method, path: method == "PUT" and "/blobs/" in path and path.endswith("/data"),
        "link": lambda method, path: method == "PUT" and "/repositories/" in path,
    }
    with s3_bucket() as url, faulty(settings_of(url)["s3_endpoint"]) as (proxy, faults):
        chosen = settings_of(url) | {"s3_endpoint": proxy}
        with dualreg_process(tmp_path / "data", workers=1, **chosen) as (host, process, _):
            V2Client(host).push("team/app", "1", first)
            faults.wanted = wanted[request_of]
            faults.begin("hanging")
            seen = len(faults.requests)
            pushing = many(1, lambda: suppressed(lambda: V2Client(host).push("team/app", "2", image)))
            assert until(lambda: any(wanted[request_of](*each) for each in faults.requests[seen:]))
            (victim,) = children(process.pid)
            os.kill(victim, signal.SIGKILL)
            faults.end()
            pushing[0].join(30)
            assert until(lambda: timed(host, "GET", "/v2/")[0] == 200)
            assert [*V2Client(host).pull("team/app", "1").layers] == [*first.layers]
            assert timed(host, "GET", "/v2/team/app/manifests/2")[0] == 404
            V2Client(host).push("team/app", "2", image)
            assert [*V2Client(host).pull("team/app", "2").layers] == [*image.layers]


def test_a_blob_that_the_kernel_moves_is_whole(tmp_path: Path) -> None:
    """From one socket to the other, by several requests to the object store if those break off."""
    data = os.urandom(3 << 20)
    with registry(tmp_path) as (host, proxy, _), closing(HTTPConnection(host, timeout=60)) as client:

        def ask(method: str, path: str, *given: Any) -> tuple[int, bytes]:
            client.request(method, path, *given)
            answer = client.getresponse()
            return answer.status, answer.read()

        path = f"/v2/team/app/blobs/{Digest.of(data)}"
        assert ask("POST", f"/v2/team/app/blobs/uploads/?digest={Digest.of(data)}", data)[0] == 201
        for proxy.faults.kind in ("", "truncated answer", "lost request"):
            for span in (slice(0, len(data)), slice(70_000, 2 << 20)):
                proxy.faults.times = 1
                asked = {"Range": f"bytes={span.start}-{span.stop - 1}"}
                assert ask("GET", path, None, asked) == (206, data[span])
        with closing(HTTPConnection(host, timeout=60)) as leaving:
            leaving.request("GET", path)
            assert leaving.getresponse().read(1000) == data[:1000]
        assert ask("GET", path) == (200, data)


def suppressed(act: Callable[[], object]) -> None:
    """Do something that a server which is killed may break."""
    with suppress(Exception):
        act()


def _metrics(address: str) -> bytes:
    """Return what a server counts."""
    with closing(HTTPConnection(address, timeout=20)) as connection:
        connection.request("GET", "/metrics")
        return connection.getresponse().read()


def _check_metrics(found: bytes, before: bytes) -> None:
    """Check what was counted while the object store failed: failures, and times that are not without end."""
    require("promtool", package="prometheus")
    done = subprocess.run(["promtool", "check", "metrics"], input=found, check=False, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert total(found, "store_failures_total", driver="s3") > 0
    name, labels = "store_operation_duration_seconds", {"driver": "s3"}
    count = total(found, f"{name}_count", **labels)
    assert count > total(before, f"{name}_count", **labels)
    assert 0 < total(found, f"{name}_sum", **labels) < count * LAST
    assert total(found, f"{name}_bucket", le="+Inf", **labels) == count


@pytest.mark.parametrize("kind", ["hanging", "hanging answer", "refused"])
def test_what_needs_no_object_store_goes_on(tmp_path: Path, kind: str) -> None:
    """However many clients want what needs it: each is answered in time, later ones at once."""
    image = builders.image(builders.layer({"a": os.urandom(3 << 20)}))
    blob = f"/v2/team/app/blobs/{max(image.blobs, key=lambda each: len(image.blobs[each]))}"
    monitoring = f"127.0.0.1:{free_port()}"
    with registry(tmp_path, monitoring_bind=monitoring) as (host, proxy, log):
        V2Client(host).push("team/app", "1", image)
        before = _metrics(monitoring)
        assert total(before, "store_operation_duration_seconds_count", driver="s3", operation="publish") >= 3
        assert total(before, "store_failures_total") == 0
        manifest = ("GET", "/v2/team/app/manifests/1", {"Accept": image.media_type})
        free = [("GET", "/v2/"), ("GET", "/v2/team/app/tags/list"), manifest]
        assert timed(host, "GET", "/_status")[0] == 200
        assert timed(host, *manifest)[0] == 200
        proxy.faults.begin(kind)
        if kind == "refused":
            proxy.stop()
        answers = list[tuple[int, float]]()
        threads = many(40, lambda: answers.append(timed(host, "GET", blob)))
        time.sleep(0.5)
        for request in free * 2:
            status, seconds = timed(host, *request)  # type: ignore[arg-type] -- two or three of them
            assert status == 200
            assert seconds < SOON
        assert until(lambda: not any(each.is_alive() for each in threads), 60)
        assert {status for status, _ in answers} <= ({503, 429, 0} if kind == "hanging answer" else {503})
        assert max(seconds for _, seconds in answers) < LAST
        refused = [timed(host, "GET", blob) for _ in range(6)]
        if kind == "refused":
            assert until(lambda: timed(host, "GET", "/_status")[0] == 503, BACK)
        assert {status for status, _ in refused} == {503}
        assert sorted(seconds for _, seconds in refused)[2] < 1
        if kind == "refused":
            proxy.start()
        proxy.faults.end()
        assert until(lambda: timed(host, "GET", blob)[0] == 200, BACK)
        assert until(lambda: timed(host, "GET", "/_status")[0] == 200, BACK)
        V2Client(host).push("team/app", "2", builders.image(builders.layer({"b": b"2"})))
        _check_metrics(_metrics(monitoring), before)
        assert ("the object store answers again" in log.read_text()) is (kind != "refused")
        assert ("an answer broke off" in log.read_text()) is (kind == "hanging answer")
        assert "Traceback" not in log.read_text()
