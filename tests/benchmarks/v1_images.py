"""V1 images, and pushes and pulls of them as Docker 1.5 does them, but over one connection."""

import json
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from dualreg.image.names import ImageId
from tests.benchmarks.servers import Server
from tests.benchmarks.wire import CHUNKED, LAST_CHUNK, Answer, Connection, Refused, chunked
from tests.builders import V1Pushed, layer
from tests.protocol.exchange import payload_checksum

_JSON = {"Content-Type": "application/json"}


def new_chain(layers: int, size: int) -> list[V1Pushed]:
    """Return a chain of images like no other, base first, of layers of about *size* bytes."""
    chain: list[V1Pushed] = []
    for number in range(layers):
        document = {"id": secrets.token_hex(32), "created": "2014-01-01T00:00:00Z", "os": "linux"}
        document |= {"parent": str(chain[-1].id)} if chain else {}
        document |= {"docker_version": "1.5.0", "architecture": "amd64", "author": f"step {number}"}
        data = layer({"file": os.urandom(size)})
        chain.append(V1Pushed(ImageId(document["id"]), json.dumps(document).encode(), data))
    return chain


@dataclass(frozen=True, slots=True)
class Push:
    """A push to a repository that has begun.

    Attributes:
        session: The header that carries it.
    """

    connection: Connection
    server: Server
    repository: str
    session: Mapping[str, str]

    @classmethod
    def begin(cls, connection: Connection, server: Server, repository: str) -> Self:
        """Announce a push."""
        headers = {"X-Docker-Token": "true", **_JSON, **server.basic()}
        begun = connection.ask("PUT", f"/v1/repositories/{repository}/", b"[]", headers)
        return cls(connection, server, repository, _session(begun))

    def chain(self, chain: Sequence[V1Pushed]) -> None:
        """Push all images of a chain, and tag its top ``latest``."""
        for image in chain:
            path = f"/v1/images/{image.id}/json"
            if self.connection.ask("GET", path, headers=self.session, allowed=404).status != 404:
                raise Refused(f"{image.id} is there before it is pushed")
            checksum = {"X-Docker-Checksum-Payload": payload_checksum(image)}
            coded = chunked(image.layer) + LAST_CHUNK
            self.image(image.id, image.json, [coded], checksum)
        self.tag("latest", chain[-1].id)

    def image(self, image: str, document: bytes, layer: Iterable[bytes], checksum: Mapping[str, str]) -> None:
        """Push an image.

        Args:
            layer: Its pieces, in chunked transfer coding.
            checksum: The headers that complete it; from Docker 0.10 on, with the payload checksum.
        """
        path = f"/v1/images/{image}"
        self.connection.ask("PUT", f"{path}/json", document, {**self.session, **_JSON})
        self.connection.ask("PUT", f"{path}/layer", layer, {**self.session, **CHUNKED})
        self.connection.ask("PUT", f"{path}/checksum", b"", {**self.session, **checksum})

    def tag(self, tag: str, image: str) -> None:
        """Point a tag at an image."""
        path = f"/v1/repositories/{self.repository}/tags/{tag}"
        self.connection.ask("PUT", path, json.dumps(image).encode(), {**self.session, **_JSON})

    def finish(self) -> None:
        """Say that the push is complete."""
        path = f"/v1/repositories/{self.repository}/images"
        self.connection.ask("PUT", path, b"[]", {**_JSON, **self.server.basic()})


def begin_pull(connection: Connection, server: Server, repository: str) -> dict[str, str]:
    """Ask for the images of a repository; return the header that carries the pull."""
    headers = {"X-Docker-Token": "true", **server.basic()}
    return _session(connection.ask("GET", f"/v1/repositories/{repository}/images", headers=headers))


def pull(connection: Connection, server: Server, repository: str) -> int:
    """Pull ``latest``; return how many bytes its layers have."""
    session = begin_pull(connection, server, repository)

    def get(path: str) -> bytes:
        return connection.ask("GET", f"/v1/{path}", headers=session).body

    tags = json.loads(get(f"repositories/{repository}/tags"))
    received = 0
    for image in reversed(json.loads(get(f"images/{tags['latest']}/ancestry"))):
        get(f"images/{image}/json")
        received += len(get(f"images/{image}/layer"))
    return received


def _session(begun: Answer) -> dict[str, str]:
    return {"Authorization": f"Token {begun.headers['x-docker-token']}"}
