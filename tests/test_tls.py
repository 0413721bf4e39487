"""HTTPS without a proxy, by a certificate that changes while the registry runs."""

import datetime as dt
import ipaddress
import socket
import ssl
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from dualreg.cli.pacing import PacedSocket
from dualreg.cli.serve import certificate
from tests import builders
from tests.programs import DUALREG, environment, free_port, require, running, until, wait_for

pytestmark = pytest.mark.slow


def make_certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """Write a certificate of 127.0.0.1 that signs itself, and its key, over those that are there."""
    key, subject = (
        ec.generate_private_key(ec.SECP256R1()),
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]),
    )
    now = dt.datetime.now(dt.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "chain.pem", folder / "key.pem"
    paths[0].write_bytes(made.public_bytes(Encoding.PEM))
    paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return paths


def served(host: str) -> str:
    """Return the certificate that a server shows, in PEM; nothing if none answers."""
    name, _, port = host.partition(":")
    try:
        return ssl.get_server_certificate((name, int(port)), timeout=5)
    except OSError:
        return ""


def test_clients_push_and_pull_and_a_new_certificate_needs_no_restart(tmp_path: Path) -> None:
    """Skopeo verifies the certificate; half a renewal changes nothing, a whole one is taken up."""
    require("skopeo", package="skopeo")
    chain, key = make_certificate(tmp_path, "first")
    host, log = f"127.0.0.1:{free_port()}", tmp_path / "log"
    options = ["--bind", host, "--data", tmp_path / "data", "--tls-cert", chain, "--tls-key", key]
    folder = builders.skopeo_folder(tmp_path / "image", builders.image(builders.layer({"a": b"1"})))
    with running([DUALREG, "serve", *options], log):
        assert until(lambda: served(host) == chain.read_text())
        assert f"on https://{host}" in log.read_text()
        trust = tmp_path / "trust"
        trust.mkdir()
        (trust / "ca.crt").write_text(chain.read_text())
        there, back = ["--dest-cert-dir", trust], ["--src-cert-dir", trust]
        for copy in (
            [*there, f"dir:{folder}", f"docker://{host}/tls/app:1"],
            [*back, f"docker://{host}/tls/app:1", f"dir:{tmp_path / 'back'}"],
        ):
            command = ["skopeo", "--insecure-policy", "copy", *copy]
            subprocess.run(command, check=True, capture_output=True, env=environment(), timeout=60)
        before = chain.read_text()
        chain.write_text("half of it")
        assert served(host) == before
        assert "using the last version" in log.read_text()
        make_certificate(tmp_path, "second")
        assert chain.read_text() != before
        assert served(host) == chain.read_text()


def test_any_gunicorn_serves_https(tmp_path: Path) -> None:
    """``gunicorn wsgi:app`` never serves plain HTTP where a certificate is set."""
    chain, key = make_certificate(tmp_path, "any")
    host, log, root = f"127.0.0.1:{free_port()}", tmp_path / "log", Path(__file__).parents[1]
    command = [DUALREG.with_name("gunicorn"), "--chdir", root, "--config", root / "gunicorn.conf.py"]
    variables = {"BIND": host, "DATA": tmp_path / "data", "TLS_CERT": chain, "TLS_KEY": key}
    env = {f"DUALREG_{name}": str(value) for name, value in variables.items()}
    with running([*command, "wsgi:app"], log, env) as process:
        wait_for(lambda: served(host), process, log)
        assert served(host).split() == chain.read_text().split()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--tls-cert", "chain.pem"], "tls_cert and tls_key are only valid together"),
        (["--tls-cert", "absent.pem", "--tls-key", "key.pem"], "cannot load absent.pem and key.pem"),
        (["--tls-cert", "key.pem", "--tls-key", "key.pem"], "cannot load key.pem and key.pem"),
    ],
    ids=["one alone", "absent", "no certificate"],
)
def test_what_cannot_be_used_is_said_in_one_line(tmp_path: Path, flags: list[str], message: str) -> None:
    """Before anything is served or made."""
    make_certificate(tmp_path, "any")
    done = subprocess.run(
        [DUALREG, "serve", *flags],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "dualreg-data").exists()


def test_a_context_is_made_once(tmp_path: Path) -> None:
    """Not for each connection; and whatever becomes of the files, there is one."""
    tls = certificate(*make_certificate(tmp_path, "one"))
    first = tls.get()
    assert tls.get() is first
    make_certificate(tmp_path, "two")
    second = tls.get()
    assert second is not first
    (tmp_path / "key.pem").unlink()
    assert tls.get() is second


@contextmanager
def _connected(folder: Path, window: float) -> Iterator[tuple[PacedSocket, ssl.SSLSocket]]:
    """Both ends of a connection over TLS: the server's, which is paced, and the client's."""
    chain, key = make_certificate(folder, "pair")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    trusting = ssl.create_default_context(cafile=chain)
    ours, theirs = socket.socketpair()
    with ThreadPoolExecutor(1) as pool, ours, theirs:
        ours.settimeout(10)
        theirs.settimeout(10)
        client = pool.submit(trusting.wrap_socket, theirs, server_hostname="127.0.0.1")
        with context.wrap_socket(ours, server_side=True) as served, client.result() as connected:
            yield PacedSocket(served, window), connected


def test_what_has_arrived_over_tls_is_received_at_once(tmp_path: Path) -> None:
    """Many records, up to the size that is asked for; the next call gets the rest, the last sees the end."""
    with _connected(tmp_path, 10) as (server, client):
        for part in (b"a" * 40_000, b"b", b"c" * 20_000):
            client.sendall(part)
        assert server.recv(40_000) == b"a" * 40_000
        assert server.recv(1 << 20) == b"b" + b"c" * 20_000
        assert not server.ended
        client.sendall(b"the rest")
        client.close()
        assert (server.recv(3), server.ended) == (b"the", False)
        assert (server.recv(1 << 20), server.ended) == (b" rest", False)
        assert (server.recv(1 << 20), server.ended) == (b"", True)


def test_a_client_that_sends_nothing_over_tls_is_given_up(tmp_path: Path) -> None:
    """After its time, or at once if no wait is allowed; not before."""
    with _connected(tmp_path, 0.2) as (server, client):
        client.sendall(b"x")
        assert server.recv(9) == b"x"
        server.settimeout(0.01)
        with pytest.raises(TimeoutError):
            server.recv(9)
        server.settimeout(None)
        assert (server.recv(9), server.ended) == (b"", True)


@pytest.mark.parametrize("over_tls", [False, True])
def test_what_one_call_sends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, over_tls: bool) -> None:
    """Over TLS, no more than shows progress; otherwise all that is left: the kernel takes what fits."""
    data, offered, send = bytes(range(256)) * 4_000, list[int](), PacedSocket.send

    def note(sock: PacedSocket, piece: memoryview) -> int:
        offered.append(len(piece))
        return send(sock, piece)

    monkeypatch.setattr(PacedSocket, "send", note)
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(1))
        client: socket.socket
        if over_tls:
            server, client = stack.enter_context(_connected(tmp_path, 10))
        else:
            ours, client = map(stack.enter_context, socket.socketpair())
            server = PacedSocket(ours, 10)
        received = pool.submit(_receive, client, len(data))
        server.sendall(data)
        assert received.result(20) == data
        assert server.body_sent == 0  # it is the first, as of a head
    assert max(offered) == (64 << 10 if over_tls else len(data))


def _receive(client: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size and (data := client.recv(size)):
        received += data
    return received
