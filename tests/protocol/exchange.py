"""What every error answer must look like, and a registry with a little of everything in it."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from dualreg.image.digest import Digest
from dualreg.image.names import ImageId
from tests import builders
from tests.builders import Image, V1Pushed

#: The error codes of the OCI specification, and the two that Docker's registry adds.
CODES = frozenset(
    {
        "BLOB_UNKNOWN",
        "BLOB_UPLOAD_INVALID",
        "BLOB_UPLOAD_UNKNOWN",
        "DIGEST_INVALID",
        "MANIFEST_BLOB_UNKNOWN",
        "MANIFEST_INVALID",
        "MANIFEST_UNKNOWN",
        "MANIFEST_UNVERIFIED",
        "NAME_INVALID",
        "NAME_UNKNOWN",
        "SIZE_INVALID",
        "UNAUTHORIZED",
        "DENIED",
        "UNSUPPORTED",
        "TOOMANYREQUESTS",
        "PAGINATION_NUMBER_INVALID",
        "UNKNOWN",
    }
)
REPOSITORY = "team/app"
TOKEN = {"Authorization": f'Token signature=0,repository="{REPOSITORY}",access=write'}
#: What the upload of the world holds.
HELD = b"held!"


def v2_codes(response: TestResponse) -> list[str]:
    """Return the codes of a V2 error answer, whose form is checked."""
    assert response.content_type == "application/json"
    assert response.headers["Docker-Distribution-Api-Version"] == "registry/2.0"
    assert response.status_code != 405 or response.headers["Allow"]
    document = json.loads(response.data)
    assert list(document) == ["errors"]
    for entry in document["errors"]:
        assert {"code", "message"} <= entry.keys() <= {"code", "message", "detail"}
        assert entry["code"] in CODES
        assert isinstance(entry["message"], str)
        assert entry["message"]
    codes = [entry["code"] for entry in document["errors"]]
    assert codes
    return codes


def v1_text(response: TestResponse) -> str:
    """Return the text of a V1 error answer: one flat object, as old clients can read it."""
    assert response.content_type == "application/json"
    assert "Docker-Distribution-Api-Version" not in response.headers
    document = json.loads(response.data)
    assert list(document) == ["error"]
    assert isinstance(document["error"], str)
    return document["error"]


@dataclass(frozen=True)
class World:
    """A repository with content of every kind.

    Attributes:
        image: Tagged ``one`` and ``two``.
        index: Of *image*, tagged ``index``.
        chain: A complete V1 image of two, tagged ``v1``.
        begun: A V1 image of which only the JSON was sent.
        unsummed: A V1 image that lacks its checksum.
        upload: The path of an upload of HELD.
        loose: A blob that no manifest names.
    """

    client: FlaskClient
    image: Image
    index: bytes
    chain: list[V1Pushed]
    begun: V1Pushed
    unsummed: V1Pushed
    upload: str
    loose: bytes

    def fill(self, text: str) -> str:
        """Return *text* with the world's names in place of ``{…}``."""
        return text.format(
            repo=f"/v2/{REPOSITORY}",
            v1=f"/v1/repositories/{REPOSITORY}",
            upload=self.upload,
            image=self.image.digest,
            config=Digest.of(self.image.config),
            layer=Digest.of(self.image.layers[0]),
            index=Digest.of(self.index),
            loose=Digest.of(self.loose),
            top=self.chain[-1].id,
            base=self.chain[0].id,
            begun=self.begun.id,
            unsummed=self.unsummed.id,
            absent="sha256:" + "0" * 64,
            nobody="0" * 64,
        )


def payload_checksum(image: V1Pushed) -> str:
    """Return the V1 payload checksum, by its definition."""
    return "sha256:" + hashlib.sha256(image.json + b"\n" + image.layer).hexdigest()


def push_blob(client: FlaskClient, repository: str, data: bytes) -> None:
    """Push a blob in one request."""
    path = f"/v2/{repository}/blobs/uploads/?digest={Digest.of(data)}"
    assert client.post(path, data=data).status_code == 201


def push_image(client: FlaskClient, repository: str, image: Image, *references: str) -> None:
    """Push an image under each of *references*."""
    for data in image.blobs.values():
        push_blob(client, repository, data)
    for reference in references:
        path = f"/v2/{repository}/manifests/{reference}"
        assert client.put(path, data=image.manifest, content_type=image.media_type).status_code == 201


def push_v1(client: FlaskClient, repository: str, chain: list[V1Pushed], tag: str) -> None:
    """Push a V1 chain and tag its top."""
    token = {"Authorization": f'Token repository="{repository}"'}
    for image in chain:
        put_v1(client, image, token)
    path = f"/v1/repositories/{repository}/tags/{tag}"
    assert client.put(path, json=chain[-1].id).status_code == 200


def put_v1(client: FlaskClient, image: V1Pushed, token: dict[str, str], *, steps: int = 3) -> None:
    """Send the JSON, the layer and the checksum of a V1 image, or the first *steps* of that."""
    path, sums = f"/v1/images/{image.id}", {"X-Docker-Checksum-Payload": payload_checksum(image)}
    requests: list[dict[str, Any]] = [
        {"path": f"{path}/json", "data": image.json, "headers": token},
        {"path": f"{path}/layer", "data": image.layer, "headers": token},
        {"path": f"{path}/checksum", "headers": token | sums},
    ]
    for request in requests[:steps]:
        assert client.put(**request).status_code == 200


def lone(seed: str, layer: bytes) -> V1Pushed:
    """Return a V1 image without parent."""
    image = ImageId(Digest.of(seed.encode()).hex)
    return V1Pushed(image, json.dumps({"id": image, "os": "linux"}).encode(), layer)


def make_world(client: FlaskClient) -> World:
    """Fill an empty registry."""
    image = builders.image(builders.layer({"a": b"1"}), builders.layer({"b": b"2" * 5000}))
    index, loose = builders.index(image), b"nobody names this"
    push_image(client, REPOSITORY, image, "one", "two")
    tagged = client.put(
        f"/v2/{REPOSITORY}/manifests/index",
        data=index,
        content_type="application/vnd.oci.image.index.v1+json",
    )
    assert tagged.status_code == 201
    push_blob(client, REPOSITORY, loose)
    chain = builders.v1_chain(builders.layer({"c": b"3"}), builders.layer({"d": b"4"}))
    push_v1(client, REPOSITORY, chain, "v1")
    begun = lone("begun", builders.layer({"e": b"5"}))
    put_v1(client, begun, TOKEN, steps=1)
    unsummed = lone("unsummed", builders.layer({"f": b"6"}))
    put_v1(client, unsummed, TOKEN, steps=2)
    started = client.post(f"/v2/{REPOSITORY}/blobs/uploads/")
    # In two requests: bytes that came in one would get another name when more is added, or refused.
    location = started.headers["Location"]
    for piece in (HELD[:2], HELD[2:]):
        patched = client.patch(location, data=piece)
        location = patched.headers["Location"]
    assert patched.headers["Range"] == "0-4"
    # What V1 clients see of it is worked out once, when the first of them comes.
    assert client.get(f"/v1/repositories/{REPOSITORY}/tags").status_code == 200
    return World(client, image, index, chain, begun, unsummed, started.headers["Location"], loose)
