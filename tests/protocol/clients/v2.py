"""A V2 client that does what Docker and skopeo do today, and verifies every byte it is given."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from dualreg.image import media_types
from dualreg.image.digest import Digest
from tests.builders import Image
from tests.protocol.clients.wire import Answer, ProtocolError, Wire, need

AGENT = "docker/28.0.0 go/go1.24 git-commit/newclnt kernel/6.12.0 os/linux arch/amd64"
#: What today's Docker asks for: one line a type.
DOCKER = (
    media_types.DOCKER_MANIFEST,
    media_types.DOCKER_LIST,
    media_types.OCI_INDEX,
    media_types.OCI_MANIFEST,
)
#: What the first Docker with schema 2 asks for.
DOCKER_1_10 = (
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
    "application/json",
    media_types.DOCKER_MANIFEST,
    media_types.DOCKER_LIST,
)
#: What a client asks for that was born with OCI.
OCI = (media_types.OCI_MANIFEST, media_types.OCI_INDEX)
#: What a client asks for that knows no indexes.
IMAGES_ONLY = (media_types.DOCKER_MANIFEST, media_types.OCI_MANIFEST)
_PIECE = 1 << 14


@dataclass(frozen=True)
class V2Pulled:
    """An image as a client receives it; *layers* base first, as stored."""

    media_type: str
    digest: str
    manifest: bytes
    config: bytes
    layers: Sequence[bytes]

    @property
    def document(self) -> dict[str, Any]:
        """The image config."""
        return json.loads(self.config)  # type: ignore[no-any-return]


@dataclass
class V2Client:
    """Docker of today as far as the registry can tell.

    Attributes:
        accept: Media types of manifests it takes.
        mode: How it uploads blobs: ``stream``, ``chunks``, ``monolithic`` or ``single``.
    """

    host: str
    accept: Sequence[str] = DOCKER
    mode: str = "stream"
    agent: str = AGENT
    wire: Wire = field(init=False)

    def __post_init__(self) -> None:
        """Speak to the host."""
        self.wire = Wire(self.host)

    def ping(self) -> None:
        """Find out that V2 is spoken."""
        answer = self._send("GET", "/v2/")
        need(answer, 200, "ping")
        if answer.headers.get("docker-distribution-api-version") != "registry/2.0":
            raise ProtocolError("no V2 registry")

    def push(self, name: str, reference: str, image: Image) -> str:
        """Push an image's blobs, then its manifest; return its digest."""
        self.ping()
        for digest, data in image.blobs.items():
            self.push_blob(name, str(digest), data)
        return self.push_manifest(name, reference, image.media_type, image.manifest)

    def push_manifest(self, name: str, reference: str, media_type: str, payload: bytes) -> str:
        """Push a manifest; return its digest."""
        path = f"/v2/{name}/manifests/{reference}"
        answer = self._send("PUT", path, {"Content-Type": media_type}, payload)
        need(answer, 201, "PUT manifest")
        digest = str(Digest.of(payload))
        if answer.headers["docker-content-digest"] != digest:
            raise ProtocolError(f"stored as {answer.headers['docker-content-digest']}, not {digest}")
        head = self._send("HEAD", self._location(answer), {"Accept": media_type})
        need(head, 200, "HEAD manifest")
        if (head.headers["content-length"], head.headers["content-type"]) != (str(len(payload)), media_type):
            raise ProtocolError(f"HEAD of {len(payload)} bytes of {media_type}: {head}")
        return digest

    def push_blob(self, name: str, digest: str, data: bytes) -> bool:
        """Push a blob unless the registry has it; return whether it was sent."""
        if self._send("HEAD", f"/v2/{name}/blobs/{digest}").status == 200:
            return False
        modes: dict[str, Callable[[str, str, bytes], Answer]] = {
            "stream": self._stream,
            "chunks": self._chunks,
            "monolithic": self._monolithic,
            "single": self._single,
        }
        stored = modes[self.mode](name, digest, data)
        need(stored, 201, f"upload ({self.mode})")
        if stored.headers["docker-content-digest"] != digest:
            raise ProtocolError(f"stored as {stored.headers['docker-content-digest']}, not {digest}")
        head = self._send("HEAD", self._location(stored))
        need(head, 200, "HEAD blob")
        if head.headers["content-length"] != str(len(data)) or head.body:
            raise ProtocolError(f"HEAD of {len(data)} bytes: {head}")
        return True

    def pull(self, name: str, reference: str) -> V2Pulled:
        """Pull an image and verify it; of an index, its linux/amd64 image."""
        self.ping()
        media_type, payload = self.pull_manifest(name, reference)
        if media_type in media_types.INDEXES:
            if media_types.INDEXES.isdisjoint(self.accept):
                raise ProtocolError(f"cannot use {media_type}")
            children = json.loads(payload)["manifests"]
            wanted = {"os": "linux", "architecture": "amd64"}
            chosen = next(child for child in children if child["platform"] == wanted)
            media_type, payload = self.pull_manifest(name, chosen["digest"])
        document = json.loads(payload)
        if document.get("mediaType", media_type) != media_type or media_type not in media_types.IMAGES:
            raise ProtocolError(f"a {document.get('mediaType')} served as {media_type}")
        config, *layers = [self.pull_blob(name, entry) for entry in (document["config"], *document["layers"])]
        return V2Pulled(media_type, str(Digest.of(payload)), payload, config, layers)

    def pull_manifest(self, name: str, reference: str) -> tuple[str, bytes]:
        """Return a manifest's media type and bytes."""
        answer = self.find_manifest(name, reference)
        need(answer, 200, "GET manifest")
        digest = str(Digest.of(answer.body))
        if answer.headers["docker-content-digest"] != digest or (":" in reference and reference != digest):
            raise ProtocolError(f"asked for {reference}, got {digest}, said to be {answer.headers}")
        return answer.headers["content-type"], answer.body

    def find_manifest(self, name: str, reference: str) -> Answer:
        """Ask for a manifest: one line a type."""
        headers = [("Accept", media_type) for media_type in self.accept]
        return self._send("GET", f"/v2/{name}/manifests/{reference}", headers)

    def pull_blob(self, name: str, descriptor: dict[str, Any]) -> bytes:
        """Return the bytes that *descriptor* names, verified."""
        answer = self._send("GET", f"/v2/{name}/blobs/{descriptor['digest']}")
        need(answer, 200, "GET blob")
        if str(Digest.of(answer.body)) != descriptor["digest"] or len(answer.body) != descriptor["size"]:
            raise ProtocolError(f"{len(answer.body)} bytes are not {descriptor}")
        return answer.body

    def start_upload(self, name: str) -> str:
        """Begin an upload; return its path."""
        answer = self._send("POST", f"/v2/{name}/blobs/uploads/", body=b"")
        need(answer, 202, "POST upload")
        return self._location(answer)

    def _stream(self, name: str, digest: str, data: bytes) -> Answer:
        """Send everything in one chunked PATCH: Docker, podman, skopeo."""
        pieces = (data[at : at + _PIECE] for at in range(0, len(data), _PIECE))
        patched = self._send("PATCH", self.start_upload(name), _OCTETS, pieces)
        self._check_range(patched, len(data))
        return self._finish(self._location(patched), digest)

    def _chunks(self, name: str, digest: str, data: bytes) -> Answer:
        """Send pieces with their places: oras, regclient."""
        location, size = self.start_upload(name), max(1, len(data) // 3)
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            where = f"{start}-{start + len(piece) - 1}"
            patched = self._send("PATCH", location, _OCTETS | {"Content-Range": where}, piece)
            self._check_range(patched, start + len(piece))
            location = self._location(patched)
        return self._finish(location, digest)

    def _monolithic(self, name: str, digest: str, data: bytes) -> Answer:
        """Send everything with the last request: Docker 1.6, containerd."""
        return self._finish(self.start_upload(name), digest, data)

    def _single(self, name: str, digest: str, data: bytes) -> Answer:
        """Send everything with the first request."""
        return self._send("POST", f"/v2/{name}/blobs/uploads/?digest={quote(digest)}", _OCTETS, data)

    def _finish(self, location: str, digest: str, data: bytes = b"") -> Answer:
        joint = "&" if "?" in location else "?"
        return self._send("PUT", f"{location}{joint}digest={quote(digest)}", _OCTETS, data)

    def _check_range(self, answer: Answer, length: int) -> None:
        need(answer, 202, "PATCH")
        if answer.headers["range"] != f"0-{max(length - 1, 0)}":
            raise ProtocolError(f"{length} bytes sent, {answer.headers['range']} held")

    def _location(self, answer: Answer) -> str:
        """Return the path that the answer leads to."""
        location = answer.headers["location"].removeprefix(f"http://{self.host}")
        if not location.startswith("/v2/"):
            raise ProtocolError(f"led away to {location}")
        return location

    def _send(
        self,
        method: str,
        path: str,
        headers: dict[str, str] | list[tuple[str, str]] | None = None,
        body: Any = None,
    ) -> Answer:
        pairs = [
            *(headers.items() if isinstance(headers, dict) else headers or ()),
            ("User-Agent", self.agent),
        ]
        return self.wire.send(method, path, pairs, body)


_OCTETS = {"Content-Type": "application/octet-stream"}
