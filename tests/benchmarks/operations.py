"""What is measured: each operation is a function of a server that returns one sample."""

import hashlib
import json
import os
import re
import secrets
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.benchmarks.servers import Server
from tests.benchmarks.wire import Connection, Refused, chunked, discard, head_rate, send

REPOSITORY = "bench/image"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_BLOBS = f"/v2/{REPOSITORY}/blobs"
#: Bytes of the block that big blobs are made of, over and over.
_BLOCK = 4 << 20
#: Bytes that make a blob like no other; they come last, so that hashing the rest is done once.
_NONCE = 32
#: Bytes of a chunk: what Go's HTTP client, and so Docker, sends.
_CHUNK = 32 << 10
_SMALL = 4 << 10
_CONNECTIONS = 16
_MEBI = 1 << 20


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is done for each sample, and how many samples are taken."""

    blob_size: int = 1 << 30
    seconds: float = 2.0
    pushes: int = 60
    rounds: int = 3


QUICK = Effort(blob_size=8 << 20, seconds=0.1, pushes=3, rounds=1)


@dataclass(frozen=True, slots=True)
class Operation:
    """One line of the table."""

    title: str
    unit: str
    measure: Callable[[Server], float]
    higher_is_better: bool = True
    v1: bool = False
    needs_wrk: bool = False

    def best(self, samples: list[float]) -> float:
        """Return the sample that other load on the machine disturbed least."""
        return max(samples) if self.higher_is_better else min(samples)


@dataclass(frozen=True, slots=True)
class _Layer:
    """The V1 layer that a server holds, and the headers that a session on it sends."""

    image: str
    digest: str
    session: dict[str, str]


@dataclass(slots=True)
class Workload:
    """Content to push and pull, and what of it each server has."""

    effort: Effort
    _block: bytes = field(init=False)
    _coded: bytes = field(init=False)
    _pulled: dict[str, str] = field(default_factory=dict)
    _layers: dict[str, _Layer] = field(default_factory=dict)
    _manifest: str = ""
    _small: str = ""

    def __post_init__(self) -> None:
        """Make the block that big blobs repeat; it starts with zeros, so that a V1 layer of it is plain."""
        self._block = bytes(16) + os.urandom(_BLOCK - 16)
        self._coded = chunked(self._block, _CHUNK)

    def operations(self) -> tuple[Operation, ...]:
        """Return everything that is measured, in the table's order."""
        size = f"{self.effort.blob_size / _MEBI:g} MiB"
        return (
            Operation(f"push {size}, chunked PATCH", "MiB/s", self.push_chunked),
            Operation(f"push {size}, monolithic PUT", "MiB/s", self.push_monolithic),
            Operation(f"pull {size}", "MiB/s", self.pull),
            Operation("push 4 KiB (POST, PATCH, PUT)", "ms", self.push_small, higher_is_better=False),
            Operation("GET manifest by tag", "req/s", self.manifest_by_tag, needs_wrk=True),
            Operation("GET manifest by digest", "req/s", self.manifest_by_digest, needs_wrk=True),
            Operation("GET blob of 4 KiB", "req/s", self.small_blob, needs_wrk=True),
            Operation("HEAD blob", "req/s", self.head_blob),
            Operation(f"V1 push of a {size} layer", "MiB/s", self.push_layer, v1=True),
            Operation(f"V1 pull of a {size} layer", "MiB/s", self.pull_layer, v1=True),
        )

    def prepare(self, server: Server) -> None:
        """Push the image that small requests ask for."""
        config = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'
        layer = self._block[:_SMALL]
        self._small = _digest(layer)
        descriptor = {"mediaType": "application/vnd.oci.image.layer.v1.tar", "size": _SMALL}
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "size": len(config),
                "digest": _digest(config),
            },
            "layers": [descriptor | {"digest": self._small}],
        }
        payload = json.dumps(manifest).encode()
        self._manifest = _digest(payload)
        with Connection(server.host) as connection:
            for blob in (config, layer):
                _push_small(connection, blob)
            path = f"/v2/{REPOSITORY}/manifests/latest"
            connection.ask("PUT", path, payload, {"Content-Type": _MANIFEST})

    def push_chunked(self, server: Server) -> float:
        """Push as Docker does: POST, one PATCH of unknown length, PUT."""
        nonce, digest = self._blob()
        start = time.perf_counter()
        with Connection(server.host) as connection:
            location = connection.ask("POST", f"{_BLOBS}/uploads/").location
            body = self._chunked_body(nonce)
            headers = {"Transfer-Encoding": "chunked", "Content-Type": "application/octet-stream"}
            location = send(server.host, "PATCH", location, body, headers)
            connection.ask("PUT", _with_digest(location, digest))
        rate = self._rate(start)
        self._replace(server, digest)
        return rate

    def push_monolithic(self, server: Server) -> float:
        """Push in one PUT of known length."""
        nonce, digest = self._blob()
        start = time.perf_counter()
        with Connection(server.host) as connection:
            location = connection.ask("POST", f"{_BLOBS}/uploads/").location
        headers = {"Content-Length": str(self.effort.blob_size), "Content-Type": "application/octet-stream"}
        send(server.host, "PUT", _with_digest(location, digest), [*self._blocks(self._block), nonce], headers)
        rate = self._rate(start)
        self._replace(server, digest)
        return rate

    def pull(self, server: Server) -> float:
        """Pull what was pushed last."""
        start = time.perf_counter()
        return self._received(discard(server.host, f"{_BLOBS}/{self._pulled[server.name]}"), start)

    def push_small(self, server: Server) -> float:
        """Push small blobs one after the other over one connection; return the median time of one, in ms."""
        times = []
        with Connection(server.host) as connection:
            for _ in range(self.effort.pushes):
                blob = os.urandom(_SMALL)
                start = time.perf_counter()
                _push_small(connection, blob)
                times.append(time.perf_counter() - start)
        return statistics.median(times) * 1000

    def manifest_by_tag(self, server: Server) -> float:
        """Get one manifest by its tag, again and again."""
        return self._wrk(server, f"/v2/{REPOSITORY}/manifests/latest")

    def manifest_by_digest(self, server: Server) -> float:
        """Get one manifest by its digest, again and again."""
        return self._wrk(server, f"/v2/{REPOSITORY}/manifests/{self._manifest}")

    def small_blob(self, server: Server) -> float:
        """Get one small blob, again and again."""
        return self._wrk(server, f"{_BLOBS}/{self._small}")

    def head_blob(self, server: Server) -> float:
        """Ask whether a blob is there, again and again."""
        path = f"{_BLOBS}/{self._small}"
        return head_rate(server.host, path, connections=_CONNECTIONS, seconds=self.effort.seconds)

    def push_layer(self, server: Server) -> float:
        """Push a V1 image whose layer is big and not compressed."""
        image, session = secrets.token_hex(32), _v1_session(server)
        nonce, digest = self._blob()
        with Connection(server.host) as connection:
            connection.ask("PUT", f"/v1/images/{image}/json", json.dumps({"id": image}).encode(), session)
            start = time.perf_counter()
            headers = session | {"Transfer-Encoding": "chunked"}
            send(server.host, "PUT", f"/v1/images/{image}/layer", self._chunked_body(nonce), headers)
            rate = self._rate(start)
            # Docker 0.6 to 0.9 knows no payload checksum: an image of theirs is complete without.
            connection.ask("PUT", f"/v1/images/{image}/checksum", b"", session | {"X-Docker-Checksum": "-"})
        if old := self._layers.get(server.name):
            server.forget(old.digest)
        self._layers[server.name] = _Layer(image, digest, session)
        return rate

    def pull_layer(self, server: Server) -> float:
        """Pull the layer that was pushed last."""
        layer = self._layers[server.name]
        start = time.perf_counter()
        return self._received(discard(server.host, f"/v1/images/{layer.image}/layer", layer.session), start)

    def _blob(self) -> tuple[bytes, str]:
        """Return what makes a big blob like no other, and the digest of that blob."""
        nonce = os.urandom(_NONCE)
        hasher = hashlib.sha256()
        for block in self._blocks(self._block):
            hasher.update(block)
        hasher.update(nonce)
        return nonce, f"sha256:{hasher.hexdigest()}"

    def _blocks(self, block: bytes) -> Iterator[bytes | memoryview]:
        """Yield a big blob but for its nonce; *block* is the block or its coding."""
        whole = self.effort.blob_size // _BLOCK - 1
        for _ in range(whole):
            yield block
        if block is self._block:
            yield memoryview(block)[: _BLOCK - _NONCE]
        else:
            yield chunked(self._block[: _BLOCK - _NONCE], _CHUNK)

    def _chunked_body(self, nonce: bytes) -> Iterator[bytes | memoryview]:
        yield from self._blocks(self._coded)
        yield chunked(nonce, _CHUNK) + b"0\r\n\r\n"

    def _rate(self, start: float) -> float:
        return self.effort.blob_size / _MEBI / (time.perf_counter() - start)

    def _received(self, length: int, start: float) -> float:
        rate = self._rate(start)
        if length != self.effort.blob_size:
            raise Refused(f"{length} bytes came instead of {self.effort.blob_size}")
        return rate

    def _replace(self, server: Server, digest: str) -> None:
        """Keep one big blob a server, so that a run needs little room on the disk."""
        if old := self._pulled.get(server.name):
            server.forget(old)
        self._pulled[server.name] = digest

    def _wrk(self, server: Server, path: str) -> float:
        command = ["wrk", "-t", "2", "-c", str(_CONNECTIONS), "-d", f"{max(1, round(self.effort.seconds))}s"]
        done = subprocess.run(
            [*command, "-H", f"Accept: {_MANIFEST}, */*", f"http://{server.host}{path}"],
            capture_output=True,
            text=True,
            check=True,
        )
        if "Non-2xx" in done.stdout or (rate := re.search(r"Requests/sec:\s+([0-9.]+)", done.stdout)) is None:
            raise Refused(f"GET {path}: {done.stdout}")
        return float(rate[1])


def has_wrk() -> bool:
    """Tell whether wrk is installed."""
    return shutil.which("wrk") is not None


def _push_small(connection: Connection, blob: bytes) -> None:
    location = connection.ask("POST", f"{_BLOBS}/uploads/").location
    headers = {"Content-Type": "application/octet-stream"}
    location = connection.ask("PATCH", location, blob, headers).location
    connection.ask("PUT", _with_digest(location, _digest(blob)))


def _v1_session(server: Server) -> dict[str, str]:
    with Connection(server.host) as connection:
        answer = connection.ask("PUT", "/v1/repositories/bench/old/", b"[]", {"X-Docker-Token": "true"})
    return {"Authorization": f"Token {answer.headers['X-Docker-Token']}"}


def _with_digest(location: str, digest: str) -> str:
    return f"{location}{'&' if '?' in location else '?'}digest={digest}"


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
