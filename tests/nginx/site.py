"""The repository's nginx files, run as they are but for the values that an operator edits."""

import http.client
import ssl
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.programs import children, free_port, running, wait_until_up
from tests.protocol.clients.wire import Answer

SOURCE = Path(__file__).parents[2] / "nginx"
#: What differs between any two answers.
_OWN = {"date", "server", "connection", "x-request-id"}

#: Between the addresses of several instances.
BETWEEN = " fail_timeout=1s; server "

#: What Debian's own nginx.conf has around the files, as far as it matters here.
_MAIN = """
user root;
worker_processes 2;
daemon off;
pid {prefix}/nginx.pid;
error_log {prefix}/error.log notice;
events {{ worker_connections 512; }}
http {{
    client_body_temp_path {prefix}/temp/body;
    proxy_temp_path {prefix}/temp/proxy;
    fastcgi_temp_path {prefix}/temp/fastcgi;
    uwsgi_temp_path {prefix}/temp/uwsgi;
    scgi_temp_path {prefix}/temp/scgi;
    gzip on;
    gzip_types *;
    gzip_proxied any;
    include dualreg/{name};
    access_log {access_log};
}}
"""


@dataclass(frozen=True)
class Site:
    """A running nginx: *tls* and *plain* are HOST:PORT."""

    tls: str
    plain: str
    prefix: Path
    authority: Path

    def send(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterable[bytes] | None = None,
    ) -> Answer:
        """Send one request over TLS, verified; a *body* that is not bytes goes chunked."""
        with self.connected() as connection:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            joined: dict[str, str] = {}
            for name, value in response.getheaders():
                key = name.lower()
                joined[key] = f"{joined[key]},{value}" if key in joined else value
            return Answer(response.status, joined, response.read())

    @contextmanager
    def connected(self) -> Iterator[http.client.HTTPSConnection]:
        """Open a TLS connection for the block."""
        context = ssl.create_default_context(cafile=str(self.authority))
        connection = http.client.HTTPSConnection(self.tls, timeout=30, context=context)
        try:
            yield connection
        finally:
            connection.close()

    @property
    def pid(self) -> int:
        """The main process."""
        return int((self.prefix / "nginx.pid").read_text())

    def kept_on_disk(self) -> list[str]:
        """Return the temporary files that nginx has open; it unlinks them as soon as it has made them."""
        opened = (path for worker in children(self.pid) for path in Path(f"/proc/{worker}/fd").iterdir())
        targets = [_target(path) for path in opened]
        return [target for target in targets if target.startswith(f"{self.prefix}/temp/")]


def _target(path: Path) -> str:
    """Return what a file descriptor is of; nothing if it has just been closed."""
    try:
        return str(path.readlink())
    except FileNotFoundError:
        return ""


def make_certificate(folder: Path, host: str = "127.0.0.1") -> Path:
    """Make a P-256 certificate for an address or a name; return it, its key is beside it."""
    certificate = folder / "ca.crt"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    kind = "IP" if host[0].isdigit() else "DNS"
    command += ["-days", "2", "-subj", f"/CN={host}", "-addext", f"subjectAltName={kind}:{host}"]
    subprocess.run(
        [*command, "-keyout", folder / "key.pem", "-out", certificate], check=True, capture_output=True
    )
    return certificate


@contextmanager
def nginx_site(
    name: str, prefix: Path, certificate: Path, upstream: str, data: Path, *, old: str = "", log: bool = True
) -> Iterator[Site]:
    """Run nginx with the file *name* in front of *upstream*, and of the registry *old* if it has one.

    Args:
        upstream: The address of an instance, or those of several ones, joined by BETWEEN.
        log: Write a line for each request into ``access.log``.
    """
    tls, plain = (f"127.0.0.1:{free_port()}" for _ in range(2))
    edits = {
        "server.conf": {
            "listen 443 ssl;": f"listen {tls} ssl;",
            "listen 80;": f"listen {plain};",
            "/etc/ssl/registry/fullchain.pem": str(certificate),
            "/etc/ssl/registry/privkey.pem": str(certificate.with_name("key.pem")),
            "/var/lib/dualreg;": f"{data};",
        },
        "upstream.conf": {"127.0.0.1:5000": upstream, "/run/nginx-dualreg": f"{prefix}/cache"},
        "transition.conf": {"127.0.0.1:5001": old},
    }
    (prefix / "dualreg").mkdir(parents=True)
    (prefix / "temp").mkdir()
    for source in SOURCE.glob("*.conf"):
        text = _edit(source.read_text(), edits.get(source.name, {}))
        (prefix / "dualreg" / source.name).write_text(text)
    main = prefix / "nginx.conf"
    access_log = f"{prefix}/access.log dualreg" if log else "off"
    main.write_text(_MAIN.format(prefix=prefix, name=name, access_log=access_log))
    output = prefix / "output.log"
    with running(["nginx", "-p", prefix, "-c", main], output) as process:
        wait_until_up(f"http://{plain}/", process, output)
        yield Site(tls, plain, prefix, certificate)


def _edit(text: str, edits: Mapping[str, str]) -> str:
    """Replace each value, which is there exactly once."""
    for old, new in edits.items():
        assert text.count(old) == 1, f"{old} is there {text.count(old)} times"
        text = text.replace(old, new)
    return text


def compared(answer: Answer) -> tuple[int, Mapping[str, str], bytes]:
    """Return what has to be the same, whoever gives the answer; nginx leaves out Accept-Ranges of a part."""
    left_out = _OWN | ({"accept-ranges"} if answer.status == 206 else set())
    kept = {name: text for name, text in answer.headers.items() if name not in left_out}
    return answer.status, kept, answer.body


def members(folder: Path) -> dict[str, bytes]:
    """Return every file of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}
