"""Clients of an application in the same process, which notes every promise of its answers."""

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from flask.testing import FlaskClient

from dualreg.image.digest import Digest
from tests.builders import Image, V1Pushed
from tests.cuts.promises import Facts, Notes
from tests.protocol.clients.v1 import V1Client, session
from tests.protocol.clients.v2 import V2Client
from tests.protocol.clients.wire import Answer, Request, Wire, need
from tests.protocol.exchange import payload_checksum


class InProcess(Wire):
    """Speaks to an application without a network."""

    def __init__(self, client: FlaskClient) -> None:
        """Speak to the application of *client*."""
        super().__init__("localhost")
        self._client = client

    def answer(self, request: Request) -> Answer:
        """Return the answer of the application."""
        method, path, headers, body, read = request
        whole = body if isinstance(body, bytes) else b"".join(body or ())
        got = self._client.open(path, method=method, headers=[*headers], data=whole)
        return Answer(got.status_code, {name.lower(): value for name, value in got.headers}, got.data[:read])


class V1(V1Client):
    """Docker with V1, in process."""

    def __init__(self, wire: Wire) -> None:
        """Speak through *wire*."""
        super().__init__(wire.host)
        self.wire = wire

    def _session(self, begun: Answer) -> tuple[str, Wire]:
        return super()._session(begun)[0], self.wire


class V2(V2Client):
    """Docker with V2, in process."""

    def __init__(self, wire: Wire) -> None:
        """Speak through *wire*."""
        super().__init__(wire.host)
        self.wire = wire


@dataclass
class Pusher:
    """Pushes, moves and deletes over both APIs, and notes what was promised.

    Attributes:
        notes: None: nothing is noted.
    """

    wire: Wire
    notes: Notes | None = None

    def asking(self, facts: Facts) -> AbstractContextManager[None]:
        """Note *facts* around the block that asks for them."""
        return self.notes.asking(facts) if self.notes else nullcontext()

    def start(self, repository: str, digest: Digest) -> str:
        """Begin the upload of a blob; return its path."""
        begun = self.wire.send("POST", f"/v2/{repository}/blobs/uploads/")
        need(begun, 202, "POST upload")
        path = begun.headers["location"].removeprefix(f"http://{self.wire.host}")
        with self.asking({("upload", path, str(digest)): 0}):
            pass
        return path

    def append(self, path: str, digest: Digest, data: bytes, offset: int = 0) -> None:
        """Send the next bytes of an upload."""
        with self.asking({("upload", path, str(digest)): offset + len(data)}):
            need(self.wire.send("PATCH", path, {}, data), 202, "PATCH")

    def finish(self, repository: str, path: str, digest: Digest, data: bytes = b"") -> None:
        """Send the last bytes of an upload, and make it a blob."""
        promised: Facts = {
            ("upload", path, str(digest)): None,
            ("blob", repository, str(digest)): str(digest),
        }
        with self.asking(promised):
            need(self.wire.send("PUT", f"{path}?digest={digest}", {}, data), 201, "PUT blob")

    def push(self, repository: str, tag: str, image: Image) -> None:
        """Push an image over V2, each blob in two parts unless it is there."""
        for digest, data in image.blobs.items():
            if self.wire.send("HEAD", f"/v2/{repository}/blobs/{digest}").status == 200:
                continue
            path, half = self.start(repository, digest), len(data) // 2
            self.append(path, digest, data[:half])
            self.finish(repository, path, digest, data[half:])
        self.tag(repository, tag, image)

    def tag(self, repository: str, tag: str, image: Image) -> None:
        """Push a manifest under a tag."""
        digest = str(image.digest)
        headers = {"Content-Type": image.media_type}
        with self.asking({("tag", repository, tag): digest, ("manifest", repository, digest): digest}):
            path = f"/v2/{repository}/manifests/{tag}"
            need(self.wire.send("PUT", path, headers, image.manifest), 201, "PUT manifest")

    def push_v1(self, repository: str, tag: str, chain: Sequence[V1Pushed]) -> None:
        """Push an image over V1, unless it is there, and tag it."""
        token = session(self.wire, repository)
        for image in chain:
            path, sums = f"/v1/images/{image.id}", {"X-Docker-Checksum-Payload": payload_checksum(image)}
            if self.wire.send("GET", f"{path}/json", token).status == 200:
                continue
            need(self.wire.send("PUT", f"{path}/json", token, image.json), 200, "PUT json")
            need(self.wire.send("PUT", f"{path}/layer", token, image.layer), 200, "PUT layer")
            need(self.wire.send("PUT", f"{path}/checksum", token | sums), 200, "PUT checksum")
        path = f"/v1/repositories/{repository}"
        headers = token | {"Content-Type": "application/json"}
        body = json.dumps(chain[-1].id).encode()
        with self.asking({("v1", repository, tag): chain[-1].id}):
            need(self.wire.send("PUT", f"{path}/tags/{tag}", headers, body), 200, "PUT tag")
        need(self.wire.send("PUT", f"{path}/images", headers, b"[]"), 204, "PUT images")

    def delete(self, path: str, facts: Facts) -> None:
        """Delete what is there; *facts* hold then."""
        with self.asking(facts):
            need(self.wire.send("DELETE", path), (200, 202, 204, 404), f"DELETE {path}")
