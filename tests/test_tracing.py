"""Traces of running servers, as a collector gets them over OTLP/HTTP, and as it does not."""

import base64
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple

import bcrypt
import click
import pytest

from dualreg.cli.traces import check_tracing
from dualreg.settings import Settings
from dualreg.tracing.exporting import Tracing
from tests import builders
from tests.collector import Collector, Seen, collecting
from tests.programs import Serving, children, dualreg_process, environment, free_port, until
from tests.protocol.clients.v1 import V1Client
from tests.protocol.clients.v2 import V2Client
from tests.protocol.clients.wire import Answer, Request, Wire
from tests.test_silence import connect

pytestmark = pytest.mark.slow

SECRET, AGENT = "correct-horse", "secretive/1.0"
BASIC = base64.b64encode(f"alice:{SECRET}".encode()).decode()
LOGIN = {"Authorization": f"Basic {BASIC}", "User-Agent": AGENT}
TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
IMAGE = builders.image(builders.layer({"a": os.urandom(200_000)}), oci=True)
HERE, SERVER, CLIENT = "127.0.0.1", 2, 3
MANIFEST = "/v2/<name>/manifests/<reference>"


def variables(monkeypatch: pytest.MonkeyPatch, url: str, **more: str) -> None:
    """Have servers that are started from now on send their traces to *url*, soon."""
    given = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_BSP_SCHEDULE_DELAY": "50", **more}
    for name, value in given.items():
        monkeypatch.setenv(name, value)


class LoggedIn(Wire):
    """A wire to a registry, as alice."""

    def answer(self, request: Request) -> Answer:
        """Return the answer to a request."""
        is_given = any(name.lower() == "authorization" for name, _ in request.headers)
        login = () if is_given else LOGIN.items()
        return super().answer(request._replace(headers=[*request.headers, *login]))


def push(host: str, name: str, image: builders.Image) -> None:
    """Push an image, as alice."""
    client = V2Client(host)
    client.wire = LoggedIn(host)
    client.push(name, "1", image)


class World(NamedTuple):
    """A registry behind another one, both traced."""

    collector: Collector
    front: Serving
    upstream: Serving

    def send(self, method: str, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Send a request to the front, as alice."""
        return LoggedIn(self.front.host).send(method, path, headers or {})

    def span(self, request_id: str) -> Seen:
        """Return the span of a request, which comes within a moment."""

        def found() -> list[Seen]:
            spans = [*self.collector.spans]
            return [each for each in spans if each.attributes.get("dualreg.request_id") == request_id]

        assert until(found), request_id
        return found()[0]

    def line(self, request_id: str) -> dict[str, object]:
        """Return the line of a request in the log of the front."""
        lines = [json.loads(each) for each in self.front.log.read_text().splitlines() if each[0] == "{"]
        return next(each for each in lines if each.get("request_id") == request_id)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Two registries with two workers each, whose image is pushed to the upstream and to the front."""
    folder = tmp_path_factory.mktemp("traced")
    hashed = bcrypt.hashpw(SECRET.encode(), bcrypt.gensalt(4)).decode()
    (folder / "htpasswd").write_text(f"alice:{hashed}\n")
    (folder / "rules").write_text("alice * pull,push\n")
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        collector, url = stack.enter_context(collecting())
        variables(patch, url)
        common = {"tracing": "true", "log_format": "json", "workers": 2, "threads": 4, "gc_interval": "0s"}
        patch.setenv("OTEL_SERVICE_NAME", "upstream")
        upstream = stack.enter_context(dualreg_process(folder / "upstream", **common))
        V2Client(upstream.host).push("team/app", "1", IMAGE)
        patch.delenv("OTEL_SERVICE_NAME")
        front = stack.enter_context(
            dualreg_process(
                folder / "front",
                auth="htpasswd",
                htpasswd=str(folder / "htpasswd"),
                permissions=str(folder / "rules"),
                upstreams=f"hub/*=http://{upstream.host}",
                **common,
            )
        )
        push(front.host, "open/app", IMAGE)
        yield World(collector, front, upstream)
        for each in (front, upstream):
            assert "Traceback" not in each.log.read_text()


def test_a_request_is_a_span_of_its_clients_trace(world: World) -> None:
    """It says what the line in the log says, names the same request, and its parts lie within it."""
    headers = {"traceparent": f"00-{TRACE}-{CALLER}-01", "X-Request-Id": "first"}
    answer = world.send("GET", "/v2/open/app/manifests/1?hint=query-of-client", headers)
    assert (answer.status, answer.body) == (200, IMAGE.manifest)
    span = world.span("first")
    assert (span.name, span.kind, span.failed) == (f"GET {MANIFEST}", SERVER, False)
    assert (span.trace, span.parent) == (TRACE, CALLER)
    assert span.attributes == {
        "http.request.method": "GET",
        "http.route": MANIFEST,
        "http.response.status_code": 200,
        "dualreg.request_id": "first",
        "dualreg.repository": "open/app",
        "enduser.id": "alice",
    }
    assert span.resource["service.name"] == "dualreg"
    assert world.line("first")["trace_id"] == TRACE
    parts = world.collector.below(span)
    assert {"catalog.read", "SELECT"} <= {each.name for each in parts}
    assert all(span.began <= each.began <= each.ended <= span.ended for each in parts)
    selects = [each for each in parts if each.name == "SELECT"]
    assert all(
        each.attributes["db.system.name"] and "open/app" not in each.attributes["db.query.text"]
        for each in selects
    )


def test_all_answers_are_traced(world: World) -> None:
    """Those that a worker would give without a thread, too; by each worker; a trace of its own for each."""
    name = f"GET {MANIFEST}"
    before = len(world.collector.named(name))
    with closing(http.client.HTTPConnection(world.front.host)) as connection:
        for number in range(30):
            connection.request("GET", "/v2/open/app/manifests/1", headers={"X-Request-Id": f"hot-{number}"})
            connection.getresponse().read()
    for number in range(30):
        world.send("GET", "/v2/open/app/manifests/1", {"X-Request-Id": f"cold-{number}"})
    assert until(lambda: len(world.collector.named(name)) == before + 60)
    spans = world.collector.named(name)[before:]
    assert len({each.trace for each in spans}) == 60
    assert len({each.resource.get("service.instance.id") for each in spans}) == 2


def test_a_push_shows_its_store_and_its_catalog(world: World) -> None:
    """Operations of the store, transactions and their statements, each of which is a part of the next one."""
    image = builders.image(builders.layer({"b": os.urandom(50_000)}), oci=True)
    push(world.front.host, "open/pushed", image)

    def pushes() -> list[Seen]:  # each worker sends its spans when it likes
        found = world.collector.named(f"PUT {MANIFEST}")
        return [each for each in found if each.attributes["dualreg.repository"] == "open/pushed"]

    assert until(pushes)
    (span,) = pushes()
    assert span.attributes["http.response.status_code"] == 201
    parts = world.collector.below(span)
    writes = [each for each in parts if each.name == "catalog.write"]
    assert {"INSERT"} <= {inner.name for each in writes for inner in world.collector.below(each)}
    assert until(lambda: world.collector.named("store.append"))
    uploads = world.collector.named("store.append")
    assert {each.attributes["dualreg.store"] for each in uploads} == {"file"}


def test_a_trace_goes_on_at_an_upstream(world: World) -> None:
    """For manifests, and for blobs, which another thread fetches: below the span of the request to it."""
    layer = next(iter(IMAGE.blobs))
    for number, path in enumerate(("manifests/1", f"blobs/{layer}")):
        answer = world.send("GET", f"/v2/hub/team/app/{path}", {"X-Request-Id": f"through-{number}"})
        assert answer.status == 200, answer.body
        span = world.span(f"through-{number}")

        def there() -> list[Seen]:
            spans = [each for each in world.collector.spans if each.trace == span.trace]  # noqa: B023
            return [
                each for each in spans if each.resource["service.name"] == "upstream" and each.kind == SERVER
            ]

        assert until(there)
        callers = {each.parent for each in there()}
        calls = [each for each in world.collector.spans if each.id in callers]
        assert {each.resource["service.name"] for each in calls} == {"dualreg"}
        assert {each.kind for each in calls} == {CLIENT}
        assert {each.attributes["server.address"] for each in calls} == {HERE}
        assert all(each.attributes["http.response.status_code"] for each in calls)


@pytest.mark.parametrize(
    ("method", "path", "name", "status"),
    [
        ("GET", "/nowhere/at/all", "GET", 404),
        ("BREW", "/v2/open/app/manifests/1", "HTTP", 405),
        ("GET", "/v2/Open/../app/manifests/1", f"GET {MANIFEST}", 400),
        ("GET", "/v1/_ping", "GET /v1/_ping", 200),
    ],
)
def test_names_are_few(world: World, method: str, path: str, name: str, status: int) -> None:
    """Whatever clients send: the method if it is one, and the route if there is one."""
    world.send(method, path, {"X-Request-Id": f"named-{method}-{status}"})
    span = world.span(f"named-{method}-{status}")
    assert (span.name, span.attributes["http.response.status_code"]) == (name, status)
    assert not span.failed


def test_a_client_that_does_not_sample_is_not_traced(world: World) -> None:
    """By default its flag decides; its lines in the log name no trace that nobody has."""
    world.send("GET", "/v2/", {"traceparent": f"00-{'a' * 32}-{CALLER}-00", "X-Request-Id": "unsampled"})
    world.send("GET", "/v2/", {"traceparent": "nonsense", "X-Request-Id": "sampled"})
    world.span("sampled")
    assert not [each for each in world.collector.spans if each.trace == "a" * 32]
    assert until(lambda: "unsampled" in world.front.log.read_text())
    assert "trace_id" not in world.line("unsampled")


def test_an_answer_that_breaks_off_has_failed(world: World) -> None:
    """The span of a download whose client hangs up ends then, and says that."""
    layer = next(iter(IMAGE.blobs))
    big = builders.image(builders.layer({"c": os.urandom(30_000_000)}), oci=True)
    push(world.front.host, "open/big", big)
    layer = max(big.blobs, key=lambda each: len(big.blobs[each]))
    whole = world.send("GET", f"/v2/open/big/blobs/{layer}", {"X-Request-Id": "whole"})
    assert whole.body == big.blobs[layer]
    assert not world.span("whole").failed
    with closing(connect(world.front.host)) as client:
        lines = [f"GET /v2/open/big/blobs/{layer} HTTP/1.1", f"Host: {HERE}", "X-Request-Id: cut"]
        client.sendall("\r\n".join([*lines, f"Authorization: Basic {BASIC}", "", ""]).encode())
        client.recv(1000)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    span = world.span("cut")
    assert span.failed
    assert span.attributes["error.type"].endswith("Error")


def test_nothing_secret_is_sent(world: World) -> None:
    """No password, header, query, or address of a client; V1 has tokens in headers, too."""
    old = V1Client(world.front.host, user="alice", password=SECRET)
    old.push("open/old", "1", builders.v1_chain(builders.layer({"v": b"1"})))
    world.send("GET", "/v2/open/app/tags/list?n=73&last=query-of-client", {"X-Request-Id": "last"})
    world.span("last")
    raw = world.collector.raw
    for secret in (SECRET, BASIC, AGENT, "query-of-client", "Basic ", "Bearer ", "signature="):
        assert secret.encode() not in raw, secret
    servers = [each for each in world.collector.spans if each.kind == SERVER]
    assert all(HERE not in str(value) for each in servers for value in each.attributes.values())


def test_a_worker_that_is_replaced_is_traced(world: World) -> None:
    """Each process sends its own spans: what was begun before a fork is not."""
    old = children(world.upstream.process.pid)
    world.upstream.process.send_signal(signal.SIGHUP)
    assert until(lambda: not set(old) & set(children(world.upstream.process.pid)))
    Wire(world.upstream.host).send("GET", "/v2/", {"X-Request-Id": "reloaded"})
    assert world.span("reloaded").resource["service.name"] == "upstream"


def test_a_stop_sends_what_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last requests before a stop are traced, though the next batch would have been sent later."""
    with collecting() as (collector, url):
        variables(monkeypatch, url, OTEL_BSP_SCHEDULE_DELAY="600000", OTEL_EXPORTER_OTLP_HEADERS="x-key=k1")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
        with dualreg_process(tmp_path / "data", workers=2, tracing="true", gc_interval="0s") as serving:
            for number in range(20):
                Wire(serving.host).send("GET", "/v2/", {"X-Request-Id": f"{number}"})
            assert not collector.spans
        found = {each.attributes.get("dualreg.request_id") for each in collector.spans}
        assert found >= {f"{number}" for number in range(20)}
        assert collector.headers["x-key"] == "k1"


@pytest.mark.parametrize("how", ["absent", "stalling"])
def test_no_request_waits_for_a_collector(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does the end, for more than a moment; the log has a line now and then, without a traceback."""
    with collecting() as (collector, url):
        collector.stalling.set()
        more = {"OTEL_BSP_MAX_QUEUE_SIZE": "64", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "16"}
        more |= {"OTEL_EXPORTER_OTLP_TIMEOUT": "1"} if how == "absent" else {}
        variables(monkeypatch, url if how == "stalling" else f"http://{HERE}:{free_port()}", **more)
        with dualreg_process(tmp_path / "data", workers=1, tracing="true", gc_interval="0s") as serving:
            V2Client(serving.host).push("team/app", "1", IMAGE)
            longest = 0.0
            for _ in range(60):
                began = time.monotonic()
                assert Wire(serving.host).send("GET", "/v2/team/app/manifests/1").status == 200
                longest = max(longest, time.monotonic() - began)
            assert longest < 1
            assert until(lambda: "traces may be lost" in serving.log.read_text())
            began = time.monotonic()
            serving.process.send_signal(signal.SIGTERM)
            serving.process.wait(20)
            assert time.monotonic() - began < 6
        log = serving.log.read_text()
    assert "Traceback" not in log
    assert log.count("traces may be lost") == 1


def test_the_queue_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process keeps so many spans, and drops the others, at once."""
    with collecting() as (collector, url):
        variables(monkeypatch, url, OTEL_BSP_MAX_QUEUE_SIZE="100", OTEL_BSP_MAX_EXPORT_BATCH_SIZE="10")
        collector.stalling.set()
        tracing = Tracing()
        began = time.monotonic()
        for _ in range(3000):
            tracing.request("GET", {}, {}).end()
        assert time.monotonic() - began < 2
        collector.stalling.clear()
        tracing.close()
        assert 100 <= len(collector.spans) <= 120


def run(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run *code* in an interpreter of its own."""
    command, env = [sys.executable, "-c", code], environment() | variables
    return subprocess.run(command, check=False, capture_output=True, text=True, env=env, timeout=60)


def test_nothing_is_imported_if_it_is_off(tmp_path: Path) -> None:
    """A server without tracing needs no OpenTelemetry: it is not even looked for."""
    code = """
import os, sys
from dualreg.cli import serve
from dualreg.settings import Settings
from dualreg.web.app import create_app
from dualreg.web.lane import Lane
app = create_app(Settings.from_env(os.environ))
assert app.test_client().get("/v2/").status_code == 200
assert isinstance(app.wsgi_app, Lane)
print([name for name in sys.modules if name.startswith(("opentelemetry", "google.protobuf", "requests"))])
"""
    found = run(code, DUALREG_DATA=str(tmp_path / "data"), DUALREG_AUDIT="off")
    assert (found.stdout, found.returncode) == ("[]\n", 0), found.stderr


@pytest.mark.parametrize(
    ("lacking", "variables", "said"),
    [
        ("opentelemetry.sdk.trace", {}, r"pip install 'dualreg\[opentelemetry\]'"),
        ("", {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"}, "by http/protobuf only"),
        ("", {"OTEL_BSP_MAX_QUEUE_SIZE": "-1"}, "a variable OTEL_… is invalid"),
    ],
)
def test_a_server_says_why_it_cannot_trace(
    lacking: str, variables: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it begins, in a line: traces that were asked for do not fail silently."""
    if lacking:
        monkeypatch.delitem(sys.modules, "dualreg.tracing.exporting")
        monkeypatch.setitem(sys.modules, lacking, None)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(click.ClickException, match=said) as found:
        check_tracing(Settings.model_validate({"tracing": True}))
    assert "\n" not in str(found.value)


def test_a_server_that_cannot_trace_does_not_start(tmp_path: Path) -> None:
    """The command ends with the reason."""
    env = {"DUALREG_TRACING": "true", "DUALREG_DATA": str(tmp_path / "data")}
    code = "import sys; from dualreg.cli import main; sys.argv[1:] = ['serve']; main()"
    found = run(code, OTEL_EXPORTER_OTLP_PROTOCOL="grpc", **env)
    assert found.returncode == 1
    assert (
        found.stderr == "Error: OTEL_EXPORTER_OTLP_PROTOCOL is grpc; traces are sent by http/protobuf only\n"
    )
