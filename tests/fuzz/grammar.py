"""Requests of both APIs as clients send them: what mutations start from."""

import base64
import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dualreg.image.digest import Digest
from tests.builders import V1Pushed
from tests.fuzz.pool import blobs, manifests, v1_images
from tests.protocol.clients.generation import SCHEMA1_RELEASES, V1_RELEASES
from tests.protocol.clients.v2 import AGENT, DOCKER, DOCKER_1_10, OCI
from tests.protocol.exchange import REPOSITORY, World, payload_checksum

ACCOUNT, PASSWORD = "alice", "correct horse"
#: How many names learnt from answers are remembered, of each kind.
_LEARNT = 8
_OTHER = "team/other"
_TAGS = ("one", "two", "index", "v1", "new", "latest")
_AGENTS = (AGENT, *(each.agent for each in (*V1_RELEASES, *SCHEMA1_RELEASES)), "curl/8")
_UPLOAD = re.compile(r"/blobs/uploads/([^/?]+)")


@dataclass(frozen=True)
class Request:
    """A request.

    Attributes:
        path, query: As in the request line.
        length: Content-Length; None: the body is chunked.
    """

    method: str
    path: str
    query: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    length: int | None = 0

    def sending(self, body: bytes) -> "Request":
        """Return the request with another body, of its length."""
        return replace(self, body=body, length=len(body))

    def __str__(self) -> str:
        """Describe the request, for people."""
        line = f"{self.method} {self.path}?{'&'.join(self.query)} {self.headers!r} length {self.length}"
        return f"{line[:2000]} body of {len(self.body)}: {self.body[:1000]!r}"


@dataclass
class Known:
    """Names of what exists; some are learnt from answers."""

    digests: list[str]
    images: list[str]
    uploads: list[str]
    credentials: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, world: World) -> "Known":
        """Return the names of a world, and of what is pushed later."""
        named = [*world.image.blobs, world.image.digest, Digest.of(world.index), Digest.of(world.loose)]
        named += [Digest.of(data) for data in (*blobs(), *(each.payload for each in manifests()))]
        images = [*world.chain, world.begun, world.unsummed, *v1_images()]
        basic = base64.b64encode(f"{ACCOUNT}:{PASSWORD}".encode()).decode()
        return cls(
            [*map(str, named)],
            [each.id for each in images],
            [world.upload.rpartition("/")[2]],
            [
                f"Basic {basic}",
                f"Basic {basic}",
                f"Basic {basic}",
                "Basic Og==",
                f'Token signature=0,repository="{REPOSITORY}",access=write',
            ],
        )

    def learn(self, headers: Mapping[str, str], body: bytes) -> None:
        """Remember the upload, the V1 session or the token that an answer names."""
        if match := _UPLOAD.search(headers.get("Location", "")):
            self._remember(self.uploads, match[1])
        if token := headers.get("X-Docker-Token"):
            self._remember(self.credentials, f"Token {token}")
        if body.startswith(b'{"token"'):
            self._remember(self.credentials, f"Bearer {json.loads(body)['token']}")

    def _remember(self, names: list[str], name: str) -> None:
        names.append(name)
        if len(names) > _LEARNT:
            del names[len(names) // 2]  # what the world has stays


class Grammar:
    """Makes requests by chance, of which a registry with the world takes most."""

    def __init__(self, chance: random.Random, known: Known) -> None:
        """Use names of *known*."""
        self._chance, self._known = chance, known
        self._makers = [maker for maker, share in self._shares().items() for _ in range(share)]

    def request(self) -> Request:
        """Return a request, with headers as some client sends them."""
        made = self._pick(self._makers)()
        headers = (*made.headers, ("User-Agent", self._pick(_AGENTS)))
        if self._chance.random() < 0.6:
            headers += (("Authorization", self._pick(self._known.credentials)),)
        return replace(made, headers=headers)

    def _shares(self) -> Mapping[Callable[[], Request], int]:
        return {
            self._list: 4,
            self._read_manifest: 8,
            self._put_manifest: 12,
            self._delete: 2,
            self._read_blob: 6,
            self._start_upload: 6,
            self._use_upload: 12,
            self._log_in: 4,
            self._v1_index: 6,
            self._v1_tag: 6,
            self._read_v1: 8,
            self._put_v1_json: 6,
            self._put_v1_layer: 6,
            self._put_v1_checksum: 4,
            self._other: 2,
        }

    def _pick(self, choices: Sequence[Any]) -> Any:
        return self._chance.choice(choices)

    def _name(self) -> str:
        return self._pick((REPOSITORY, REPOSITORY, REPOSITORY, _OTHER, "alone", "a/b/c-d_e.f"))

    def _tag(self) -> str:
        return self._pick(_TAGS)

    def _digest(self) -> str:
        return self._pick(self._known.digests)

    def _reference(self) -> str:
        return self._pick((self._tag(), self._digest()))

    # --- V2

    def _list(self) -> Request:
        name = self._name()
        paths = (
            "/v2/_catalog", f"/v2/{name}/tags/list", f"/v2/{name}/_dualreg/tags", "/v2/", "/v2",
            "/v2/_oci/ext/discover", f"/v2/{name}/referrers/{self._digest()}",
        )  # fmt: skip
        queries = (
            "n=2", "n=1000", f"last={name}", "last=one", "artifactType=application/x.test", "sort=-pushed",
            "prefix=o", "after=one", "n=0",
        )  # fmt: skip
        chosen = self._chance.sample(queries, self._chance.randint(0, 3))
        return Request(self._pick(("GET", "HEAD")), self._pick(paths), tuple(chosen))

    def _read_manifest(self) -> Request:
        accepted = self._pick((DOCKER, DOCKER_1_10, OCI, ("*/*",), (), ("application/json",)))
        joined = self._pick((", ", ",", ";q=0.5, ")).join(accepted)
        headers = [("Accept", joined)] if accepted else []
        if self._chance.random() < 0.2:
            headers.append((self._pick(("If-Match", "If-None-Match")), f'"{self._digest()}"'))
        path = f"/v2/{self._name()}/manifests/{self._reference()}"
        return Request(self._pick(("GET", "GET", "HEAD")), path, headers=tuple(headers))

    def _put_manifest(self) -> Request:
        document = self._pick(manifests())
        own = self._pick((self._tag(), str(Digest.of(document.payload))))
        query = tuple(f"tag=t{number}" for number in range(self._pick((0, 0, 0, 1, 3))))
        headers = [("Content-Type", document.media_type)]
        if self._chance.random() < 0.1:
            headers.append(
                (self._pick(("If-Match", "If-None-Match")), self._pick(("*", f'"{self._digest()}"')))
            )
        path = f"/v2/{self._name()}/manifests/{own}"
        return Request("PUT", path, query, tuple(headers)).sending(document.payload)

    def _delete(self) -> Request:
        name = self._name()
        paths = (
            f"/v2/{name}/manifests/{self._reference()}", f"/v2/{name}/blobs/{self._digest()}",
            f"/v2/{name}/_dualreg/repository", f"/v1/repositories/{name}/tags/{self._tag()}",
            f"/v1/repositories/{name}/tags", f"/v1/repositories/{name}/", f"/v1/repositories/{name}/images",
        )  # fmt: skip
        return Request("DELETE", self._pick(paths))

    def _read_blob(self) -> Request:
        headers: list[tuple[str, str]] = []
        if self._chance.random() < 0.4:
            spans = (
                "bytes=0-",
                "bytes=3-9",
                "bytes=-5",
                "bytes=0-0,4-",
                "bytes=9999-",
                "bytes=5-2",
                "items=0-1",
            )
            headers.append(("Range", self._pick(spans)))
        if self._chance.random() < 0.2:
            headers.append((self._pick(("If-Range", "If-None-Match", "If-Match")), f'"{self._digest()}"'))
        path = f"/v2/{self._name()}/blobs/{self._digest()}"
        return Request(self._pick(("GET", "GET", "HEAD")), path, headers=tuple(headers))

    def _start_upload(self) -> Request:
        path, data = f"/v2/{self._name()}/blobs/uploads/", self._pick(blobs())
        mount = f"mount={self._digest()}", f"from={self._name()}"
        query = self._pick(
            ((), (), mount, mount[:1], (f"digest={Digest.of(data)}",), ("digest-algorithm=sha512",))
        )
        made = Request("POST", path, query)
        return made.sending(data) if "digest" in "".join(query) else made

    def _use_upload(self) -> Request:
        upload, data = self._pick(self._known.uploads), self._pick(blobs())
        method = self._pick(("PATCH", "PATCH", "PATCH", "PUT", "PUT", "PUT", "GET", "DELETE"))
        made = Request(method, f"/v2/{self._name()}/blobs/uploads/{upload}")
        if method in ("GET", "DELETE"):
            return made
        if method == "PUT":
            made = replace(made, query=(f"digest={Digest.of(data)}",))
        if self._chance.random() < 0.3:
            start = self._pick((0, 0, 5, len(data)))
            made = replace(made, headers=(("Content-Range", f"{start}-{start + len(data) - 1}"),))
        return made.sending(data)

    # --- V1

    def _v1_index(self) -> Request:
        path, ids = f"/v1/repositories/{self._name()}", self._chance.sample(self._known.images, 2)
        listed = json.dumps([{"id": ids[0]}, {"id": ids[1], "Tag": self._tag()}]).encode()
        headers = (("X-Docker-Token", "true"), ("Content-Type", "application/json"))
        made = (
            Request("PUT", f"{path}/", headers=headers).sending(listed),
            Request("PUT", f"{path}/images", headers=headers).sending(listed),
            Request("GET", f"{path}/images", headers=headers),
            Request("GET", f"{path}/tags"),
            Request("GET", f"{path}/properties"),
            Request("PUT", f"{path}/properties").sending(b'{"access": "public"}'),
            Request("PUT", f"{path}/auth/"),
            Request("GET", f"{path}/json/"),
            Request("GET", "/v1/search", (f"q={self._tag()[:2]}", "n=2", "page=1")),
        )
        return self._pick(made)

    def _v1_tag(self) -> Request:
        path = f"/v1/repositories/{self._name()}/tags/{self._tag()}"
        if self._chance.random() < 0.4:
            return Request("GET", self._pick((path, f"{path}/json/")))
        return Request("PUT", path).sending(json.dumps(self._pick(self._known.images)).encode())

    def _read_v1(self) -> Request:
        path = f"/v1/images/{self._pick(self._known.images)}"
        what = self._pick(("json", "layer", "ancestry", "files", "diff"))
        headers = (("Range", self._pick(("bytes=0-", "bytes=5-100", "bytes=7-"))),) if what == "layer" else ()
        return Request(self._pick(("GET", "GET", "HEAD")), f"{path}/{what}", headers=headers)

    def _v1_image(self) -> V1Pushed:
        return self._pick(v1_images())

    def _put_v1_json(self) -> Request:
        image = self._v1_image()
        return Request("PUT", f"/v1/images/{image.id}/json").sending(image.json)

    def _put_v1_layer(self) -> Request:
        image = self._v1_image()
        made = Request("PUT", f"/v1/images/{image.id}/layer").sending(image.layer)
        return replace(made, length=self._pick((None, made.length)))

    def _put_v1_checksum(self) -> Request:
        image = self._v1_image()
        name = self._pick(("X-Docker-Checksum-Payload", "X-Docker-Checksum-Payload", "X-Docker-Checksum"))
        headers = ((name, payload_checksum(image)),)
        return Request("PUT", f"/v1/images/{image.id}/checksum", headers=headers)

    # --- both

    def _log_in(self) -> Request:
        account = {"username": ACCOUNT, "password": PASSWORD, "email": "a@b.c", "auth": ""}
        scope = f"scope=repository:{self._name()}:{self._pick(('pull', 'pull,push', '*', 'delete'))}"
        login = f"username={ACCOUNT}&password=correct+horse"
        form = f"grant_type=password&service=dualreg&client_id=a&{login}&{scope}"
        form_type = (("Content-Type", "application/x-www-form-urlencoded"),)
        made = (
            Request("GET", "/token", ("service=dualreg", scope, f"account={ACCOUNT}")),
            Request("GET", "/token", ("service=dualreg", scope, scope, "offline_token=true")),
            Request("POST", "/token", headers=form_type).sending(form.encode()),
            Request("GET", "/v1/users/"),
            Request("POST", "/v1/users/").sending(json.dumps(account).encode()),
            Request("PUT", f"/v1/users/{ACCOUNT}/").sending(json.dumps(account).encode()),
        )
        return self._pick(made)

    def _other(self) -> Request:
        paths = ("/", "/v1/_ping", "/_ping", "/_status", "/v1/_status", "/v1/", "/v2/x", "/favicon.ico")
        return Request(self._pick(("GET", "HEAD", "OPTIONS", "POST")), self._pick(paths))
