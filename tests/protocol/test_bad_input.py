"""Bad input: the documented error in the dialect of the request, and no change."""

import io
import json
import re
import socket
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.registry import Registry
from dualreg.storage.base import CHUNK_SIZE
from tests import builders
from tests.protocol.clients.v1 import session
from tests.protocol.clients.v2 import V2Client
from tests.protocol.clients.wire import Wire
from tests.protocol.conftest import Served
from tests.protocol.exchange import REPOSITORY, TOKEN, World, lone, put_v1, v1_text, v2_codes
from tests.state import snapshot

LIMIT = 4 << 20
ZEROS = "0" * 64
HUGE = "9" * 4000
UUID = "0f8fad5b-d9cb-469f-a165-70867728950e"
#: Arabic ones: ``str.isdigit`` and ``\\d`` without re.ASCII take them.
DIGITS = "\u0661\u0662\u0663"
ZEROS_IN_ARABIC = "\u0660" * 64

# --- V2: method, path, headers, body, status, codes

V2_REQUESTS: dict[str, tuple[str, str, dict[str, str], bytes, int, list[str]]] = {}


def v2(
    name: str,
    request: str,
    status: int,
    *codes: str,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
) -> None:
    """Add a row."""
    assert name not in V2_REQUESTS
    method, path = request.split(" ", 1)
    V2_REQUESTS[name] = (method, path, headers or {}, body, status, list(codes))


v2("finish: wrong digest", "PUT {upload}?digest={absent}", 400, "DIGEST_INVALID", body=b"more")
v2("finish: no digest", "PUT {upload}", 400, "DIGEST_INVALID", body=b"more")
v2(
    "single POST: wrong digest",
    "POST {repo}/blobs/uploads/?digest={absent}",
    400,
    "DIGEST_INVALID",
    body=b"x",
)
for malformed in (
    "sha256:abc",
    "sha256:" + "A" * 64,
    "sha256:" + "0" * 63 + "g",
    "sha256:" + "0" * 64 + "%0a",
    "sha256:" + "0" * 64 + "%00",
    "sha512:" + "0" * 64,
    "sha384:" + "0" * 96,
    "md5:" + "0" * 32,
    "sha256:" + ZEROS_IN_ARABIC,
    "SHA256:" + "0" * 64,
    "sha256%2b:" + "0" * 64,
    "sha256:",
    ":",
    ":" + "0" * 64,
):
    v2(f"finish: digest {malformed}", f"PUT {{upload}}?digest={malformed}", 400, "DIGEST_INVALID")
    v2(f"blob: digest {malformed}", f"GET {{repo}}/blobs/{malformed}", 400, "DIGEST_INVALID")
    v2(f"manifest: digest {malformed}", f"GET {{repo}}/manifests/{malformed}", 400, "DIGEST_INVALID")
    single = f"POST {{repo}}/blobs/uploads/?digest={malformed}"
    v2(f"single POST: digest {malformed}", single, 400, "DIGEST_INVALID", body=b"x")

for bad in (
    "Upper",
    "under_",
    "-dash",
    "a..b",
    "a___b",
    "a._b",
    "a//b",
    "a/",
    "a/%2e%2e/b",
    "%2e%2e",
    "a/./b",
    "a%00b",
    "a b",
    "ä",
    "a%5cb",
    "a:5000/b",
    "a" * 256,
    "/".join(["ab"] * 100),
    "_catalog/x",
):
    for request in (
        "GET /v2/{}/tags/list",
        "POST /v2/{}/blobs/uploads/",
        "GET /v2/{}/manifests/one",
        "PUT /v2/{}/manifests/one",
        "DELETE /v2/{}/manifests/one",
        "GET /v2/{}/blobs/sha256:" + ZEROS,
    ):
        v2(f"{request.format('~')} in {bad}", request.format(bad), 400, "NAME_INVALID")

for bad in ("a%0a", "a%0d%0aX-Injected: 1", "a%0ab"):
    v2(f"line break in {bad}", f"GET /v2/{bad}/tags/list", 400, "NAME_INVALID")
    v2(f"write with a line break in {bad}", f"POST /v2/{bad}/blobs/uploads/", 400, "NAME_INVALID")

for bad in (".dot", "-dash", "a" * 129, "a%0a", "a%0d%0ab", "a%00", "ä", DIGITS, "a b", "a+b", "%2e%2e"):
    v2(f"manifest: tag {bad}", f"PUT {{repo}}/manifests/{bad}", 400, "MANIFEST_INVALID", body=b"{}")
    for method in ("GET", "DELETE"):
        v2(f"manifest: {method} tag {bad}", f"{method} {{repo}}/manifests/{bad}", 404, "MANIFEST_UNKNOWN")

for bad in (
    "5-3",
    "0-4",
    "4-6",
    "6-8",
    "x",
    "-",
    "5-",
    "-5",
    "5-7,9-10",
    "bytes=5-7",
    "items 5-7",
    HUGE + "-1",
):
    headers = {"Content-Range": bad}
    for method, path in (("PATCH", "{upload}"), ("PUT", "{upload}?digest={absent}")):
        name = f"{method}: range {bad[:20]}"
        v2(name, f"{method} {path}", 416, "BLOB_UPLOAD_INVALID", body=b"abc", headers=headers)
v2("PATCH: shorter", "PATCH {upload}", 400, "SIZE_INVALID", body=b"ab", headers={"Content-Range": "5-7"})
v2("PATCH: longer", "PATCH {upload}", 400, "SIZE_INVALID", body=b"abcd", headers={"Content-Range": "5-7"})
v2(
    "PUT: shorter",
    "PUT {upload}?digest={absent}",
    400,
    "SIZE_INVALID",
    body=b"ab",
    headers={"Content-Range": "5-7"},
)
for bad in ("x", ZEROS, "%2e%2e", "a%00", UUID, UUID.upper(), f"{UUID}%0a"):
    for method in ("GET", "PATCH", "PUT", "DELETE"):
        suffix = "?digest={absent}" if method == "PUT" else ""
        path = f"{method} {{repo}}/blobs/uploads/{bad}{suffix}"
        v2(f"upload {method} {bad}", path, 404, "BLOB_UPLOAD_UNKNOWN")
for path in ("{repo}/tags/list", "/v2/_catalog"):
    for bad in ("-1", "abc", "", "1.0", "0x1", "%201", "1%0a", DIGITS, "\u00b2", "+1", "1_0"):
        v2(f"{path}: n={bad}", f"GET {path}?n={bad}", 400, "PAGINATION_NUMBER_INVALID")
v2("delete: blob in use", "DELETE {repo}/blobs/{layer}", 405, "UNSUPPORTED")
v2("delete: config in use", "DELETE {repo}/blobs/{config}", 405, "UNSUPPORTED")
v2("delete: manifest as a blob", "DELETE {repo}/blobs/{image}", 405, "UNSUPPORTED")
v2("delete: child of an index", "DELETE {repo}/manifests/{image}", 405, "DENIED")
v2("delete: no such blob", "DELETE {repo}/blobs/{absent}", 404, "BLOB_UNKNOWN")
v2("delete: no such manifest", "DELETE {repo}/manifests/{absent}", 404, "MANIFEST_UNKNOWN")
v2("delete: no such tag", "DELETE {repo}/manifests/none", 404, "MANIFEST_UNKNOWN")
v2("delete: no such repository", "DELETE /v2/none/manifests/one", 404, "NAME_UNKNOWN")


@pytest.mark.parametrize("name", V2_REQUESTS)
def test_v2_refuses(world: World, shared_registry: Registry, name: str) -> None:
    """The documented status and code; store, catalog and link files are what they were."""
    method, path, headers, body, status, codes = V2_REQUESTS[name]
    before = snapshot(shared_registry)
    response = world.client.open(world.fill(path), method=method, headers=headers, data=body)
    assert (response.status_code, v2_codes(response)) == (status, codes)
    assert snapshot(shared_registry) == before
    assert "X-Injected" not in response.headers
    if status == 416:
        assert (response.headers["Location"], response.headers["Range"]) == (
            f"{world.upload}?offset=5",
            "0-4",
        )


# --- V2 manifests: the document, and what is wrong with it

IMAGE = builders.image(builders.layer({"a": b"1"}), builders.layer({"b": b"2" * 5000}))
GOOD: dict[str, Any] = json.loads(IMAGE.manifest)
LAYER: dict[str, Any] = GOOD["layers"][0]
LIST: dict[str, Any] = json.loads(builders.index(IMAGE, oci=False))
ABSENT = {"mediaType": LAYER["mediaType"], "digest": f"sha256:{ZEROS}", "size": 1}
INVALID, UNKNOWN = "MANIFEST_INVALID", "MANIFEST_BLOB_UNKNOWN"
SCHEMA2, DOCKER_LIST = media_types.DOCKER_MANIFEST, media_types.DOCKER_LIST


def with_layer(**members: Any) -> bytes:
    """Return the good manifest with another first layer."""
    return json.dumps(GOOD | {"layers": [LAYER | members]}).encode()


MANIFESTS: dict[str, tuple[str, bytes, list[str]]] = {
    "nothing": (SCHEMA2, b"", [INVALID]),
    "no JSON": (SCHEMA2, b"{", [INVALID]),
    "more than JSON": (SCHEMA2, IMAGE.manifest + b"}", [INVALID]),
    "a list": (SCHEMA2, b"[]", [INVALID]),
    "null": (SCHEMA2, b"null", [INVALID]),
    "text": (SCHEMA2, b'"text"', [INVALID]),
    "a number": (SCHEMA2, b"2", [INVALID]),
    "NaN": (SCHEMA2, json.dumps(GOOD | {"x": float("nan")}).encode(), [INVALID]),
    "a huge number": (
        SCHEMA2,
        json.dumps(GOOD).encode()[:-1] + b',"x":' + HUGE.encode() * 2 + b"}",
        [INVALID],
    ),
    "nested deeply": (SCHEMA2, b'{"a":' * 100_000, [INVALID]),
    "not UTF-8": (SCHEMA2, b'{"a":"\xff"}', [INVALID]),
    "UTF-16": (SCHEMA2, IMAGE.manifest.decode().encode("utf-16"), [INVALID]),
    "a BOM": (SCHEMA2, b"\xef\xbb\xbf" + IMAGE.manifest, [INVALID]),
    "half a surrogate pair": (SCHEMA2, b'{"a":"\\ud800"}', [INVALID]),
    "a key twice": (SCHEMA2, IMAGE.manifest[:-1] + b',"schemaVersion":2}', [INVALID]),
    "a nested key twice": (SCHEMA2, IMAGE.manifest[:-1] + b',"x":{"a":1,"a":1}}', [INVALID]),
    "keys in another case": (SCHEMA2, IMAGE.manifest[:-1] + b',"LAYERS":[]}', [INVALID]),
    "layers in another case": (SCHEMA2, IMAGE.manifest.replace(b'"layers"', b'"Layers"'), [INVALID]),
    "config in another case": (SCHEMA2, IMAGE.manifest.replace(b'"config"', b'"Config"'), [INVALID]),
    "schemaVersion in another case": (SCHEMA2, IMAGE.manifest[:-1] + b',"SchemaVersion":1}', [INVALID]),
    "another mediaType in another case": (
        media_types.OCI_MANIFEST,
        json.dumps(
            {key: GOOD[key] for key in GOOD if key != "mediaType"} | {"MediaType": DOCKER_LIST}
        ).encode(),
        [INVALID],
    ),
    "a mediaType in another case": (
        "application/vnd.example+json",
        json.dumps({"MediaType": SCHEMA2}).encode(),
        [INVALID],
    ),
    "a second digest in another case": (SCHEMA2, with_layer(Digest=f"sha256:{ZEROS}"), [INVALID]),
    "a size in another case": (SCHEMA2, with_layer(SIZE=1), [INVALID]),
    "a size in Unicode case": (SCHEMA2, with_layer().replace(b'"size"', b'"\\u017fize"'), [INVALID]),
    "a config's digest in another case": (
        SCHEMA2,
        json.dumps(GOOD | {"config": GOOD["config"] | {"DIGEST": f"sha256:{ZEROS}"}}).encode(),
        [INVALID],
    ),
    "a subject's digest in another case": (
        SCHEMA2,
        json.dumps(GOOD | {"subject": LAYER | {"Digest": f"sha256:{ZEROS}"}}).encode(),
        [INVALID],
    ),
    "a platform in another case": (
        DOCKER_LIST,
        json.dumps(
            LIST | {"manifests": [LIST["manifests"][0] | {"platform": {"os": "linux", "OS": "windows"}}]}
        ).encode(),
        [INVALID],
    ),
    "another mediaType": (media_types.OCI_MANIFEST, IMAGE.manifest, [INVALID]),
    "mediaType no text": (SCHEMA2, json.dumps(GOOD | {"mediaType": 2}).encode(), [INVALID]),
    "no type at all": ("", b"{}", [INVALID]),
    **{
        f"a type for browsers, {each}": (each, b"{}", [INVALID])
        for each in ("text/html", "image/svg+xml", "x")
    },
    "a type for browsers inside": ("", b'{"mediaType":"text/html"}', [INVALID]),
    "schema 1": (
        "application/vnd.docker.distribution.manifest.v1+json",
        b'{"schemaVersion":1}',
        ["MANIFEST_UNVERIFIED"],
    ),
    "signed": ("application/json", b'{"signatures":[]}', [INVALID]),
    "no schemaVersion": (SCHEMA2, json.dumps(GOOD | {"schemaVersion": None}).encode(), [INVALID]),
    "schemaVersion as text": (SCHEMA2, json.dumps(GOOD | {"schemaVersion": "2"}).encode(), [INVALID]),
    "an image and an index": (SCHEMA2, json.dumps(GOOD | {"manifests": []}).encode(), [INVALID]),
    "an index and an image": (DOCKER_LIST, json.dumps(LIST | {"layers": []}).encode(), [INVALID]),
    "an index with a config": (DOCKER_LIST, json.dumps(LIST | {"Config": {}}).encode(), [INVALID]),
    "an image with fsLayers": (SCHEMA2, json.dumps(GOOD | {"fsLayers": []}).encode(), [INVALID]),
    "no config": (SCHEMA2, json.dumps(GOOD | {"config": None}).encode(), [INVALID]),
    "config a list": (SCHEMA2, json.dumps(GOOD | {"config": []}).encode(), [INVALID]),
    "layers false": (SCHEMA2, json.dumps(GOOD | {"layers": False}).encode(), [INVALID]),
    "manifests as text": (DOCKER_LIST, json.dumps(LIST | {"manifests": ""}).encode(), [INVALID]),
    "layers an object": (SCHEMA2, json.dumps(GOOD | {"layers": {}}).encode(), [INVALID]),
    "a layer as text": (SCHEMA2, json.dumps(GOOD | {"layers": ["x"]}).encode(), [INVALID]),
    "size a fraction": (SCHEMA2, with_layer(size=1.5), [INVALID]),
    "size as text": (SCHEMA2, with_layer(size="1"), [INVALID]),
    "size true": (SCHEMA2, with_layer(size=True), [INVALID]),
    "a size far below zero": (SCHEMA2, with_layer(size=-(2**63)), [INVALID]),
    "size over 63 bits": (SCHEMA2, with_layer(size=2**63), [INVALID]),
    "data wrong": (SCHEMA2, with_layer(data="eA=="), [INVALID]),
    "digest missing": (SCHEMA2, with_layer(digest=None), [INVALID]),
    "digest malformed": (SCHEMA2, with_layer(digest="sha256:../../x"), [INVALID]),
    "digest with a newline": (SCHEMA2, with_layer(digest=f"sha256:{ZEROS}\n"), [INVALID]),
    "platform a list": (SCHEMA2, with_layer(platform=[1]), [INVALID]),
    "mediaType of a layer": (SCHEMA2, with_layer(mediaType=1), [INVALID]),
    "subject no descriptor": (SCHEMA2, json.dumps(GOOD | {"subject": "x"}).encode(), [INVALID]),
    "artifactType no text": (SCHEMA2, json.dumps(GOOD | {"artifactType": 1}).encode(), [INVALID]),
    "a missing layer": (SCHEMA2, json.dumps(GOOD | {"layers": [ABSENT]}).encode(), [UNKNOWN]),
    "a missing config": (SCHEMA2, json.dumps(GOOD | {"config": ABSENT}).encode(), [UNKNOWN]),
    "two missing": (
        SCHEMA2,
        json.dumps(GOOD | {"layers": [ABSENT], "config": ABSENT | {"digest": f"sha256:{'1' * 64}"}}).encode(),
        [UNKNOWN, UNKNOWN],
    ),
    "a missing child": (DOCKER_LIST, json.dumps(LIST | {"manifests": [ABSENT]}).encode(), [UNKNOWN]),
}


@pytest.mark.parametrize("name", MANIFESTS)
@pytest.mark.parametrize("by", ["tag", "digest"])
def test_v2_refuses_a_manifest(world: World, shared_registry: Registry, name: str, by: str) -> None:
    """By tag and by digest, with the tag left where it was; for missing content, one error a digest."""
    assert world.image == IMAGE
    content_type, payload, codes = MANIFESTS[name]
    before = snapshot(shared_registry)
    reference = "one" if by == "tag" else str(Digest.of(payload))
    path = f"/v2/{REPOSITORY}/manifests/{reference}"
    response = world.client.put(path, data=payload, content_type=content_type)
    assert (response.status_code, v2_codes(response)) == (400, codes)
    if codes[0] == UNKNOWN:
        missing = {entry["detail"]["digest"] for entry in json.loads(response.data)["errors"]}
        assert len(missing) == len(codes)
    assert snapshot(shared_registry) == before


def test_v2_refuses_content_of_another_repository(world: World, shared_registry: Registry) -> None:
    """A manifest may only name content of its own repository, not just any bytes of the store."""
    before = snapshot(shared_registry)
    response = world.client.put("/v2/other/manifests/one", data=IMAGE.manifest, content_type=SCHEMA2)
    assert v2_codes(response) == [UNKNOWN] * 3
    assert world.client.get(world.fill("/v2/other/blobs/{layer}")).status_code == 404
    assert snapshot(shared_registry) == before


@pytest.mark.parametrize(
    "reference", [f"sha256:{ZEROS}", str(Digest.of(IMAGE.manifest + b"\n")), f"sha512:{ZEROS * 2}"]
)
def test_v2_refuses_a_manifest_under_another_digest(
    world: World, shared_registry: Registry, reference: str
) -> None:
    """A digest is a promise about every byte."""
    before = snapshot(shared_registry)
    path = f"/v2/{REPOSITORY}/manifests/{reference}"
    response = world.client.put(path, data=IMAGE.manifest, content_type=SCHEMA2)
    assert (response.status_code, v2_codes(response)) == (400, ["DIGEST_INVALID"])
    assert snapshot(shared_registry) == before


class Endless(io.RawIOBase):
    """A body without an end."""

    taken = 0

    def readable(self) -> bool:
        """Return that it is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Give spaces, as many as are wanted."""
        buffer[:] = b" " * len(buffer)
        self.taken += len(buffer)
        return len(buffer)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(
    "path", ["{repo}/manifests/big", "/v1/images/{nobody}/json", "{v1}/", "{v1}/images", "{v1}/tags/big"]
)
def test_a_document_over_the_limit(
    world: World, shared_registry: Registry, path: str, *, chunked: bool
) -> None:
    """413, after little more than the limit was read; the rest is the server's to discard."""
    before, body = snapshot(shared_registry), Endless()
    environ = {"wsgi.input": body, "wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    if not chunked:
        environ = {"wsgi.input": body, "CONTENT_LENGTH": str(LIMIT + 1)}
    response = world.client.put(
        world.fill(path), headers=TOKEN, content_type=SCHEMA2, environ_overrides=environ
    )
    assert response.status_code == 413
    if path.startswith("{repo}"):
        assert v2_codes(response) == [INVALID]
    else:
        assert v1_text(response) == f"document too large: at most {LIMIT} bytes are accepted"
    assert body.taken <= (LIMIT + (3 << 20) if chunked else 0)
    assert snapshot(shared_registry) == before


def test_a_manifest_of_exactly_the_limit(fresh_world: World) -> None:
    """Four mebibytes are promised, and taken."""
    filled = json.dumps(GOOD | {"annotations": {"a": ""}})
    payload = json.dumps(GOOD | {"annotations": {"a": "x" * (LIMIT - len(filled))}}).encode()
    assert len(payload) == LIMIT
    response = fresh_world.client.put(f"/v2/{REPOSITORY}/manifests/big", data=payload, content_type=SCHEMA2)
    assert response.status_code == 201


# --- V1: request, body, status, text; every request bears the token of the repository

GONE = "Image not found"
BUSY = "Image is being uploaded, retry later"
EXISTS = "Image already exists"
SUM = "X-Docker-Checksum-Payload"
FRESH = lone("fresh", b"")


def v1_json(**members: Any) -> bytes:
    """Return an image JSON for the id of FRESH."""
    return json.dumps({"id": FRESH.id, **members}).encode()


V1_REQUESTS: dict[str, tuple[str, bytes, dict[str, str], int, str]] = {
    f"json: {name}": (f"PUT /v1/images/{FRESH.id}/json", body, {}, 400, text)
    for name, body, text in (
        ("nothing", b"", "Invalid JSON"),
        ("a list", b"[]", "not a JSON object"),
        ("an empty object", b"{}", "Invalid JSON"),
        ("null", b"null", "not a JSON object"),
        ("cut short", v1_json()[:-1], "Invalid JSON"),
        ("not UTF-8", b'{"id":"\xff"}', "not UTF-8"),
        ("nested deeply", b'{"id":' * 100_000, "nested too deeply"),
        ("the id twice", b'{"id":"%b","id":"%b"}' % (FRESH.id.encode(), b"0" * 64), 'duplicate member "id"'),
        ("no id", b'{"Id":"x"}', "Missing key `id' in JSON"),
        ("a parent only daemons read", v1_json(Parent=ZEROS), "Parent in JSON must be spelt parent"),
        ("another id", json.dumps({"id": ZEROS}).encode(), "JSON data contains invalid id"),
        ("id in upper case", json.dumps({"id": FRESH.id.upper()}).encode(), "JSON data contains invalid id"),
        ("id a number", b'{"id":1}', "JSON data contains invalid id"),
        ("id null", b'{"id":null}', "JSON data contains invalid id"),
        ("no such parent", v1_json(parent=ZEROS), "Image depends on a non existing parent"),
        ("its own parent", v1_json(parent=FRESH.id), "Image depends on a non existing parent"),
        ("parent a path", v1_json(parent="../../x"), "JSON data contains invalid id"),
        ("parent a number", v1_json(parent=1), "JSON data contains invalid id"),
    )
}
V1_REQUESTS |= {
    "json: complete": ("PUT /v1/images/{base}/json", b'{"id":"{base}"}', {}, 409, EXISTS),
    "json: bad id": ("PUT /v1/images/xyz/json", b"{}", {}, 404, "Invalid image ID"),
    "json: id with a newline": (f"GET /v1/images/{ZEROS}%0a/json", b"", {}, 404, "Invalid image ID"),
    "json: id in Unicode digits": (
        f"GET /v1/images/{ZEROS_IN_ARABIC}/json",
        b"",
        {},
        404,
        "Invalid image ID",
    ),
    "json: id is a path": ("GET /v1/images/%2e%2e/json", b"", {}, 404, "Invalid image ID"),
    "json: GET begun": ("GET /v1/images/{begun}/json", b"", {}, 400, BUSY),
    "json: GET unknown": ("GET /v1/images/{nobody}/json", b"", {}, 404, GONE),
    "layer: unknown": ("PUT /v1/images/{nobody}/layer", b"x", {}, 404, GONE),
    "layer: complete": ("PUT /v1/images/{base}/layer", b"x", {}, 409, EXISTS),
    "layer: GET begun": ("GET /v1/images/{begun}/layer", b"", {}, 400, BUSY),
    "layer: GET unsummed": ("GET /v1/images/{unsummed}/layer", b"", {}, 400, BUSY),
    "ancestry: begun": ("GET /v1/images/{begun}/ancestry", b"", {}, 400, BUSY),
    "ancestry: unknown": ("GET /v1/images/{nobody}/ancestry", b"", {}, 404, GONE),
    "checksum: unknown": ("PUT /v1/images/{nobody}/checksum", b"", {SUM: "{absent}"}, 404, GONE),
    "checksum: no layer": ("PUT /v1/images/{begun}/checksum", b"", {SUM: "{absent}"}, 400, BUSY),
    "checksum: wrong": (
        "PUT /v1/images/{unsummed}/checksum",
        b"",
        {SUM: "{absent}"},
        400,
        "Checksum mismatch",
    ),
    "checksum: complete, wrong": (
        "PUT /v1/images/{base}/checksum",
        b"",
        {SUM: "{absent}"},
        400,
        "Checksum mismatch",
    ),
    "checksum: none": ("PUT /v1/images/{unsummed}/checksum", b"", {}, 400, "Missing Image's checksum"),
    "checksum: malformed": ("PUT /v1/images/{unsummed}/checksum", b"", {SUM: "x"}, 400, "invalid digest"),
    "checksum: old client, no layer": (
        "PUT /v1/images/{begun}/checksum",
        b"",
        {"X-Docker-Checksum": "tarsum+sha256:0"},
        400,
        BUSY,
    ),
    "tag: unknown image": ("PUT {v1}/tags/x", b'"{nobody}"', {}, 404, GONE),
    "tag: begun image": ("PUT {v1}/tags/x", b'"{begun}"', {}, 400, BUSY),
    "tag: unsummed image": ("PUT {v1}/tags/v1", b'"{unsummed}"', {}, 400, BUSY),
    "tag: another repository": ("PUT /v1/repositories/other/tags/x", b'"{top}"', {}, 404, GONE),
    "tag: no JSON": ("PUT {v1}/tags/x", b"{top}", {}, 400, "Error Decoding JSON"),
    "tag: not UTF-8": ("PUT {v1}/tags/x", b'"\xff"', {}, 400, "Error Decoding JSON"),
    "tag: nested deeply": ("PUT {v1}/tags/x", b"[" * 100_000, {}, 400, "Error Decoding JSON"),
    "tag: no text": ("PUT {v1}/tags/x", b'["{top}"]', {}, 400, "Invalid data"),
    "tag: no id": ("PUT {v1}/tags/x", b'"../x"', {}, 400, "Invalid data"),
    "tag: id and a newline": ("PUT {v1}/tags/x", b'"{top}\\n"', {}, 400, "Invalid data"),
    "repository: no JSON": ("PUT {v1}/", b"", {}, 400, "Error Decoding JSON"),
    "repository: no list": ("PUT {v1}/", b"{}", {}, 400, "Invalid data"),
    "images: no JSON": ("PUT {v1}/images", b"[", {}, 400, "Error Decoding JSON"),
    "images: no list": ("PUT {v1}/images", b"null", {}, 400, "Invalid data"),
    "images: unknown": ("GET /v1/repositories/none/images", b"", {}, 404, "images not found"),
    "tags: unknown": ("GET /v1/repositories/none/tags", b"", {}, 404, "Repository not found"),
    "tag: GET unknown": ("GET {v1}/tags/none", b"", {}, 404, "Tag not found"),
    "tag: DELETE unknown": ("DELETE {v1}/tags/none", b"", {}, 404, "Tag not found: none"),
    "tags: DELETE unknown": ("DELETE /v1/repositories/none/tags", b"", {}, 404, "Repository not found"),
    "repository: DELETE unknown": ("DELETE /v1/repositories/none/", b"", {}, 404, "Repository not found"),
    "search: bad n": ("GET /v1/search?q=a&n=-1", b"", {}, 400, "invalid page requested"),
    "search: Unicode n": ("GET /v1/search?q=a&n=\u0663", b"", {}, 400, "invalid page requested"),
}
V1_REQUESTS |= {
    f"tag: name {bad}": (f"PUT {{v1}}/tags/{bad}", b'"{top}"', {}, 400, "invalid tag name")
    for bad in (".dot", "a" * 129, "a%0a", "a%0d%0aX-Injected: 1", "a%00", "ä", "%2e%2e", "a b")
}
V1_REQUESTS |= {
    f"{method}: repository {bad}": (
        f"{method} /v1/repositories/{bad}/images",
        b"[]",
        {},
        400,
        "invalid repository name",
    )
    for bad in ("Upper", "%2e%2e/x", "a/%2e%2e/b", "a%00", "a//b", "a" * 256, "-a")
    for method in ("GET", "PUT")
}
V1_REQUESTS |= {
    f"{method}: line break": (
        f"{method} /v1/repositories/a%0a/images",
        b"[]",
        {},
        400,
        "invalid repository name",
    )
    for method in ("GET", "PUT")
}
V1_REQUESTS |= {
    f"layer: {name}": ("PUT /v1/images/{begun}/layer", body, {}, 400, text)
    for name, body, text in (
        ("corrupt gzip", b"\x1f\x8b\x08\x00" + bytes(6) + b"\xff" * 50, "compressed layer is corrupt"),
        ("gzip cut short", builders.layer({"a": b"1"})[:-9], "compressed layer is truncated"),
        (
            "gzip with a wrong sum",
            builders.layer({"a": b"1"})[:-8] + bytes(8),
            "compressed layer is corrupt",
        ),
        (
            "gzip and garbage",
            builders.layer({"a": b"1"}) + b"garbage",
            "other bytes follow the compressed layer",
        ),
        ("corrupt xz", b"\xfd7zXZ\x00" + bytes(40), "compressed layer is corrupt"),
        ("corrupt bzip2", b"BZh9" + bytes(40), "compressed layer is corrupt"),
        ("only a magic", b"\x1f\x8b\x08", "compressed layer is truncated"),
        ("zstd", b"\x28\xb5\x2f\xfd" + bytes(40), "V1 layers cannot be zstd"),
    )
}


@pytest.mark.parametrize("name", V1_REQUESTS)
def test_v1_refuses(world: World, shared_registry: Registry, name: str) -> None:
    """The documented status and text; store, catalog and link files are what they were."""
    request, body, headers, status, text = V1_REQUESTS[name]
    method, path = request.split(" ", 1)
    for key, value in (("base", world.chain[0].id), ("top", world.chain[-1].id), ("nobody", ZEROS)):
        body = body.replace(b"{%b}" % key.encode(), value.encode())
    for key, value in (("begun", world.begun.id), ("unsummed", world.unsummed.id)):
        body = body.replace(b"{%b}" % key.encode(), value.encode())
    filled = {key: world.fill(value) for key, value in headers.items()}
    before = snapshot(shared_registry)
    token = {} if "/none" in path or "/other" in path else TOKEN  # which is for one repository
    response = world.client.open(world.fill(path), method=method, headers=token | filled, data=body)
    assert (response.status_code, v1_text(response)[: len(text)]) == (status, text)
    assert "X-Injected" not in response.headers
    assert snapshot(shared_registry) == before


@pytest.mark.parametrize("step", ["json", "layer", "checksum"])
@pytest.mark.parametrize(
    ("authorization", "status", "text"),
    [
        (None, 401, "Requires authorization"),
        ("Basic Og==", 401, "Requires authorization"),
        ("Token ", 401, "Requires authorization"),
        ("Token signature=0", 401, "Requires authorization"),
        ('Token repository="../x"', 401, "Requires authorization"),
        ('Token signature=0,repository=""', 401, "Requires authorization"),
    ],
)
def test_v1_refuses_to_write_without_a_repository(
    world: World, shared_registry: Registry, step: str, *, authorization: str | None, status: int, text: str
) -> None:
    """The repository of an image is in the token; without one, the image has no place."""
    before = snapshot(shared_registry)
    headers = {"Authorization": authorization} if authorization else {}
    response = world.client.put(f"/v1/images/{world.unsummed.id}/{step}", headers=headers, data=b"x")
    assert (response.status_code, v1_text(response)[: len(text)]) == (status, text)
    assert (response.headers.get("WWW-Authenticate") == "Token") == (status == 401)
    assert snapshot(shared_registry) == before


def test_v1_refuses_a_cycle(fresh_world: World, registry: Registry) -> None:
    """An image that is not complete may change its parent, but not to one of its descendants."""
    above = lone("above", b"")
    body = json.dumps({"id": above.id, "parent": fresh_world.begun.id}).encode()
    assert fresh_world.client.put(f"/v1/images/{above.id}/json", headers=TOKEN, data=body).status_code == 200
    before = snapshot(registry)
    body = json.dumps({"id": fresh_world.begun.id, "parent": above.id}).encode()
    response = fresh_world.client.put(f"/v1/images/{fresh_world.begun.id}/json", headers=TOKEN, data=body)
    assert (response.status_code, v1_text(response)) == (400, "Image depends on a non existing parent")
    assert snapshot(registry) == before


# --- Bodies that end before they should, however the server in front of us shows it


class Broken(io.BytesIO):
    """A body whose connection is reset after the last byte that arrived."""

    def read(self, size: int | None = -1) -> bytes:
        """Return what was sent, then fail."""
        data = super().read(size)
        if not data:
            raise ConnectionResetError
        return data


@pytest.mark.parametrize("source", [io.BytesIO, Broken], ids=["ends", "is reset"])
@pytest.mark.parametrize(
    ("request_", "body"),
    [
        (f"POST {{repo}}/blobs/uploads/?digest={Digest.of(b'whole')}", b"whole"),
        ("PUT {repo}/manifests/one", IMAGE.manifest),
        (f"PUT /v1/images/{FRESH.id}/json", FRESH.json),
        ("PUT /v1/images/{begun}/layer", builders.layer({"a": b"1"})),
        ("PUT {v1}/", b"[]"),
        ("PUT {v1}/images", b"[]"),
        ("PUT {v1}/tags/v1", b'"{base}"'),
    ],
)
def test_a_body_that_ends_early(
    world: World, shared_registry: Registry, request_: str, body: bytes, source: type[io.BytesIO]
) -> None:
    """It is refused even if what arrived is complete by itself."""
    before = snapshot(shared_registry)
    method, path = request_.split(" ")
    body = body.replace(b"{base}", world.chain[0].id.encode())
    environ = {
        "wsgi.input": source(body),
        "wsgi.input_terminated": True,
        "CONTENT_LENGTH": str(len(body) + 1),
    }
    response = world.client.open(
        world.fill(path), method=method, headers=TOKEN, content_type=SCHEMA2, environ_overrides=environ
    )
    assert response.status_code == 400
    if path.startswith("{repo}"):
        assert v2_codes(response) == ["SIZE_INVALID"]
    else:
        assert v1_text(response).startswith("the request body ended early: received ")
    assert snapshot(shared_registry) == before


# --- Bodies that end before they should, from a real socket


def cut_short(host: str, head: str, part: bytes, *, chunked: bool) -> tuple[int, bytes]:
    """Send a request whose body ends early, and return the status and body of the answer.

    Args:
        chunked: End in the middle of a chunk; otherwise, before the Content-Length is reached.
    """
    name, _, port = host.partition(":")
    length = len(part) + 10
    kind = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {length}"
    headers = {"Host": host, "Connection": "close"} | (
        {} if "/v2/" in head else session(Wire(host), "team/cut")
    )
    lines = [f"{head} HTTP/1.1", *map(": ".join, headers.items()), kind]
    start = ("\r\n".join(lines) + "\r\n\r\n").encode()
    body = f"{length:x}\r\n".encode() + part if chunked else part
    with socket.create_connection((name, int(port)), timeout=20) as connection:
        connection.sendall(start + body)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head_bytes, _, rest = answer.partition(b"\r\n\r\n")
    return int(head_bytes.split()[1]), rest


DATA = bytes(range(256)) * 40


@pytest.fixture
def cut(served: Served) -> Iterator[V2Client]:
    """A client of a registry whose repository ``team/cut`` holds a begun V1 image."""
    client = V2Client(served.host)
    headers = session(client.wire, "team/cut")
    image = lone("cut", DATA)
    answer = client.wire.send("PUT", f"/v1/images/{image.id}/json", headers, image.json)
    assert answer.status == 200
    yield client
    assert client.wire.send("GET", "/v2/").status == 200


def content(registry: Registry) -> dict[str, Any]:
    """Return the snapshot of a registry without the V1 clients, which are noted some seconds later.

    And without the times of V1 images: a client that has sent a part of a layer is still pushing it.
    """
    whole = snapshot(registry)
    del whole["rows"]["v1_clients"]
    images = whole["rows"]["v1_images"]
    whole["rows"]["v1_images"] = [re.sub(r"datetime\.datetime\([^)]*\)", "", row) for row in images]
    return whole


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(
    "head",
    [
        f"POST /v2/team/cut/blobs/uploads/?digest={Digest.of(DATA)}",
        "PUT /v2/team/cut/manifests/latest",
        f"PUT /v2/team/cut/manifests/{Digest.of(IMAGE.manifest)}",
        f"PUT /v1/images/{lone('cut', b'').id}/layer",
        f"PUT /v1/images/{lone('cut2', b'').id}/json",
        "PUT /v1/repositories/team/cut/",
        "PUT /v1/repositories/team/cut/tags/latest",
    ],
)
def test_a_body_cut_short_is_not_taken(cut: V2Client, behind: Registry, head: str, *, chunked: bool) -> None:
    """It is refused even if it was cut where it is valid."""
    part = {"manifests": IMAGE.manifest, "json": lone("cut2", b"").json, "cut/ ": b"[]"}
    body = next((value for key, value in part.items() if key in head), DATA)
    before = content(behind)
    status, answer = cut_short(cut.host, head, body, chunked=chunked)
    assert status == 400
    if head.split()[1].startswith("/v2/"):
        assert json.loads(answer)["errors"][0]["code"] == "SIZE_INVALID"
    else:
        assert json.loads(answer)["error"].startswith("the request body ended early: received ")
    assert content(behind) == before


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_an_upload_cut_short_goes_on_from_there(
    cut: V2Client, behind: Registry, method: str, *, chunked: bool
) -> None:
    """What arrived counts: GET returns the offset to continue from."""
    part = uuid4().bytes + bytes(CHUNK_SIZE)
    data, name = part + DATA, "team/cut"
    location, digest = cut.start_upload(name), Digest.of(data)
    suffix = f"?digest={digest}" if method == "PUT" else ""
    status, answer = cut_short(cut.host, f"{method} {location}{suffix}", part, chunked=chunked)
    assert (status, json.loads(answer)["errors"][0]["code"]) == (400, "SIZE_INVALID")
    held = cut.wire.send("GET", location)
    assert held.status == 204
    received = int(held.headers["range"].partition("-")[2]) + 1
    assert received == len(part)
    rest = cut.wire.send("PUT", f"{location}?digest={digest}", {}, data[received:])
    assert rest.status == 201
    with behind.blobs.open(digest) as reader:
        assert reader.read() == data


def test_a_client_that_says_nothing_more_breaks_nothing(cut: V2Client, behind: Registry) -> None:
    """Half a header, then silence and the end."""
    before = snapshot(behind)
    name, _, port = cut.host.partition(":")
    with socket.create_connection((name, int(port)), timeout=20) as connection:
        connection.sendall(b"PUT /v2/team/cut/manifests/latest HTTP/1.1\r\nHost: x\r\nContent-Le")
        connection.shutdown(socket.SHUT_WR)
        connection.recv(65536)
    assert snapshot(behind) == before


def test_a_wrong_checksum_is_corrected_by_another_try(fresh_world: World) -> None:
    """After a refused checksum, JSON and layer may be sent again, and the image becomes complete."""
    wrong = {SUM: f"sha256:{ZEROS}"}
    path = f"/v1/images/{fresh_world.unsummed.id}/checksum"
    assert fresh_world.client.put(path, headers=TOKEN | wrong).status_code == 400
    put_v1(fresh_world.client, fresh_world.unsummed, TOKEN)
    got = fresh_world.client.get(f"/v1/images/{fresh_world.unsummed.id}/layer", headers=TOKEN)
    assert got.data == fresh_world.unsummed.layer
