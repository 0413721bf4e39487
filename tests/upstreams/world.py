"""A reference registry, a proxy before it, and a registry here that serves what it has."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from dualreg.assembly import open_registry, prepare
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.formats import FORMATS
from dualreg.registry import Registry
from dualreg.settings import Settings
from tests import builders
from tests.apps import client_of
from tests.migrate.fronts import Front
from tests.protocol.clients.wire import Answer, Wire

#: Two images of one repository.
IMAGE = builders.image(builders.layer({"a": b"one"}), builders.layer({"b": b"two"}), oci=True)
OTHER = builders.image(builders.layer({"a": b"one"}), builders.layer({"b": b"three"}), oci=True)
ACCEPT = {"Accept": ", ".join(sorted(FORMATS))}
#: What clients that read all types are sent.
MANIFEST = "manifests/1"


@dataclass(frozen=True)
class There:
    """The other registry, to which a test pushes; *login* is NAME:PASSWORD."""

    host: str
    login: str = ""

    def send(self, method: str, path: str, body: bytes = b"", media_type: str = "") -> Answer:
        """Send a request; return the answer, which is no error."""
        headers = {"Content-Type": media_type} if media_type else {}
        if self.login:
            headers["Authorization"] = f"Basic {base64.b64encode(self.login.encode()).decode()}"
        answer = Wire(self.host).send(method, path, headers, body)
        assert answer.status < 400, (method, path, answer.status)
        return answer

    def put_blob(self, repository: str, content: bytes) -> None:
        """Push a blob."""
        location = self.send("POST", f"/v2/{repository}/blobs/uploads/").headers["location"]
        path = location.removeprefix(f"http://{self.host}")
        joint = "&" if "?" in path else "?"
        self.send("PUT", f"{path}{joint}digest={Digest.of(content)}", content, media_types.OCTET_STREAM)

    def put(self, repository: str, image: builders.Image, *references: str) -> None:
        """Push an image."""
        for content in image.blobs.values():
            self.put_blob(repository, content)
        for reference in references or (str(image.digest),):
            self.put_manifest(repository, reference, image.manifest, image.media_type)

    def put_manifest(self, repository: str, reference: str, body: bytes, media_type: str) -> None:
        """Push a manifest, whose children are there."""
        self.send("PUT", f"/v2/{repository}/manifests/{reference}", body, media_type)


@dataclass
class Here:
    """A registry with upstreams, in this process; opened again, it has forgotten what it remembered."""

    settings: Settings
    registry: Registry = field(init=False)
    client: FlaskClient = field(init=False)

    def __post_init__(self) -> None:
        """Open it."""
        self.registry = open_registry(self.settings)
        self.client = client_of(self.registry, self.settings)

    def again(self, **chosen: object) -> None:
        """Open it again, as a new process does; *chosen*: with other options of the upstream."""
        self.registry.close()
        tables = {
            pattern: each.model_dump(exclude_unset=True) | chosen
            for pattern, each in self.settings.upstreams.items()
        }
        given = self.settings.model_dump(exclude_unset=True)
        self.settings = Settings.model_validate(given | {"upstreams": tables})
        self.__post_init__()

    def get(self, path: str, **headers: str) -> TestResponse:
        """Return the answer to a GET below ``/v2``."""
        return self.client.get(f"/v2/{path}", headers=ACCEPT | headers)

    def pull(self, repository: str, image: builders.Image, reference: str) -> None:
        """Pull an image, whose every byte is compared."""
        response = self.get(f"{repository}/manifests/{reference}")
        assert (response.status_code, response.data) == (200, image.manifest)
        assert response.headers["Docker-Content-Digest"] == str(image.digest)
        for digest, content in image.blobs.items():
            assert self.get(f"{repository}/blobs/{digest}").data == content


@contextmanager
def here(
    folder: Path, url: str, pattern: str = "hub/*", *, peers: str = "", **table: object
) -> Iterator[Here]:
    """Run a registry that has an upstream, and peers."""
    chosen = {"data": folder, "audit": "off", "upstreams": {pattern: {"url": url, **table}}, "peers": peers}
    settings = Settings.model_validate(chosen)
    prepare(settings)
    opened = Here(settings)
    try:
        yield opened
    finally:
        opened.registry.close()


def requests(front: Front, end: str = "") -> list[str]:
    """Return the methods of requests that passed a proxy, to paths that end so."""
    return [method for method, path in front.seen if path.endswith(end)]


def errors_of(response: TestResponse) -> tuple[int, str, str]:
    """Return the status, the code and the message of an error over V2."""
    (entry,) = json.loads(response.data)["errors"]
    return response.status_code, entry["code"], entry["message"]
