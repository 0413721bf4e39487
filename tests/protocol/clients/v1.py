"""A V1 client that does, request by request, what a release of Docker does, and stops wherever it stops."""

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from tests.builders import V1Pushed
from tests.protocol.clients.generation import GO_AGENT, Generation
from tests.protocol.clients.tarsum import tarsum, unpacked
from tests.protocol.clients.wire import Answer, ProtocolError, Wire, need

_PIECE = 1 << 14
_LAST_BEFORE_V2 = Generation("1.5.0")
#: The one error upon which Docker skips an image.
_EXISTS = {"error": "Image already exists"}


@dataclass(frozen=True)
class V1Pulled:
    """A V1 image as a client receives it."""

    id: str
    json: bytes
    layer: bytes

    @property
    def document(self) -> dict[str, Any]:
        """The image JSON."""
        return json.loads(self.json)  # type: ignore[no-any-return]


@dataclass
class V1Client:
    """A release of Docker before V2, or a later one that has fallen back to V1.

    Attributes:
        user: Sent with Basic to the index calls; without, nobody is logged in.
        cookie: What the release's jar holds.
    """

    host: str
    user: str | None = None
    generation: Generation = _LAST_BEFORE_V2
    cookie: str | None = None
    password: str = "pw"
    wire: Wire = field(init=False)

    def __post_init__(self) -> None:
        """Speak to the host."""
        self.wire = Wire(self.host)

    def ping(self) -> None:
        """Find out, as Docker does, that V1 is to be spoken; from 1.6 on, the V2 client has pinged."""
        if self.generation.since(1, 6):
            return
        headers = {"User-Agent": self.generation.ping_agent, "Accept-Encoding": "gzip"}
        if self.generation.since(1, 5):
            hidden = self.wire.send("GET", "/v2/", headers)
            if hidden.status in (200, 401) and "docker-distribution-api-version" in hidden.headers:
                raise ProtocolError("Docker 1.5 would now use its unfinished V2 client")
        twice = self.generation.since(0, 6, 7) and not self.generation.since(0, 9)
        for _ in range(2 if twice else 1):
            pong = self.wire.send("GET", "/v1/_ping", headers)
        need(pong, 200, "ping")
        if "x-docker-registry-version" not in pong.headers:
            raise ProtocolError("does not look like a Registry server")
        if pong.headers.get("x-docker-registry-standalone", "true").lower() in ("true", "1"):
            raise ProtocolError("a standalone registry gets no token over HTTPS")

    def login(self) -> None:
        """Log in: create an account, which exists, then try it."""
        account = json.dumps({"username": self.user, "password": self.password, "auth": "", "email": "a@b.c"})
        headers = {"User-Agent": GO_AGENT, "Content-Type": "application/json; charset=utf-8"}
        created = self.wire.send("POST", "/v1/users/", headers, account.encode())
        if (created.status, created.body) != (400, b'"Username or email already exists"'):
            raise ProtocolError(f"Registration: {created.status} {created.body!r}")
        headers = {"User-Agent": self.generation.agent, "Authorization": self._basic()}
        tried = self.wire.send("GET", "/v1/users/", headers)
        need(tried, 200, "login")

    def push(self, name: str, tag: str, chain: Sequence[V1Pushed]) -> list[str]:
        """Push *chain*, base first, as *tag*; return the ids of the images that were sent."""
        self.ping()
        listed = [{"id": image.id} for image in chain]
        listed[-1] = listed[-1] | {"Tag": tag}
        path = f"/v1/repositories/{name}"
        begun = self.wire.send("PUT", f"{path}/", self._index_headers(), json.dumps(listed).encode())
        need(begun, (200, 201), "PUT repository")
        token, wire = self._session(begun)
        sent = []
        for image, present in self._probed(wire, token, chain):
            uploaded = not present and self._send(wire, token, image)
            if uploaded:
                sent.append(image.id)
            # 0.6.0 forgets the tag of an image that is there.
            if image is chain[-1] and (uploaded or self.generation.since(0, 6, 7)):
                self._tag(wire, token, f"{path}/tags/{tag}", image)
        headers = self._index_headers() | {"X-Docker-Endpoints": f"http://{wire.host}/v1/"}
        body = "[]"
        if not self.generation.since(0, 9):
            sums = [{"checksum": tarsum(image.json, image.layer)} for image in chain]
            body = json.dumps([entry | sum_ for entry, sum_ in zip(listed, sums, strict=True)])
        need(self.wire.send("PUT", f"{path}/images", headers, body.encode()), 204, "PUT images")
        return sent

    def _probed(self, wire: Wire, token: str, chain: Sequence[V1Pushed]) -> Iterator[tuple[V1Pushed, bool]]:
        """Yield every image, and whether the registry has it; since 1.5, all are requested first."""

        def present(image: V1Pushed) -> bool:
            return wire.send("GET", f"/v1/images/{image.id}/json", self._headers(token)).status == 200

        if not self.generation.since(1, 5):
            yield from ((image, present(image)) for image in chain)
            return
        with ThreadPoolExecutor(5) as pool:
            answers = [*pool.map(present, chain)]
        yield from zip(chain, answers, strict=True)

    def _tag(self, wire: Wire, token: str, path: str, image: V1Pushed) -> None:
        headers = self._headers(token, "application/json")
        need(wire.send("PUT", path, headers, json.dumps(image.id).encode()), (200, 201), "PUT tag")

    def pull(self, name: str, tag: str) -> list[V1Pulled]:
        """Pull the image that *tag* names, base first."""
        self.ping()
        token, wire = self.begin_pull(name)
        spelled = name if "/" in name else f"library/{name}"
        path = f"/v1/repositories/{spelled}/tags"
        if self.generation.since(1, 8):
            answer = wire.send("GET", f"{path}/{tag}", self._headers(token))
            need(answer, 200, "GET tag")
            image = json.loads(answer.body)
        else:
            image = self._tags(wire, token, path).get(tag)
        return self._chain(wire, token, image)

    def pull_all(self, name: str) -> dict[str, list[V1Pulled]]:
        """Pull every tag: what a pull without a tag meant up to 1.2."""
        self.ping()
        token, wire = self.begin_pull(name)
        tags = self._tags(wire, token, f"/v1/repositories/{name}/tags")
        return {tag: self._chain(wire, token, image) for tag, image in tags.items()}

    def _tags(self, wire: Wire, token: str, path: str) -> dict[str, Any]:
        answer = wire.send("GET", path, self._headers(token))
        need(answer, 200, "GET tags")
        return json.loads(answer.body)  # type: ignore[no-any-return]

    def _chain(self, wire: Wire, token: str, image: Any) -> list[V1Pulled]:
        if not isinstance(image, str) or len(image) != 64:
            raise ProtocolError(f"Tag not found: {image!r}")
        answer = wire.send("GET", f"/v1/images/{image}/ancestry", self._headers(token))
        need(answer, 200, "GET ancestry")
        ancestry = json.loads(answer.body)
        if not ancestry or ancestry[0] != image or len(set(ancestry)) != len(ancestry):
            raise ProtocolError(f"no ancestry of {image}: {ancestry}")
        return [self.fetch(wire, token, ancestor) for ancestor in reversed(ancestry)]

    def begin_pull(self, name: str) -> tuple[str, Wire]:
        """Ask for the repository's images; return the token and the connection to its endpoint."""
        begun = self.wire.send("GET", f"/v1/repositories/{name}/images", self._index_headers(body=False))
        need(begun, 200, "GET images")
        if not all(isinstance(entry.get("id"), str) for entry in json.loads(begun.body)):
            raise ProtocolError(f"images without ids: {begun.body!r}")
        return self._session(begun)

    def fetch(self, wire: Wire, token: str, image: str, *, cuts: Sequence[int] = ()) -> V1Pulled:
        """Download one image.

        Args:
            cuts: Bytes after which the connection of the layer breaks, once each.
        """
        got = wire.send("GET", f"/v1/images/{image}/json", self._headers(token))
        need(got, 200, "GET json")
        total = int(got.headers["x-docker-size"])
        if json.loads(got.body)["id"] != image:
            raise ProtocolError(f"{image} is somebody else: {got.body[:200]!r}")
        layer = b"".join(self._download(wire, token, image, total, cuts))
        if len(layer) != total >= 0:  # releases take what they get if the size is not known
            raise ProtocolError(f"layer of {len(layer)} bytes, not {total}")
        return V1Pulled(image, got.body, layer)

    def _download(
        self, wire: Wire, token: str, image: str, total: int, cuts: Sequence[int]
    ) -> Iterator[bytes]:
        path, offset = f"/v1/images/{image}/layer", 0
        if self.generation.since(0, 12) and not self.generation.since(1, 2):
            asked = wire.send("HEAD", path, self._headers(token))
            need(asked, 200, "HEAD layer")
            if asked.headers.get("accept-ranges") != "bytes":
                raise ProtocolError(f"not resumable: {asked.headers}")
        for cut in [*cuts, None]:
            if offset and not self.generation.since(0, 12):
                raise ProtocolError("unexpected EOF")
            headers = self._headers(token)
            if offset:
                # One past the last byte, as Docker 0.12 to 1.9 write it.
                headers["Range"] = f"bytes={offset}-{total}"
            answer = wire.send("GET", path, headers, read=None if cut is None else cut - offset)
            if offset and offset == total:
                need(answer, 416, "GET after the end")
                if answer.body or answer.headers["content-length"] != "0":
                    raise ProtocolError("a 416 with a body is no end of file")
                return
            need(answer, 206 if offset else 200, "GET layer")
            # Docker reads Accept-Ranges of the first answer only; nginx leaves it out of a 206.
            resumable = offset or answer.headers.get("accept-ranges") == "bytes"
            if not resumable or "content-encoding" in answer.headers:
                raise ProtocolError(f"layer headers: {answer.headers}")
            offset += len(answer.body)
            yield answer.body

    def _send(self, wire: Wire, token: str, image: V1Pushed) -> bool:
        """Upload one image; tell whether the registry wanted it."""
        path = f"/v1/images/{image.id}"
        begun = wire.send("PUT", f"{path}/json", self._headers(token, "application/json"), image.json)
        if begun.status != 200 and json.loads(begun.body) == _EXISTS:
            return False
        need(begun, 200, "PUT json")
        kind = "application/octet-stream" if self.generation.since(1, 2) else None
        pieces = (image.layer[at : at + _PIECE] for at in range(0, len(image.layer), _PIECE))
        need(
            wire.send("PUT", f"{path}/layer", self._headers(token, kind), pieces),
            200,
            "PUT layer",
        )
        checksums = {"X-Docker-Checksum": tarsum(image.json, image.layer)}
        if self.generation.since(0, 9):
            # 0.9 hashes what it is about to compress.
            hashed = image.layer if self.generation.since(0, 10) else unpacked(image.layer)
            payload = hashlib.sha256(image.json + b"\n" + hashed).hexdigest()
            checksums["X-Docker-Checksum-Payload"] = f"sha256:{payload}"
        need(wire.send("PUT", f"{path}/checksum", self._headers(token) | checksums, b""), 200, "PUT checksum")
        return True

    def _session(self, begun: Answer) -> tuple[str, Wire]:
        """Take the token and the one endpoint that an index call answers."""
        token, endpoint = begun.headers.get("x-docker-token"), begun.headers.get("x-docker-endpoints")
        if not token:
            raise ProtocolError("Index response didn't contain an access token")
        if not endpoint or "," in endpoint or "/" in endpoint:
            raise ProtocolError(f"Index response didn't contain one endpoint: {endpoint}")
        return token, Wire(endpoint, self.wire.log)

    def _index_headers(self, *, body: bool = True) -> dict[str, str]:
        headers = {"User-Agent": self.generation.agent, "X-Docker-Token": "true"}
        if self.user or body:
            headers["Authorization"] = self._basic()
        if body and self.generation.since(0, 6, 7):
            headers["Content-Type"] = "application/json"
        return headers | {"Accept-Encoding": "gzip"}

    def _headers(self, token: str, content_type: str | None = None) -> dict[str, str]:
        headers = {
            "User-Agent": self.generation.agent,
            "Authorization": f"Token {token}",
            "Accept-Encoding": "gzip",
        }
        if self.cookie:
            headers["Cookie"] = (
                self.cookie if self.generation.since(0, 10) else f"{self.cookie}; {self.cookie}"
            )
        return headers | ({"Content-Type": content_type} if content_type else {})

    def _basic(self) -> str:
        """Return what Docker sends for a login, and to push without one: empty name, empty password."""
        login = f"{self.user}:{self.password}" if self.user else ":"
        return "Basic " + base64.b64encode(login.encode()).decode()


def top_config(chain: Sequence[V1Pulled]) -> Mapping[str, Any]:
    """Return the run configuration of the image that *chain* ends with."""
    return chain[-1].document["config"]  # type: ignore[no-any-return]


def session(wire: Wire, repository: str) -> dict[str, str]:
    """Begin a push to *repository*; return the header that carries its session."""
    begun = wire.send("PUT", f"/v1/repositories/{repository}/", {}, b"[]")
    need(begun, 200, "PUT repository")
    return {"Authorization": f"Token {begun.headers['x-docker-token']}"}
