"""What a service manager hears of ``dualreg serve``, over a real socket, and what health checks find out."""

import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.programs import DUALREG, dualreg_process, free_port, running, start, until, wait_until_up
from tests.test_tls import make_certificate

pytestmark = pytest.mark.slow


@pytest.fixture
def notified(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket that a service manager listens on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"{tmp_path}/notify")
        manager.settimeout(20)
        yield manager


def heard(manager: socket.socket, last: str) -> list[str]:
    """Return the variables that the service manager receives, until one matches *last*."""
    found: list[str] = []
    while not any(re.fullmatch(last, variable) for variable in found):
        found += manager.recv(4096).decode().splitlines()
    return found


def test_a_service_manager_is_notified(notified: socket.socket, tmp_path: Path) -> None:
    """Of readiness once clients can connect, of a reload and its end, and of a stop; and regularly."""
    bind = f"127.0.0.1:{free_port()}"
    env = {"DUALREG_BIND": bind, "DUALREG_DATA": f"{tmp_path}/data", "WATCHDOG_USEC": "30000000"}
    env["NOTIFY_SOCKET"] = str(notified.getsockname())
    with running([DUALREG, "serve"], tmp_path / "log", env) as process:
        assert "READY=1" in heard(notified, f"STATUS=Serving on http://{bind}")
        socket.create_connection(("127.0.0.1", int(bind.rpartition(":")[2])), 1).close()
        assert "WATCHDOG=1" in heard(notified, "WATCHDOG=1")
        assert "WATCHDOG=1" in heard(notified, "WATCHDOG=1")
        process.send_signal(signal.SIGHUP)
        reload = [variable for variable in heard(notified, "READY=1") if variable != "WATCHDOG=1"]
        assert reload[::2] == ["RELOADING=1", "READY=1"]
        assert re.fullmatch(r"MONOTONIC_USEC=\d+", reload[1])
        process.send_signal(signal.SIGTERM)
        assert "STOPPING=1" in heard(notified, "STOPPING=1")
        assert process.wait(20) == 0


def test_without_a_watchdog_nothing_is_sent_regularly(notified: socket.socket, tmp_path: Path) -> None:
    """A service manager that watches nothing receives messages about changes only."""
    settings = {"DUALREG_BIND": f"127.0.0.1:{free_port()}", "DUALREG_DATA": f"{tmp_path}/data"}
    env = {**settings, "NOTIFY_SOCKET": str(notified.getsockname())}
    with running([DUALREG, "serve"], tmp_path / "log", env) as process:
        heard(notified, "STATUS=Serving on .*")
        notified.settimeout(2.5)
        with pytest.raises(TimeoutError):
            notified.recv(4096)
        process.send_signal(signal.SIGTERM)
        assert heard(notified, "STATUS=Stopping")[0] == "STOPPING=1"


def asked(folder: Path, **settings: object) -> tuple[int, str]:
    """Run ``dualreg health``; return its exit status and output."""
    log = folder / "health.log"
    log.write_text("")
    env = {f"DUALREG_{name.upper()}": str(value) for name, value in settings.items()}
    status = start([DUALREG, "health"], log, env, cwd=folder).wait(30)
    return status, log.read_text()


@pytest.mark.parametrize("address", ["127.0.0.1:{}", "0.0.0.0:{}", "[::]:{}", "unix:{}/socket", "https"])
def test_health_asks_the_address_of_the_settings(tmp_path: Path, address: str) -> None:
    """Whatever kind it is, of the same settings as the server; without a server, it fails with the reason."""
    bind = address.format(tmp_path if "unix" in address else free_port())
    settings = {"bind": bind, "data": tmp_path / "data", "auth": "none"}
    if address == "https":
        chain, key = make_certificate(tmp_path, "server")
        settings |= {"bind": f"127.0.0.1:{free_port()}", "tls_cert": chain, "tls_key": key}
    env = {f"DUALREG_{name.upper()}": str(value) for name, value in settings.items()}
    log = tmp_path / "log"
    with running([DUALREG, "serve"], log, env):
        assert until(lambda: "Serving" in log.read_text()), log.read_text()
        status, output = asked(tmp_path, **settings)
        assert (status, f"The server on {settings['bind']} can serve." in output) == (0, True), output
    status, output = asked(tmp_path, **settings)
    assert (status, f"Error: no answer of dualreg on {settings['bind']}: " in output) == (1, True), output


def test_health_fails_with_what_the_server_lacks(tmp_path: Path) -> None:
    """A server without its catalog answers, and is not healthy; neither is what is not dualreg at all."""
    with dualreg_process(tmp_path / "data") as serving:
        wait_until_up(f"http://{serving.host}/_status", serving.process, serving.log)
        (tmp_path / "data/catalog.sqlite3").unlink()
        assert until(lambda: asked(tmp_path, bind=serving.host)[0] == 1)
        assert until(lambda: "Error: status 503: " in asked(tmp_path, bind=serving.host)[1])
    with socket.create_server(("127.0.0.1", 0)) as other:
        bind = f"127.0.0.1:{other.getsockname()[1]}"
        process = start([DUALREG, "health"], tmp_path / "other.log", {"DUALREG_BIND": bind})
        client, _ = other.accept()
        client.sendall(b"HTTP/1.0 200 OK\r\n\r\n[]")
        client.close()
        assert process.wait(20) == 1
    assert f"Error: no answer of dualreg on {bind}: " in (tmp_path / "other.log").read_text()
