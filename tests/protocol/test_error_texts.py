"""Texts of errors: what a person reads in every client, as whole exchanges in both dialects.

Docker, containerd, podman and skopeo show the message only; others print the detail after it.
"""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.registry import Registry
from tests import builders
from tests.apps import client_of
from tests.protocol.exchange import HELD, REPOSITORY, TOKEN, World, lone, payload_checksum, push_blob

IMAGE = builders.image(builders.layer({"new": b"1"}))
OTHER = lone("unsummed", builders.layer({"other": b"1"}))
DOCKER = media_types.DOCKER_MANIFEST
EMPTY_DIGEST = Digest.of(HELD)
FLAT = json.loads(IMAGE.manifest)


class Exchange(NamedTuple):
    """A request that is refused, and the answer; names in braces are the world's."""

    request: str
    status: int
    code: str
    message: str
    detail: Any = None
    body: bytes = b""
    headers: Mapping[str, str] = MappingProxyType({})


V2 = {
    "name": Exchange(
        "GET /v2/Team/tags/list",
        400,
        "NAME_INVALID",
        "invalid repository name: Team: use at most 255 of a-z, 0-9, ., _, - and /, with a letter or digit"
        " around each separator",
    ),
    "tag": Exchange(
        "PUT {repo}/manifests/-x",
        400,
        "MANIFEST_INVALID",
        "invalid tag name: -x: use at most 128 of A-Z, a-z, 0-9, _, . and -, not starting with . or -",
    ),
    "digest": Exchange(
        "GET {repo}/blobs/sha256:abc",
        400,
        "DIGEST_INVALID",
        "invalid digest: sha256:abc: expected sha256: and 64, or sha512: and 128 lower-case hex digits",
    ),
    "algorithm": Exchange(
        "POST {repo}/blobs/uploads/?digest-algorithm=md5",
        400,
        "DIGEST_INVALID",
        "invalid digest: algorithm md5: use sha256 or sha512",
    ),
    "digest of an upload": Exchange(
        "PUT {upload}?digest={absent}",
        400,
        "DIGEST_INVALID",
        "provided digest did not match uploaded content: expected {absent}, received " + str(EMPTY_DIGEST),
    ),
    "digest of a manifest": Exchange(
        "PUT {repo}/manifests/{absent}",
        400,
        "DIGEST_INVALID",
        "provided digest did not match uploaded content: expected {absent}, received " + str(IMAGE.digest),
        body=IMAGE.manifest,
        headers={"Content-Type": DOCKER},
    ),
    "offset": Exchange(
        "PATCH {upload}",
        416,
        "BLOB_UPLOAD_INVALID",
        "the chunk does not start where the upload ends: the next byte of upload {id} is 5: continue from"
        " there",
        body=b"abc",
        headers={"Content-Range": "9-11"},
    ),
    "length": Exchange(
        "PATCH {upload}",
        400,
        "SIZE_INVALID",
        "provided length did not match content length: Content-Range names 3 bytes, Content-Length is 2",
        body=b"ab",
        headers={"Content-Range": "5-7"},
    ),
    "upload": Exchange(
        "PATCH {repo}/blobs/uploads/0f8fad5b-d9cb-469f-a165-70867728950e",
        404,
        "BLOB_UPLOAD_UNKNOWN",
        "blob upload unknown to registry: 0f8fad5b-d9cb-469f-a165-70867728950e is finished, cancelled or"
        " expired: start a new upload",
    ),
    "blob": Exchange("GET {repo}/blobs/{absent}", 404, "BLOB_UNKNOWN", "blob unknown to registry: {absent}"),
    "manifest": Exchange("GET {repo}/manifests/none", 404, "MANIFEST_UNKNOWN", "manifest unknown: none"),
    "repository": Exchange(
        "GET /v2/none/tags/list", 404, "NAME_UNKNOWN", "repository name not known to registry: none"
    ),
    "missing blobs": Exchange(
        "PUT {repo}/manifests/new",
        400,
        "MANIFEST_BLOB_UNKNOWN",
        f"manifest references a blob unknown to this repository: {Digest.of(IMAGE.config)}: push it first",
        {"digest": str(Digest.of(IMAGE.config))},
        body=IMAGE.manifest,
        headers={"Content-Type": DOCKER},
    ),
    "no JSON": Exchange(
        "PUT {repo}/manifests/new",
        400,
        "MANIFEST_INVALID",
        "manifest invalid: not a JSON object",
        body=b"[]",
        headers={"Content-Type": DOCKER},
    ),
    "type": Exchange(
        "PUT {repo}/manifests/new",
        400,
        "MANIFEST_INVALID",
        "manifest invalid: not a media type of application/, media type text/html",
        body=b"{}",
        headers={"Content-Type": "text/html"},
    ),
    "two types": Exchange(
        "PUT {repo}/manifests/new",
        400,
        "MANIFEST_INVALID",
        f"manifest invalid: mediaType in the document is {DOCKER}, but Content-Type is"
        f" {media_types.OCI_MANIFEST}",
        body=IMAGE.manifest,
        headers={"Content-Type": media_types.OCI_MANIFEST},
    ),
    "manifest in use": Exchange(
        "DELETE {repo}/manifests/{image}",
        405,
        "DENIED",
        "manifest is in use: {image} is part of index {index} (tag index): delete that first",
        "{index} index",
    ),
    "blob in use": Exchange(
        "DELETE {repo}/blobs/{config}",
        405,
        "UNSUPPORTED",
        "blob is in use: {config} is part of manifest {image} (tags index, one, two): delete that first",
        "{image} index one two",
    ),
    "blob of a manifest": Exchange(
        "DELETE {repo}/blobs/{index}",
        405,
        "UNSUPPORTED",
        "blob is in use: {index} is a manifest: delete it as one",
    ),
    "precondition": Exchange(
        "PUT {repo}/manifests/one",
        412,
        "DENIED",
        "precondition failed: the current digest is {image}",
        body=b"{}",
        headers={"If-None-Match": "*", "Content-Type": "application/vnd.example+json"},
    ),
    "precondition of nothing": Exchange(
        "DELETE {repo}/manifests/none",
        412,
        "DENIED",
        "precondition failed: there is no such manifest now",
        headers={"If-Match": "*"},
    ),
    "page": Exchange(
        "GET {repo}/tags/list?n=x",
        400,
        "PAGINATION_NUMBER_INVALID",
        "invalid page requested: n=x is not a decimal number",
    ),
    "order": Exchange(
        "GET {repo}/_dualreg/tags?sort=size",
        400,
        "PAGINATION_NUMBER_INVALID",
        "invalid page requested: sort=size is not name or -pushed",
    ),
    "tags": Exchange(
        "PUT {repo}/manifests/{absent}?" + "&".join(f"tag=t{number}" for number in range(33)),
        414,
        "UNSUPPORTED",
        "too many tags: one request sets at most 32",
    ),
}

V1 = {
    "name": Exchange("PUT /v1/repositories/Team/", 400, "", V2["name"].message, body=b"[]"),
    "tag": Exchange("PUT {v1}/tags/-x", 400, "", V2["tag"].message, body=b'"{top}"'),
    "image ID": Exchange("GET /v1/images/xyz/json", 404, "", "Invalid image ID: xyz"),
    "image": Exchange("GET /v1/images/{nobody}/json", 404, "", "Image not found"),
    "image there": Exchange("PUT /v1/images/{top}/json", 409, "", "Image already exists", body=b"{json}"),
    "image on its way": Exchange(
        "GET /v1/images/{begun}/json", 400, "", "Image is being uploaded, retry later"
    ),
    "parent": Exchange(
        "PUT /v1/images/{nobody}/json",
        400,
        "",
        "Image depends on a non existing parent",
        body=json.dumps({"id": "0" * 64, "parent": "1" * 64}).encode(),
    ),
    "checksum": Exchange(
        "PUT /v1/images/{unsummed}/checksum",
        400,
        "",
        "Checksum mismatch: image {unsummed} has {sum}, the client states {absent}",
        headers={"X-Docker-Checksum-Payload": "sha256:" + "0" * 64},
    ),
    "no checksum": Exchange("PUT /v1/images/{unsummed}/checksum", 400, "", "Missing Image's checksum"),
    "layer": Exchange(
        "PUT /v1/images/{begun}/layer", 400, "", "compressed layer is truncated", body=b"\x1f\x8b\x08"
    ),
    "no repository": Exchange("GET /v1/repositories/none/tags", 404, "", "Repository not found"),
    "no tag": Exchange("GET {v1}/tags/none", 404, "", "Tag not found"),
}


def names(world: World) -> dict[str, str]:
    """Return what stands for the names in braces."""
    keys = (
        "image",
        "config",
        "index",
        "top",
        "begun",
        "unsummed",
        "absent",
        "nobody",
        "upload",
        "repo",
        "v1",
    )
    filled = {key: world.fill(f"{{{key}}}") for key in keys}
    upload = world.upload.rpartition("/")[2]
    return filled | {"id": upload, "sum": payload_checksum(world.unsummed)}


def fill(value: Any, world: World) -> Any:
    """Return *value* with the world's names in all its text."""
    if isinstance(value, str):
        for name, text in names(world).items():
            value = value.replace(f"{{{name}}}", text)
    return value


@pytest.mark.parametrize("name", V2)
def test_v2(world: World, name: str) -> None:
    """The code, a message that says what is wrong with what, and a detail where a protocol has one."""
    exchange = V2[name]
    method, path = fill(exchange.request, world).split(" ")
    answer = world.client.open(path, method=method, data=exchange.body, headers=exchange.headers)
    expected = {"code": exchange.code, "message": fill(exchange.message, world)}
    if exchange.detail:
        expected["detail"] = fill(exchange.detail, world)
    assert answer.json is not None
    assert (answer.status_code, answer.json["errors"][0]) == (exchange.status, expected)


@pytest.mark.parametrize("name", V1)
def test_v1(world: World, name: str) -> None:
    """One text: that of docker-registry if clients know it, and the same as over V2 if they do not."""
    exchange = V1[name]
    method, path = fill(exchange.request, world).split(" ")
    body = exchange.body.replace(b"{json}", world.chain[-1].json)
    answer = world.client.open(path, method=method, data=body, headers=TOKEN | exchange.headers)
    assert (answer.status_code, answer.json) == (exchange.status, {"error": fill(exchange.message, world)})


def test_every_missing_blob_has_an_entry(world: World) -> None:
    """Each names its own."""
    answer = world.client.put(f"/v2/{REPOSITORY}/manifests/new", data=IMAGE.manifest, content_type=DOCKER)
    missing = [str(Digest.of(data)) for data in (IMAGE.config, *IMAGE.layers)]
    entries = json.loads(answer.data)["errors"]
    assert [entry["detail"]["digest"] for entry in entries] == missing
    assert all(digest in entry["message"] for digest, entry in zip(missing, entries, strict=True))


def test_a_manifest_over_the_limit(world: World) -> None:
    """The limit is in the text of both dialects."""
    body = bytes((4 << 20) + 1)
    v2 = world.client.put(f"/v2/{REPOSITORY}/manifests/new", data=body, content_type=DOCKER)
    v1 = world.client.put(f"/v1/images/{'0' * 64}/json", data=body, headers=TOKEN)
    text = "document too large: at most 4194304 bytes are accepted"
    assert (v2.status_code, json.loads(v2.data)["errors"][0]["message"]) == (413, text)
    assert (v1.status_code, v1.json) == (413, {"error": text})


def test_deletes_that_a_setting_disables(fresh_world: World, registry: Registry) -> None:
    """The setting is named, over both APIs."""
    client = client_of(registry, delete=False)
    assert fresh_world.client.get(f"/v2/{REPOSITORY}/manifests/one").status_code == 200
    v2 = client.delete(f"/v2/{REPOSITORY}/manifests/one")
    v1 = client.delete(f"/v1/repositories/{REPOSITORY}/tags/one")
    text = "The operation is unsupported: this registry is configured with delete = false"
    assert (v2.status_code, json.loads(v2.data)["errors"]) == (
        405,
        [{"code": "UNSUPPORTED", "message": text}],
    )
    assert (v1.status_code, v1.json) == (405, {"error": text})


def test_an_upload_that_another_request_writes(fresh_world: World, registry: Registry) -> None:
    """When to retry, in the text and in the header."""
    upload = fresh_world.upload.rpartition("/")[2]
    with registry.uploads._leases.hold(REPOSITORY, upload, None):  # type: ignore[arg-type]
        answer = fresh_world.client.patch(fresh_world.upload, data=b"x")
    text = f"another request is writing this upload: {upload}: retry in 30 seconds"
    assert (answer.status_code, answer.headers["Retry-After"]) == (409, "30")
    assert json.loads(answer.data)["errors"] == [{"code": "BLOB_UPLOAD_INVALID", "message": text}]


@pytest.mark.slow
def test_texts_name_no_other_repository(fresh_world: World) -> None:
    """What is in use elsewhere, or cannot be mounted, says nothing of where that is."""
    push_blob(fresh_world.client, "secret/other", b"hidden")
    requests = [
        ("GET", f"/v2/{REPOSITORY}/blobs/{Digest.of(b'hidden')}"),
        ("DELETE", f"/v2/{REPOSITORY}/blobs/{Digest.of(b'hidden')}"),
        ("DELETE", f"/v2/{REPOSITORY}/blobs/{Digest.of(fresh_world.image.config)}"),
        ("GET", "/v2/secret/none/tags/list"),
    ]
    for method, path in requests:
        answer = fresh_world.client.open(path, method=method)
        assert answer.status_code >= 400
        assert b"secret/other" not in answer.data
