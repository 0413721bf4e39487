"""The ``dualreg`` command as its users meet it: started, configured, asked, and stopped."""

import http.client
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, suppress
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest

from dualreg import __version__
from dualreg.assembly import open_registry
from dualreg.cli.addresses import check_addresses
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName
from dualreg.settings import Settings
from tests import builders
from tests.programs import (
    DUALREG,
    Serving,
    children,
    dualreg_process,
    dualreg_server,
    free_port,
    require,
    running,
    start,
    until,
    wait_until_up,
)
from tests.protocol.clients.v1 import V1Client
from tests.protocol.clients.v2 import V2Client
from tests.protocol.clients.wire import Wire

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
MIB = 1 << 20


def dualreg(folder: Path, *arguments: str, **settings: str) -> tuple[int, str]:
    """Run ``dualreg`` in *folder*, with *settings* in its environment; return its exit code and output."""
    env = {f"DUALREG_{name.upper()}": value for name, value in settings.items()}
    log = folder / "output"
    log.write_text("")
    process = start([DUALREG, *arguments], log, env, cwd=folder)
    return process.wait(60), log.read_text()


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server with nothing configured but where to listen and to keep things."""
    with dualreg_process(tmp_path_factory.mktemp("serve") / "data", fresh=True) as serving:
        yield serving


def test_the_first_lines_say_where_it_is_and_how_to_push(serving: Serving) -> None:
    """Before anything else: the URL, the folder, and a command to paste."""
    first, second = serving.log.read_text().splitlines()[:2]
    folder = serving.log.parent / "data"
    assert first == f"Serving Docker V1, V2 and OCI clients on http://{serving.host} from {folder}"
    assert second.endswith(f"docker tag IMAGE {serving.host}/IMAGE && docker push {serving.host}/IMAGE")


def test_nothing_needs_to_be_prepared(serving: Serving) -> None:
    """The folder and the SQLite catalog are made by the first start; a push and a pull work at once."""
    assert (serving.log.parent / "data/catalog.sqlite3").stat().st_size > 0
    image = builders.image(builders.layer({"a": b"1"}))
    V2Client(serving.host).push("first", "1", image)
    assert V2Client(serving.host).pull("first", "1").digest == str(image.digest)


def test_each_request_is_logged(serving: Serving) -> None:
    """The access log has a line for a request, with its status, the bytes of the body, and its duration."""
    content = bytes(range(256)) * (16 * MIB // 256)
    path = f"/v2/logged/blobs/{Digest.of(content)}"
    wire, agent = Wire(serving.host), {"User-Agent": "logged"}
    wire.send("POST", f"/v2/logged/blobs/uploads/?digest={Digest.of(content)}", {}, content)
    for method, url, headers, status, length in (
        ("GET", "/v2/logged/manifests/nothing", {}, 404, r"[1-9]\d+"),
        ("GET", path, {}, 200, len(content)),
        ("HEAD", path, {}, 200, 0),
        ("GET", path, {"Range": "bytes=5-1000004"}, 206, 1_000_000),
        ("GET", path, {"Range": f"bytes={len(content)}-"}, 416, 0),
    ):
        wire.send(method, url, headers | agent)
        rest = r"\d+\.\d{6} [0-9a-f]{32} logged\n"
        line = re.compile(rf'"{method} {url} HTTP/1.1" {status} {length} "-" "logged" {rest}')
        assert until(lambda: line.search(serving.log.read_text())), line.pattern  # noqa: B023 -- called at once
    wire.send("GET", "/v2/", {"User-Agent": "long" * 8000, "Referer": "page" * 8000})
    bounded = f'"{"page" * 75}" "{"long" * 75}" '
    assert until(lambda: bounded in serving.log.read_text())


def test_what_a_client_did_not_take_is_not_logged(serving: Serving) -> None:
    """Of a download that breaks off, the bytes that were sent."""
    content = bytes(64 * MIB)
    path = f"/v2/broken/blobs/{Digest.of(content)}"
    Wire(serving.host).send("POST", f"/v2/broken/blobs/uploads/?digest={Digest.of(content)}", {}, content)
    with socket.create_connection(("127.0.0.1", int(serving.host.rpartition(":")[2]))) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        client.recv(MIB, socket.MSG_WAITALL)
    line = re.compile(rf'"GET {path} HTTP/1.1" 200 (\d+) ')
    assert until(lambda: line.search(serving.log.read_text()))
    (sent,) = line.findall(serving.log.read_text())
    assert MIB // 2 < int(sent) < len(content)


def test_pulls_before_a_stop_are_recorded(tmp_path: Path) -> None:
    """A worker that ends writes what it has noted."""
    image = builders.image(builders.layer({"a": b"kept"}))
    with dualreg_server(tmp_path / "data") as host:
        V2Client(host).push("kept", "1", image)
        V2Client(host).pull("kept", "1")
        V1Client(host).pull("kept", "1")
    settings = Settings(data=tmp_path / "data")
    registry = open_registry(settings)
    (tag,) = registry.tags.describe(RepositoryName("kept"), limit=9, after=None, reader=None).rows
    assert tag.pulled_at is not None
    assert registry.clients.list(datetime(2000, 1, 1, tzinfo=UTC))
    registry.close()


def test_tls_on_the_plain_port_is_no_warning(serving: Serving) -> None:
    """Docker tries it first with every insecure registry; other bad requests are still warned of."""
    name, _, port = serving.host.partition(":")
    before = len(serving.log.read_text())
    for random in (b"a\nb", b"a\r\nb", b"a b c\r\n\r\n", b"ab"):  # of which each breaks another rule of HTTP
        with socket.create_connection((name, int(port)), timeout=20) as plain:
            plain.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + random)
            plain.shutdown(socket.SHUT_WR)
            plain.recv(100)
    with socket.create_connection((name, int(port)), timeout=20) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nbad header\r\n\r\n")
        assert plain.recv(100).startswith(b"HTTP/1.1 400")
    until(lambda: "Invalid request" in serving.log.read_text()[before:])
    (warning,) = [line for line in serving.log.read_text()[before:].splitlines() if "WARNING" in line]
    assert "bad header" in warning.lower()


def test_a_restart_keeps_everything(tmp_path: Path) -> None:
    """A second server on the same folder serves what the first was given."""
    image = builders.image(builders.layer({"a": b"kept"}))
    with dualreg_server(tmp_path / "data") as host:
        V2Client(host).push("kept", "1", image)
    with dualreg_server(tmp_path / "data") as host:
        assert V2Client(host).pull("kept", "1").manifest == image.manifest


def test_flags_win_over_variables_and_those_over_the_file(tmp_path: Path) -> None:
    """Each source is read, and the one nearer to the command wins."""
    file = tmp_path / "registry.toml"
    file.write_text('bind = "127.0.0.1:1"\ndata = "from-file"\nworkers = 1\naccess_log = false\n')
    host, log = f"127.0.0.1:{free_port()}", tmp_path / "log"
    command = [DUALREG, "serve", "--config", file, "--data", tmp_path / "from-flag"]
    with running(command, log, {"DUALREG_BIND": host, "DUALREG_DATA": "from-variable"}) as process:
        wait_until_up(f"http://{host}/v2/", process, log)
        assert until(lambda: children(process.pid))
        assert len(children(process.pid)) == 1
    assert (tmp_path / "from-flag/catalog.sqlite3").exists()
    assert log.read_text().count("\n") == 2  # no access was logged


def test_workers_and_threads_can_be_flags(tmp_path: Path) -> None:
    """``--workers`` is how many processes serve, ``--threads`` how many requests each takes at once."""
    host, log = f"127.0.0.1:{free_port()}", tmp_path / "log"
    options = ["--bind", host, "--data", tmp_path / "data", "--workers", "1", "--threads", "1"]
    with running([DUALREG, "serve", *options], log) as process:
        wait_until_up(f"http://{host}/v2/", process, log)
        assert len(children(process.pid)) == 1
        with closing(http.client.HTTPConnection(host, timeout=20)) as first:
            first.putrequest("POST", "/v2/x/blobs/uploads/?digest=sha256:" + "0" * 64)
            first.putheader("Content-Length", str(MIB))
            first.endheaders(b"1")
            time.sleep(0.3)  # until the only thread waits for the second byte
            with closing(http.client.HTTPConnection(host, timeout=1)) as second:
                second.request("GET", "/v2/_catalog")
                with pytest.raises(TimeoutError):
                    second.getresponse()
                assert (
                    Wire(host).send("GET", "/v2/").status == 200
                )  # load balancers have threads of their own
                first.send(bytes(MIB - 1))
                assert first.getresponse().status == 400


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        ((), {"colour": "red"}, 'Error: unknown setting "colour" (from DUALREG_COLOUR)\n'),
        (("--config", "wrong.toml"), {}, 'Error: unknown setting "colour" (from wrong.toml)\n'),
        (("--config", "absent.toml"), {}, "Error: absent.toml: no such file\n"),
        (
            ("--bind", "nowhere"),
            {},
            'Error: bind = "nowhere": expected HOST:PORT, PORT or unix:PATH (from --bind)\n',
        ),
        (("--workers", "0"), {}, "Error: workers = 0: expected 1 or more (from --workers)\n"),
        (
            (),
            {"store": "s4://b"},
            'Error: store = "s4://b": expected file:///PATH or s3://BUCKET/PREFIX (from DUALREG_STORE)\n',
        ),
        (
            ("--config", "upstream.toml"),
            {},
            "Error: upstreams: cannot load absent: [Errno 2] No such file or directory: 'absent'\n",
        ),
    ],
    ids=["variable", "key", "file", "bind", "workers", "store", "upstream"],
)
def test_a_mistake_is_one_readable_line(
    tmp_path: Path, arguments: tuple[str, ...], settings: Mapping[str, str], message: str
) -> None:
    """A setting that does not exist, or a value it cannot have, is named; the exit code is 1."""
    (tmp_path / "wrong.toml").write_text('colour = "red"\n')
    login = 'url = "https://ghcr.io"\nusername = "me"\npassword_file = "absent"\n'
    (tmp_path / "upstream.toml").write_text(f'[upstreams."hub/*"]\n{login}')
    failed = dualreg(tmp_path, "serve", *arguments, **{"bind": f"127.0.0.1:{free_port()}", **settings})
    assert failed == (1, message)


@pytest.mark.parametrize("command", [[sys.executable, "-m", "dualreg"], [str(DUALREG)]], ids=["-m", "script"])
def test_the_version(command: list[str], tmp_path: Path) -> None:
    """Both ways to start it tell the package's version."""
    done = subprocess.run(
        [*command, "--version"], capture_output=True, text=True, timeout=60, check=True, cwd=tmp_path
    )
    assert done.stdout == f"dualreg, version {__version__}\n"


def test_workers_share_connections(tmp_path: Path) -> None:
    """All have about as many, also of clients that connect at once and stay."""

    def sockets(worker: int) -> int:
        found = 0
        for each in Path(f"/proc/{worker}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed since
                found += "socket:" in f"{each.readlink()}"
        return found

    def are_spread() -> bool:
        with ExitStack() as stack:
            for _ in range(18):
                stack.enter_context(socket.create_connection((name, int(port))))
            return until(lambda: min(map(sockets, workers)) >= 1 + 5, 3)  # one is the server's

    with dualreg_process(tmp_path / "data", workers=3, fsck_rate=0) as serving:
        name, _, port = serving.host.rpartition(":")
        workers = children(serving.process.pid)[:3]
        assert until(are_spread)


@pytest.mark.parametrize("options", [[], ["-k", "gthread", "--threads", "4"]], ids=["own", "overridden"])
def test_any_gunicorn_can_serve_it(tmp_path: Path, options: list[str]) -> None:
    """``gunicorn wsgi:app`` from the checkout serves both APIs, configured as ``dualreg serve`` is."""
    host, log = f"127.0.0.1:{free_port()}", tmp_path / "log"
    own = ["--chdir", ROOT, "--config", ROOT / "gunicorn.conf.py"]
    command = [DUALREG.with_name("gunicorn"), *own, *options, "wsgi:app"]
    variables = {"DUALREG_DATA": str(tmp_path / "data"), "DUALREG_BIND": host}
    with running(command, log, variables, fresh=True) as process:
        wait_until_up(f"http://{host}/v2/", process, log)
        assert Wire(host).send("GET", "/v2/", {"Authorization": "x" * 60_000}).status == 200
        chain = builders.v1_chain(builders.layer({"a": b"1"}))
        V1Client(host).push("any/old", "1", chain)
        assert V1Client(host).pull("any/old", "1")[0].layer == chain[0].layer
        assert V2Client(host).pull("any/old", "1").layers == [chain[0].layer]
    assert (tmp_path / "data/catalog.sqlite3").exists()


def test_sigterm_ends_it_cleanly(tmp_path: Path) -> None:
    """The server ends with 0, its workers with it; a request under way is still answered."""
    content = bytes(range(256)) * 1000
    with dualreg_process(tmp_path / "data", fresh=True) as (host, process, log):
        workers = children(process.pid)
        with closing(http.client.HTTPConnection(host, timeout=30)) as connection:
            connection.putrequest("POST", f"/v2/late/blobs/uploads/?digest={Digest.of(content)}")
            connection.putheader("Content-Length", str(len(content)))
            connection.endheaders(content[:1000])
            time.sleep(0.3)  # until the handler runs
            process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            connection.send(content[1000:])
            assert connection.getresponse().status == 201
        assert process.wait(15) == 0
        assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]
        assert "Traceback" not in log.read_text()


def test_blobs_are_sent_by_the_kernel(tmp_path: Path) -> None:
    """Over plain HTTP, a blob and a range of it go through sendfile, not through Python."""
    require("strace", package="strace")
    calls, content = tmp_path / "calls", bytes(range(256)) * (4 * MIB // 256)
    wrapper = ["strace", "-D", "-f", "-e", "trace=sendfile", "-o", calls]
    with dualreg_process(tmp_path / "data", wrapper=wrapper) as (host, _, _):
        digest = Digest.of(content)
        path = f"/v2/kernel/blobs/{digest}"
        stored = Wire(host).send("POST", f"/v2/kernel/blobs/uploads/?digest={digest}", {}, content)
        assert stored.status == 201
        assert Wire(host).send("GET", path).body == content
        assert Wire(host).send("GET", path, {"Range": "bytes=1000-1999999"}).body == content[1000:2_000_000]
    sent = re.findall(r"sendfile.*\) += (\d+)", calls.read_text())  # also where strace splits a line
    assert sum(map(int, sent)) == len(content) + 1_999_000


def test_the_configuration_can_be_looked_at(tmp_path: Path) -> None:
    """``config show`` says of every setting what it is and which file, variable or flag set it."""
    (tmp_path / "dualreg.toml").write_text("threads = 7\n")
    _, shown = dualreg(tmp_path, "config", "show", "--json", "--data", "here", bind="127.0.0.1:7")
    settings = json.loads(shown.partition("\n")[2])
    assert settings["threads"] == {"value": 7, "origin": "threads in dualreg.toml"}
    assert settings["bind"] == {"value": "127.0.0.1:7", "origin": "DUALREG_BIND"}
    assert settings["data"] == {"value": "here", "origin": "--data"}
    assert settings["workers"] == {"value": 2, "origin": "default"}
    lines = dualreg(tmp_path, "config", "show")[1].splitlines()[1:]
    assert {line.split()[0] for line in lines} == set(settings)


def test_the_database_can_be_upgraded_by_hand(tmp_path: Path) -> None:
    """``db upgrade`` makes the schema; once more, it finds nothing to do."""
    (tmp_path / "data").mkdir()
    first, second = (dualreg(tmp_path, "db", "upgrade", "--data", "data") for _ in range(2))
    announced, *lines = first[1].splitlines() + second[1].splitlines()
    assert (first[0], second[0], announced) == (0, 0, f"Registry: {tmp_path}/data (--data)")
    assert lines[0].startswith("Upgraded ")
    assert lines[2].startswith("The catalog is up to date (")


def test_a_port_that_is_taken_is_one_line(serving: Serving, tmp_path: Path) -> None:
    """A second server on the same address ends at once, with an error that names it."""
    failed = dualreg(tmp_path, "serve", bind=serving.host, data=str(tmp_path / "data"))
    assert failed == (1, f"Error: cannot listen on {serving.host}: Address already in use\n")
    assert not (tmp_path / "data").exists()


def test_a_socket_is_for_owner_and_group(tmp_path: Path) -> None:
    """Who can connect is believed about the client's address; nor is the data directory everybody's."""
    path, data, log = tmp_path / "s", tmp_path / "data", tmp_path / "log"
    before = os.umask(0)
    try:
        with running([DUALREG, "serve", "--bind", f"unix:{path}", "--data", data], log, fresh=True):
            assert until(path.is_socket)
            assert until(lambda: "Serving" in log.read_text())
            modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in (path, data)}
    finally:
        os.umask(before)
    assert modes == {"s": 0o770, "data": 0o750}


def test_a_socket_that_is_taken_stays(tmp_path: Path) -> None:
    """A second server neither takes nor removes it; one that nobody listens on is replaced."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        failed = dualreg(tmp_path, "serve", bind=f"unix:{path}", data=str(tmp_path / "data"))
        assert failed == (1, f"Error: cannot listen on unix:{path}: Address already in use\n")
        assert path.is_socket()
    check_addresses(Settings(bind=f"unix:{path}"))
    path.unlink()
    check_addresses(Settings(bind=f"unix:{path}"))
    path.write_text("precious")
    with pytest.raises(click.ClickException, match="is not a socket"):
        check_addresses(Settings(bind=f"unix:{path}"))
    assert path.read_text() == "precious"
