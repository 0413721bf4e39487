"""Docker 1.6 to 1.9: V2 with signed schema 1, and V1 for what V2 does not have."""

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import quote, urlsplit

from cryptography.hazmat.primitives.asymmetric import ec

from dualreg.image.names import RepositoryName, Tag
from dualreg.registry import Registry
from tests.builders import V1Pushed
from tests.protocol.clients.generation import Generation
from tests.protocol.clients.libtrust import signed, unsigned, verified
from tests.protocol.clients.v1 import V1Client
from tests.protocol.clients.wire import Answer, ProtocolError, Wire, need

_PIECE = 1 << 14
_ID = re.compile("[0-9a-f]{64}")


@cache
def daemon_key() -> ec.EllipticCurvePrivateKey:
    """Return the key that a daemon makes for itself when it first starts."""
    return ec.generate_private_key(ec.SECP256R1())


def digest_of(data: bytes) -> str:
    """Return the digest of *data*."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def schema1_payload(
    generation: Generation, name: str, tag: str, chain: Sequence[V1Pushed], layers: Sequence[str]
) -> bytes:
    """Return what a release signs: Go's JSON, of *chain* and the digests of its *layers*, base first."""
    version = {"schemaVersion": 1}
    document = {
        **(version if generation.since(1, 8) else {}),
        "name": name,
        "tag": tag,
        "architecture": "amd64",
        "fsLayers": [{"blobSum": digest} for digest in reversed(layers)],
        "history": [{"v1Compatibility": image.json.decode()} for image in reversed(chain)],
        **version,
    }
    text = json.dumps(document, indent=3, ensure_ascii=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode()


def push_chain(registry: Registry, name: RepositoryName, tag: str, chain: Sequence[V1Pushed]) -> None:
    """Push a chain as Docker 1.8 does, without HTTP."""
    layers = [digest_of(image.layer) for image in chain]
    for image in chain:
        registry.uploads.ingest(name, [image.layer])
    payload = schema1_payload(Generation("1.8.3"), name, tag, chain, layers)
    registry.manifests.put(name, Tag(tag), "", signed(payload, daemon_key()))


@dataclass(frozen=True)
class Schema1Pulled:
    """An image as an old client receives it: V1 documents and layers, base first.

    Attributes:
        dialect: The API that had it.
    """

    dialect: str
    ids: Sequence[str]
    layers: Sequence[bytes]


@dataclass
class Schema1Client:
    """A release of Docker from 1.6 to 1.9 as far as the registry can tell."""

    host: str
    generation: Generation
    user: str | None = None
    wire: Wire = field(init=False)

    def __post_init__(self) -> None:
        """Speak to the host."""
        self.wire = Wire(self.host)

    @property
    def _first(self) -> bool:
        """Whether this is 1.6 or 1.7, which are stricter and ask in another way than the next two."""
        return not self.generation.since(1, 8)

    def ping(self) -> None:
        """Find out that V2 is spoken: the first two releases ask twice."""
        for _ in range(2 if self._first else 1):
            answer = self._send("GET", "/v2/", login=False)
        need(answer, (200, 401), "ping")
        if answer.headers.get("docker-distribution-api-version") != "registry/2.0":
            raise ProtocolError("no V2 registry")

    def push(self, name: str, tag: str, chain: Sequence[V1Pushed]) -> str:
        """Push *chain*, base first, as *tag*; return the digest of what was signed."""
        self.ping()
        if self.generation.version.startswith("1.6."):
            chain = [*chain, chain[-1]]  # its own bug: the top comes twice
        known: set[str] = set()
        for image in chain if self._first else reversed(chain):
            digest = digest_of(image.layer)
            if digest in known and self._send("HEAD", f"/v2/{name}/blobs/{digest}").status == 200:
                continue
            known.add(digest)
            (self._upload_at_once if self._first else self._upload_stream)(name, digest, image.layer)
        payload = schema1_payload(
            self.generation, name, tag, chain, [digest_of(image.layer) for image in chain]
        )
        answer = self._send("PUT", f"/v2/{name}/manifests/{tag}", body=signed(payload, daemon_key()))
        need(answer, (200, 201, 202), "PUT manifest")
        if self._first and answer.headers.get("docker-content-digest") != digest_of(payload):
            raise ProtocolError(f"signed {digest_of(payload)}, stored {answer.headers}")
        return digest_of(payload)

    def find_digest(self, name: str, tag: str) -> str:
        """Return the digest that the release prints after a pull of *tag*."""
        answer = self._send("GET", f"/v2/{name}/manifests/{tag}")
        need(answer, 200, "GET manifest")
        stated = answer.headers["docker-content-digest"]
        if digest_of(unsigned(answer.body)) != stated:
            raise ProtocolError(f"{digest_of(unsigned(answer.body))} served as {stated}")
        return stated

    def pull_digest(self, name: str, digest: str, tag: str) -> Schema1Pulled:
        """Pull the image of *digest*, which was that of *tag*; the release does not look for it on V1."""
        self.ping()
        answer = self._send("GET", f"/v2/{name}/manifests/{digest}")
        need(answer, 200, "GET manifest")
        if digest_of(self._payload(answer)) != digest:
            raise ProtocolError(f"image verification failed for digest {digest}")
        return self.read(name, tag, answer)

    def pull(self, name: str, tag: str) -> Schema1Pulled:
        """Pull the image of *tag*; over V1, if V2 does not have it."""
        self.ping()
        answer = self._send("GET", f"/v2/{name}/manifests/{tag}")
        if self._falls_back(answer):
            chain = V1Client(self.host, self.user, self.generation).pull(name, tag)
            return Schema1Pulled("V1", [image.id for image in chain], [image.layer for image in chain])
        return self.read(name, tag, answer)

    def _falls_back(self, answer: Answer) -> bool:
        """Return whether the release goes on over V1: 1.6 and 1.7 after any error, 1.8 and 1.9 after some."""
        if answer.status == 200 or self._first:
            return answer.status != 200
        codes = {error["code"] for error in json.loads(answer.body)["errors"]}
        return codes <= {"MANIFEST_UNKNOWN", "UNAUTHORIZED"}

    def read(self, name: str, tag: str, answer: Answer) -> Schema1Pulled:
        """Pull what a manifest of schema 1 names, once it proved to be one."""
        need(answer, 200, "GET manifest")
        payload = self._payload(answer)
        document = json.loads(payload)
        if (document.get("name"), document.get("tag")) != (name, tag):
            raise ProtocolError(f"asked for {name}:{tag}, got {document.get('name')}:{document.get('tag')}")
        links = self._links(document)
        return Schema1Pulled("V2", [id for id, _ in links], [self._blob(name, sum_) for _, sum_ in links])

    def _payload(self, answer: Answer) -> bytes:
        """Return what was signed: 1.6 and 1.7 insist that it was, and on its digest if one is stated."""
        if not self._first:
            return unsigned(answer.body)
        payload = verified(answer.body)
        if answer.headers.get("docker-content-digest", digest_of(payload)) != digest_of(payload):
            raise ProtocolError(f"{digest_of(payload)} served as {answer.headers}")
        return payload

    def _links(self, document: dict[str, Any]) -> list[tuple[str, str]]:
        """Return ids and digests of layers, base first, of a manifest whose history is one chain."""
        if document.get("schemaVersion") != 1:
            raise ProtocolError(f"unsupported schema version {document.get('schemaVersion')}")
        layers, history = document["fsLayers"], document["history"]
        if not layers or len(layers) != len(history):
            raise ProtocolError(f"{len(layers)} layers and {len(history)} steps")
        found: list[tuple[dict[str, Any], str]] = []
        for layer, step in zip(layers, history, strict=True):
            image = json.loads(step["v1Compatibility"])
            if not _ID.fullmatch(image["id"]) or not layer["blobSum"].startswith("sha256:"):
                raise ProtocolError(f"{image['id']} with {layer}")
            if not found or found[-1][0]["id"] != image["id"]:
                found.append((image, layer["blobSum"]))
        parents = [image.get("parent") or None for image, _ in found]
        if parents != [*(image["id"] for image, _ in found[1:]), None]:
            raise ProtocolError(f"the chain is broken: {parents}")
        return [(image["id"], sum_) for image, sum_ in reversed(found)]

    def _blob(self, name: str, digest: str) -> bytes:
        path = f"/v2/{name}/blobs/{digest}"
        length = None
        if not self._first:
            length = self._stat(path)
        answer = self._send("GET", path)
        need(answer, 200, "GET blob")
        stated = answer.headers.get("content-length")
        if stated != str(len(answer.body)) or length not in (None, stated):
            raise ProtocolError(f"{len(answer.body)} bytes, {stated} stated, {length} before")
        if digest_of(answer.body) != digest or (self._first and len(answer.body) < 10):
            raise ProtocolError(f"{digest}: {answer.body[:40]!r}")
        return answer.body

    def _stat(self, path: str) -> str:
        answer = self._send("HEAD", path)
        need(answer, 200, "HEAD blob")
        if not answer.headers.get("content-length", "").isdecimal():
            raise ProtocolError(f"strconv.ParseInt: parsing: {answer.headers}")
        return answer.headers["content-length"]

    def _upload_at_once(self, name: str, digest: str, data: bytes) -> None:
        """Send the layer with the request that names it, as 1.6 and 1.7."""
        begun = self._send("POST", f"/v2/{name}/blobs/uploads/", body=b"")
        need(begun, 202, "POST upload")
        if not begun.headers["location"].startswith(f"http://{self.host}/v2/"):
            raise ProtocolError(f"unsupported protocol scheme: {begun.headers['location']}")
        need(self._send("PUT", _with_digest(begun, digest), body=_pieces(data)), 201, "PUT upload")

    def _upload_stream(self, name: str, digest: str, data: bytes) -> None:
        """Send the layer in one PATCH, as 1.8 and 1.9 do, and check that it was stored."""
        begun = self._send("POST", f"/v2/{name}/blobs/uploads/", {"Content-Type": ""}, b"")
        need(begun, 202, "POST upload")
        patched = self._send("PATCH", _path(begun), body=_pieces(data))
        need(patched, 202, "PATCH upload")
        if patched.headers.get("range") != f"0-{len(data) - 1}":
            raise ProtocolError(f"EOF: {patched.headers}")
        need(self._send("PUT", _with_digest(patched, digest), body=b""), 201, "PUT upload")
        if self._stat(f"/v2/{name}/blobs/{digest}") != str(len(data)):
            raise ProtocolError(f"{len(data)} bytes were sent")

    def _send(
        self,
        method: str,
        path: str,
        headers: dict[str, str] | None = None,
        body: Any = None,
        *,
        login: bool = True,
    ) -> Answer:
        sent = {"User-Agent": self.generation.agent, **(headers or {})}
        if self.user and login and self._first:
            sent["Authorization"] = "Basic " + base64.b64encode(f"{self.user}:pw".encode()).decode()
        if method != "HEAD":
            sent["Accept-Encoding"] = "gzip"
        return self.wire.send(method, path, sent, body)


def _pieces(data: bytes) -> Any:
    return (data[at : at + _PIECE] for at in range(0, len(data), _PIECE))


def _path(answer: Answer) -> str:
    """Return where an answer leads, without scheme and host."""
    parts = urlsplit(answer.headers["location"])
    return parts.path + (f"?{parts.query}" if parts.query else "")


def _with_digest(answer: Answer, digest: str) -> str:
    path = _path(answer)
    return f"{path}{'&' if '?' in path else '?'}digest={quote(digest, safe='')}"
