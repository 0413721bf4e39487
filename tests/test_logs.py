"""The log of real servers: a line for each request, and no traceback for what clients and networks do."""

import base64
import json
import os
import re
import socket
import struct
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dualreg.assembly import open_catalog, prepare
from dualreg.auth.accounts import Accounts
from dualreg.auth.passwords import Passwords
from dualreg.image.digest import Digest
from dualreg.settings import Settings
from tests import builders
from tests.programs import DUALREG, Serving, dualreg_process, free_port, until
from tests.protocol.clients.v1 import V1Client
from tests.protocol.clients.v2 import V2Client
from tests.protocol.clients.wire import Wire

MIB = 1 << 20
CONTENT = bytes(range(256)) * (16 * MIB // 256)
SMALL = b"a small blob"
BLOB, LITTLE = (f"/v2/team/app/blobs/{Digest.of(data)}" for data in (CONTENT, SMALL))
#: The text of a line, as tools for Apache's "combined" format read it, and what follows that.
TEXT = re.compile(
    r'(?P<address>\S+) - (?P<account>\S+) \[[^]]+\] "(?P<method>\S+) (?P<path>\S*) (?P<protocol>\S+)"'
    r' (?P<status>\d+) (?P<bytes>\d+) "(?P<referer>(?:[^"\\]|\\.)*)" "(?P<user_agent>(?:[^"\\]|\\.)*)"'
    r" (?P<seconds>\d+\.\d{6}) (?P<request_id>\S+) (?P<repository>\S+)(?P<cut> cut)?"
)


class Logged(NamedTuple):
    """A server with its log, in one of its formats."""

    serving: Serving
    format: str

    def lines(self) -> list[dict[str, Any]]:
        """Return what the log says of requests, in the words of the JSON."""
        text = self.serving.log.read_text()
        if self.format == "json":
            read = [json.loads(line) for line in text.splitlines()]  # of every line that the server writes
            assert all({"time", "level", "event"} <= line.keys() for line in read)
            return [line for line in read if line["event"] == "request"]
        found = [match.groupdict() for match in map(TEXT.fullmatch, text.splitlines()) if match]
        return [_read(line) for line in found]

    def line(self, request_id: str) -> dict[str, Any]:
        """Return the only line about a request."""
        assert until(lambda: any(each["request_id"] == request_id for each in self.lines())), (
            self.serving.log.read_text()[-3000:]
        )
        (line,) = (each for each in self.lines() if each["request_id"] == request_id)
        return line

    def connect(self) -> socket.socket:
        """Return a connection to the server."""
        host, _, port = self.serving.host.rpartition(":")
        return socket.create_connection((host, int(port)), 20)


def _read(line: Mapping[str, str | None]) -> dict[str, Any]:
    members: dict[str, Any] = {name: value for name, value in line.items() if value not in (None, "-")}
    members |= {"status": int(members["status"]), "bytes": int(members["bytes"])}
    members["duration_ms"] = float(members.pop("seconds")) * 1000
    return members | ({"cut": True} if "cut" in members else {})


def basic(account: str, password: str) -> dict[str, str]:
    """Return the header of a login."""
    return {"Authorization": "Basic " + base64.b64encode(f"{account}:{password}".encode()).decode()}


ALICE = basic("alice", "correct horse")


@pytest.fixture(scope="module", params=["text", "json"])
def logged(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Logged]:
    """A server with an account, and content of it."""
    data = tmp_path_factory.mktemp("logs") / "data"
    prepare(own := Settings(data=data))
    with closing(open_catalog(own)) as catalog:
        accounts = Accounts(catalog, Passwords())
        accounts.add("alice", "correct horse")
        accounts.grant("alice", "*", "pull,push")
    settings: dict[str, Any] = {"auth": "accounts", "client_timeout": "2s", "login_limits": "pair=2"}
    with dualreg_process(data, log_format=request.param, **settings) as serving:
        for content in (CONTENT, SMALL):
            path = f"/v2/team/app/blobs/uploads/?digest={Digest.of(content)}"
            assert Wire(serving.host).send("POST", path, ALICE, content).status == 201
        yield Logged(serving, request.param)


class Case(NamedTuple):
    """A request, and what the line says of it."""

    method: str
    path: str
    headers: dict[str, str]
    status: int
    sent: int | None
    account: str | None = "alice"
    repository: str | None = "team/app"
    times: int = 1


CASES = {
    "pull": Case("GET", BLOB, ALICE, 200, len(CONTENT)),
    "range": Case("GET", BLOB, ALICE | {"Range": "bytes=5-1000004"}, 206, 1_000_000),
    "head": Case("HEAD", BLOB, ALICE, 200, 0),
    "repeated": Case("GET", LITTLE, ALICE, 200, len(SMALL), times=5),
    "push": Case("POST", "/v2/team/new/blobs/uploads/", ALICE, 202, 0, repository="team/new"),
    "anonymous": Case("GET", BLOB, {}, 401, None, account=None),
    "wrong": Case("GET", BLOB, basic("alice", "s3cret-password"), 401, None, account=None),
    "unknown": Case("GET", "/v2/team/app/manifests/none", ALICE, 404, None),
    "name": Case("GET", "/v2/TEAM/manifests/none", ALICE, 400, None, account=None, repository=None),
    "catalog": Case("GET", "/v2/_catalog", ALICE, 200, None, repository=None),
    "token": Case("GET", "/token?service=dualreg&secret=s3cret", ALICE, 200, None, repository=None),
    "v1": Case("GET", "/v1/repositories/team/app/tags", ALICE, 404, None),
    "ping": Case("GET", "/v1/_ping", {}, 200, None, account=None, repository=None),
    "nothing": Case("GET", "/nothing", {}, 404, None, account=None, repository=None),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_each_request_has_a_line(logged: Logged, name: str) -> None:
    """With all that is known of it, whether the worker's loop, the lane or a handler has answered."""
    case = CASES[name]
    for turn in range(case.times):
        request_id = f"{name}-{turn}"
        more = {"X-Request-Id": request_id, "User-Agent": 'docker/28 (a "b")'}
        answer = Wire(logged.serving.host).send(case.method, case.path, case.headers | more)
        assert (answer.status, answer.headers["x-request-id"]) == (case.status, request_id)
        line = logged.line(request_id)
        expected = {
            "address": "127.0.0.1",
            "account": case.account,
            "method": case.method,
            "path": case.path.partition("?")[0],
            "protocol": "HTTP/1.1",
            "repository": case.repository,
            "status": case.status,
            "bytes": len(answer.body) if case.sent is None else case.sent,
            "cut": None,
        }
        assert {member: line.get(member) for member in expected} == expected
        assert line["user_agent"] in ('docker/28 (a "b")', 'docker/28 (a \\"b\\")')
        assert 0 < line["duration_ms"] < 60_000
    assert "s3cret" not in logged.serving.log.read_text()


@pytest.mark.slow
def test_too_many_logins_have_lines(logged: Logged) -> None:
    """As any other request, without the account, which is not proved."""
    for turn in range(9):
        login = basic("bob", f"s3cret-password-{turn}") | {"X-Request-Id": f"bob-{turn}"}
        if Wire(logged.serving.host).send("GET", BLOB, login).status == 429:
            break
    lines = [logged.line(f"bob-{each}") for each in range(turn + 1)]
    assert [line["status"] for line in lines] == [401] * turn + [429]
    assert not any("account" in line for line in lines)
    assert "s3cret" not in logged.serving.log.read_text()


@pytest.mark.parametrize(
    "taken", ["a", "0" * 128, "Root=1-67891233-abcdef012345678912345678", "b1d0.7c@x_y+z"]
)
def test_ids_are_taken_over(logged: Logged, taken: str) -> None:
    """From clients and proxies alike; errors have them, too."""
    for path in ("/v2/", "/v1/_ping", "/other"):
        answer = Wire(logged.serving.host).send("GET", path, {"X-Request-Id": taken})
        assert answer.headers["x-request-id"] == taken


@pytest.mark.parametrize(
    "refused",
    [
        "",
        "0" * 129,
        "a b",
        "a,b",
        'a"b',
        "a\tb",
        "ä",
        "../x",
        "https://me:pw@host",
        "eyJhbGciOiJIUzI1NiJ9.e30.x",
    ],
)
def test_other_ids_are_replaced(logged: Logged, refused: str) -> None:
    """By a new one each time, which the line has."""
    ids = set()
    for _ in range(2):
        headers = {"X-Request-Id": refused.encode().decode("latin-1")}
        answer = Wire(logged.serving.host).send("GET", "/v2/", headers)
        ids.add(answer.headers["x-request-id"])
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in ids)
    assert len(ids) == 2
    assert {logged.line(each)["status"] for each in ids} == {401}


#: What no handler sees: the bytes, the status, and what the line says of method and path.
REFUSED = {
    "version": (b"GET /v2/ HTTP/9.9\r\nHost: x\r\nX-Request-Id: version\r\n\r\n", 400, "GET", "/v2/"),
    "header": (b"GET /v2/ HTTP/1.1\r\nX-Request-Id: header\r\nbad header\r\n\r\n", 400, "GET", "/v2/"),
    "large": (
        b"GET /v1/_ping HTTP/1.1\r\nX-Request-Id: large\r\nA: " + b"x" * (300 << 10), 431, "GET", "/v1/_ping",
    ),
    "long": (b"GET /" + b"x" * (300 << 10), 414, None, None),
    "late": (b"PUT /v2/a/b?s3cret HTTP/1.1\r\nX-Request-Id: late\r\nHo", 408, "PUT", "/v2/a/b"),
    "tls": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100), 400, None, None),
    "chunk": (
        b"POST /token HTTP/1.1\r\nHost: x\r\nX-Request-Id: chunk\r\nTransfer-Encoding: chunked, x\r\n\r\n",
        None, "POST", "/token",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_requests_have_lines(logged: Logged, name: str) -> None:
    """What is no request, or does not arrive in time: with what can be read of it."""
    data, status, method, path = REFUSED[name]
    with closing(logged.connect()) as client:
        client.sendall(data)
        answer = b""
        while part := client.recv(1 << 16):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    found = re.search(rb"\r\nX-Request-Id: (\S+)", head)
    assert found, head
    request_id = found[1].decode()
    assert (request_id == name) == (b"X-Request-Id" in data)
    line = logged.line(request_id)
    assert line["status"] == int(head.split()[1])
    assert status in (None, line["status"])
    assert line["bytes"] == len(body)
    assert (line.get("method"), line.get("path")) == (method or line.get("method"), path or line.get("path"))
    assert line["duration_ms"] >= (1900 if name == "late" else 0)


def test_hostile_texts_stay_within_their_line(logged: Logged) -> None:
    """Whatever a client sends, a line is one line, printable, and nobody else's."""
    with closing(logged.connect()) as client:
        client.sendall(
            b"GET /v2/?password=s3cret HTTP/1.1\r\nHost: x\r\nX-Request-Id: hostile\r\n"
            b'User-Agent: \x9b2J\xff\xfe\xe2\x80\xae" 200 0 "https://me:s3cret@host\x85127.0.0.1 - forged\r\n'
            b"Referer: https://user:s3cret@elsewhere/?token=s3cret\r\n\r\n"
        )
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 401")
    line = logged.line("hostile")
    assert (line["status"], line["path"]) == (401, "/v2/")
    text = logged.serving.log.read_text()
    assert "s3cret" not in text
    assert all(each.isprintable() for each in text.split("\n"))


@pytest.mark.parametrize("leave", ["close", "reset"])
def test_what_was_sent_is_counted_when_the_client_hangs_up(logged: Logged, leave: str) -> None:
    """By sendfile, which counts for itself; the line says that the answer was cut."""
    with closing(logged.connect()) as client:
        login = "".join(f"{name}: {value}\r\n" for name, value in ALICE.items())
        client.sendall(f"GET {BLOB} HTTP/1.1\r\nHost: x\r\nX-Request-Id: {leave}\r\n{login}\r\n".encode())
        received = 0
        while received < MIB:
            received += len(client.recv(MIB))
        if leave == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    line = logged.line(leave)
    assert line["cut"]
    assert MIB // 2 < line["bytes"] < len(CONTENT)


def test_a_client_that_stops_reading_is_cut(logged: Logged) -> None:
    """After the time for progress, with the bytes that it took."""
    with closing(logged.connect()) as client:
        login = "".join(f"{name}: {value}\r\n" for name, value in ALICE.items())
        client.sendall(f"GET {BLOB} HTTP/1.1\r\nHost: x\r\nX-Request-Id: stalled\r\n{login}\r\n".encode())
        line = logged.line("stalled")
        assert line["cut"]
        assert 0 < line["bytes"] < len(CONTENT)
        assert line["duration_ms"] > 1900


def test_the_audit_log_has_the_id(logged: Logged) -> None:
    """So that what happened is found in both."""
    Wire(logged.serving.host).send("POST", "/v2/team/b/blobs/uploads/", ALICE | {"X-Request-Id": "audited"})
    Wire(logged.serving.host).send("GET", BLOB, {"X-Request-Id": "denied"})
    (audit,) = logged.serving.log.parent.glob("data/audit.jsonl")
    events = {
        line.get("request_id"): line["event"] for line in map(json.loads, audit.read_text().splitlines())
    }
    assert (events["audited"], events["denied"]) == ("write", "denied")


@pytest.mark.slow
def test_both_generations_are_logged(tmp_path: Path) -> None:
    """A push and pull over V1 and V2: no request without a line, no line that is not JSON."""
    with dualreg_process(tmp_path / "data", log_format="json") as serving:
        image = builders.image(builders.layer({"a": b"1"}))
        v1, v2 = V1Client(serving.host), V2Client(serving.host)
        v2.push("both", "1", image)
        v1.pull("both", "1")
        v2.pull("both", "1")
        asked = [each.partition("?")[0] for each in (*v1.wire.log, *v2.wire.log) if each != "GET /v2/"]
        logged = Logged(serving, "json")

        def lines() -> list[str]:
            found = (f"{each['method']} {each['path']}" for each in logged.lines())
            return [each for each in found if each != "GET /v2/"]

        assert until(lambda: len(lines()) >= len(asked))
        assert sorted(lines()) == sorted(asked)


def test_clients_that_misbehave_leave_no_traceback(logged: Logged) -> None:
    """Those that hang up within a request or an answer, at any place, and those that send anything."""
    login = "".join(f"{name}: {value}\r\n" for name, value in ALICE.items())
    upload = Wire(logged.serving.host).send("POST", "/v2/team/cut/blobs/uploads/", ALICE).headers["location"]
    sent = [
        f"PATCH {upload} HTTP/1.1\r\nHost: x\r\n{login}Content-Length: 99999999\r\n\r\n".encode()
        + bytes(MIB),
        f"GET {BLOB} HTTP/1.1\r\nHost: x\r\n{login}\r\n".encode(),
        f"GET {LITTLE} HTTP/1.1\r\nHost: x\r\n{login}\r\n".encode() * 9,
        b"POST /token HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /v2/ HT",
        os.urandom(MIB),
        bytes(MIB),
    ]
    for data in sent:
        for pause in (0, 0.05):
            with closing(logged.connect()) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                with suppress(ConnectionError):
                    client.sendall(data)
                time.sleep(pause)
    assert Wire(logged.serving.host).send("GET", LITTLE, ALICE).status == 200
    logged.lines()  # each of which is one
    text = logged.serving.log.read_text()
    assert "Traceback" not in text
    assert '"exception"' not in text


@pytest.mark.slow
def test_a_reader_that_is_gone_stops_nothing(tmp_path: Path) -> None:
    """Requests are answered, and the server stops as ever."""
    host = f"127.0.0.1:{free_port()}"
    env = {**os.environ, "DUALREG_BIND": host, "DUALREG_DATA": str(tmp_path / "data")}
    command = [DUALREG, "serve"]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout
        while b"To push" not in process.stdout.readline():
            pass
        process.stdout.close()
        assert until(lambda: _is_up(host), 30)
        assert [Wire(host).send("GET", "/v1/search?q=a").status for _ in range(20)] == [200] * 20
        process.terminate()
        assert process.wait(90) == 0


def _is_up(host: str) -> bool:
    try:
        return Wire(host).send("GET", "/v2/").status == 200
    except OSError:
        return False
