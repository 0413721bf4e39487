"""Whole HTTP exchanges, row by row: a request, and the status, headers and body of the answer."""

import gzip
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from dualreg.assembly import build_registry
from dualreg.catalog.database import Catalog
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.registry import Registry
from dualreg.registry.v1_holds import HOLD
from dualreg.storage.filesystem import FilesystemStore
from dualreg.web.slots import Slots
from tests import builders
from tests.apps import client_of
from tests.conftest import Clock
from tests.protocol.clients.tarsum import tarsum
from tests.protocol.exchange import (
    HELD,
    REPOSITORY,
    TOKEN,
    World,
    lone,
    payload_checksum,
    push_blob,
    push_image,
    push_v1,
    put_v1,
    v1_text,
    v2_codes,
)

ZEROS = "0" * 64
NUMBER = "9" * 4000
ARABIC = "\u0663"
OCTETS = media_types.OCTET_STREAM
SCHEMA2, LIST = media_types.DOCKER_MANIFEST, media_types.DOCKER_LIST
OCI, INDEX = media_types.OCI_MANIFEST, media_types.OCI_INDEX
#: The loose blob of the world.
LOOSE = b"nobody names this"
UPLOAD_PATH = re.compile(
    r"/v2/[a-z0-9/._-]+/blobs/uploads/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?:\?offset=[1-9][0-9]*)?"
)


@dataclass(frozen=True)
class Row:
    """An exchange; texts are filled by ``World.fill``.

    Attributes:
        codes: Of the V2 errors in the answer; empty for a success.
        absent: Headers that must not be there.
    """

    request: str
    status: int
    sent: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    codes: Sequence[str] = ()
    absent: Sequence[str] = ()


def exchange(world: World, row: Row) -> TestResponse:
    """Ask, and check the answer."""
    method, path = world.fill(row.request).split(" ", 1)
    sent = {name: world.fill(value) for name, value in row.sent.items()}
    response = world.client.open(path, method=method, headers=sent)
    assert response.status_code == row.status
    # No browser shows what somebody pushed as a page of the registry's origin.
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in response.headers["Content-Security-Policy"]
    for name, value in row.headers.items():
        assert (name, response.headers.get(name)) == (name, world.fill(value))
    for name in row.absent:
        assert name not in response.headers
    if row.codes:
        assert v2_codes(response) == list(row.codes)
    if row.body is not None:
        assert response.data == row.body
    if response.status_code in (204, 304):
        # RFC 9110: such answers have no body, and say nothing of its length.
        assert not response.data
        assert "Content-Length" not in response.headers
    return response


# --- V2: base

VERSION = {"Docker-Distribution-Api-Version": "registry/2.0"}
BASE_ROWS = [
    Row("GET /v2/", 200, headers=VERSION | {"Content-Type": "application/json"}, body=b"{}"),
    Row("GET /v2", 200, headers=VERSION, body=b"{}", absent=["Location"]),
    Row("HEAD /v2/", 200, headers=VERSION, body=b""),
    Row("POST /v2/", 405, headers=VERSION, codes=["UNSUPPORTED"]),
    *[
        Row("GET /v2/", 200, {"User-Agent": agent}, VERSION, b"{}")
        for agent in (
            "docker/1.6.0 go/go1.4.2 git-commit/4749651",
            "docker/1.10.3 go/go1.5.3",
            "docker/1.5.0-dev go/go1.4.1",
            "docker/28.0.0",
            "Go-http-client/1.1",
            "skopeo/1.18.0",
            "",
        )
    ],
    *[
        Row("GET /v2/", 404, {"User-Agent": agent}, absent=["Docker-Distribution-Api-Version"])
        for agent in (
            "Go 1.1 package http",
            "docker/1.3.0 go/go1.3.3",
            "docker/1.4.1 go/go1.3.3",
            "docker/1.5.0 go/go1.4.1",
        )
    ],
]


@pytest.mark.parametrize("row", BASE_ROWS, ids=lambda row: f"{row.request} {row.sent.get('User-Agent', '-')}")
def test_v2_base(world: World, row: Row) -> None:
    """V2 shows itself to all but the clients whose V2 half was never finished."""
    exchange(world, row)


# --- V2: blobs

BLOB = "{repo}/blobs/{loose}"
SIZE = len(LOOSE)
BLOB_HEADERS = VERSION | {
    "Content-Type": OCTETS,
    "Content-Length": str(SIZE),
    "Docker-Content-Digest": "{loose}",
    "ETag": '"{loose}"',
    "Accept-Ranges": "bytes",
    "Cache-Control": "private, max-age=31536000, immutable",
    "X-Content-Type-Options": "nosniff",
}


def part(wanted: str, start: int, end: int, **sent: str) -> Row:
    """Return the row of a range that is bytes *start* to *end* (exclusive)."""
    headers = BLOB_HEADERS | {
        "Content-Length": str(end - start),
        "Content-Range": f"bytes {start}-{end - 1}/{SIZE}",
    }
    named = {name.replace("_", "-"): value for name, value in sent.items()}
    return Row(f"GET {BLOB}", 206, {"Range": wanted} | named, headers, LOOSE[start:end])


def whole(wanted: str, **sent: str) -> Row:
    """Return the row of a range that is not heeded, or is everything."""
    named = {name.replace("_", "-"): value for name, value in sent.items()}
    headers = {"Range": wanted} | named
    return Row(f"GET {BLOB}", 200, headers, BLOB_HEADERS, LOOSE, absent=["Content-Range"])


def unsatisfiable(wanted: str) -> Row:
    """Return the row of a range that holds no byte: empty, which old Dockers read as the end of the file."""
    headers = {"Content-Range": f"bytes */{SIZE}", "Content-Length": "0"}
    return Row(f"GET {BLOB}", 416, {"Range": wanted}, headers, b"", absent=["Content-Type"])


BLOB_ROWS = [
    Row(f"GET {BLOB}", 200, headers=BLOB_HEADERS, body=LOOSE, absent=["Content-Range", "Content-Encoding"]),
    Row(f"HEAD {BLOB}", 200, headers=BLOB_HEADERS, body=b""),
    Row(f"HEAD {BLOB}", 200, {"Range": "bytes=0-3"}, BLOB_HEADERS, b""),
    Row(f"GET {BLOB}", 200, {"Accept-Encoding": "gzip"}, BLOB_HEADERS, LOOSE, absent=["Content-Encoding"]),
    part("bytes=0-3", 0, 4),
    part("bytes=0-0", 0, 1),
    part("bytes=5-", 5, SIZE),
    part("bytes=3-3", 3, 4),
    part("bytes=-4", SIZE - 4, SIZE),
    part(f"bytes=3-{SIZE}", 3, SIZE),
    part("bytes=3-9999999999999999999", 3, SIZE),
    part("bytes=0003-0004", 3, 5),
    part("bytes=0-3", 0, 4, If_Range='"{loose}"'),
    part("bytes=0-", 0, SIZE),
    part(f"bytes=0-{SIZE - 1}", 0, SIZE),
    part(f"bytes=0-{SIZE}", 0, SIZE),
    part(f"bytes=-{SIZE}", 0, SIZE),
    part("bytes=-999", 0, SIZE),
    part("bytes=3-4,5-6", 3, 7),
    part(f"bytes=3-4,{SIZE}-", 3, 5),
    whole("bytes=0-3", If_Range='"{layer}"'),
    whole("bytes=0-3", If_Range='W/"{loose}"'),
    whole("bytes=0-3", If_Range="Sat, 29 Oct 1994 19:43:31 GMT"),
    whole("bytes=0-1,x"),
    whole("bytes=-"),
    whole("bytes="),
    whole("bytes=a-b"),
    whole("bytes=1 - 2"),
    whole("items=0-3"),
    whole("0-3"),
    whole(f"bytes={NUMBER}-"),
    whole(f"bytes=0-{NUMBER}"),
    unsatisfiable(f"bytes={SIZE}-"),
    unsatisfiable(f"bytes={SIZE}-{SIZE}"),
    unsatisfiable("bytes=9999999999999999999-"),
    unsatisfiable("bytes=5-3"),
    unsatisfiable("bytes=-0"),
    *[
        Row(f"{method} {BLOB}", 304, {"If-None-Match": tags}, {"ETag": '"{loose}"'}, b"")
        for method in ("GET", "HEAD")
        for tags in ('"{loose}"', '"x", "{loose}"', "*", "{loose}")
    ],
    Row(f"GET {BLOB}", 200, {"If-None-Match": '"{layer}"'}, BLOB_HEADERS, LOOSE),
    Row("GET {repo}/blobs/{absent}", 404, codes=["BLOB_UNKNOWN"]),
    Row("HEAD {repo}/blobs/{absent}", 404, body=b"", headers=VERSION),
    Row("GET /v2/none/blobs/{loose}", 404, codes=["BLOB_UNKNOWN"]),
    Row("GET {repo}/blobs/sha256:x", 400, codes=["DIGEST_INVALID"]),
    Row("PUT {repo}/blobs/{loose}", 405, codes=["UNSUPPORTED"]),
    Row("GET {repo}/blobs/{image}", 200, headers={"Docker-Content-Digest": "{image}"}),
]


@pytest.mark.parametrize("row", BLOB_ROWS, ids=lambda row: f"{row.request} {str(row.sent)[:60]}")
def test_v2_blobs(world: World, row: Row) -> None:
    """Blobs, whole and in part; a range that cannot be understood is not heeded."""
    exchange(world, row)


def test_v2_several_ranges(world: World) -> None:
    """One multipart answer, as snapshotters that pull lazily request it; each part states its place."""
    response = world.client.get(world.fill(BLOB), headers={"Range": "bytes=0-2,-3,7-8"})
    assert response.status_code == 206
    kind, _, boundary = response.headers["Content-Type"].partition("; boundary=")
    assert kind == "multipart/byteranges"
    assert response.headers["Content-Length"] == str(len(response.data))
    opening, *parts, closing = response.data.split(f"--{boundary}".encode())
    assert (opening.strip(), closing) == (b"", b"--\r\n")
    expected = [(0, 3), (SIZE - 3, SIZE), (7, 9)]
    assert [piece.partition(b"\r\n\r\n")[2] for piece in parts] == [
        LOOSE[start:end] + b"\r\n" for start, end in expected
    ]
    for piece, (start, end) in zip(parts, expected, strict=True):
        assert f"Content-Range: bytes {start}-{end - 1}/{SIZE}\r\n".encode() in piece


def test_v2_an_empty_blob(client: FlaskClient) -> None:
    """Nothing is a blob too."""
    push_blob(client, REPOSITORY, b"")
    path = f"/v2/{REPOSITORY}/blobs/{Digest.of(b'')}"
    response = client.get(path)
    assert (response.status_code, response.data, response.headers["Content-Length"]) == (200, b"", "0")
    assert client.head(path).headers["Content-Length"] == "0"
    assert client.get(path, headers={"Range": "bytes=0-0"}).status_code == 416


def test_v2_delete_of_a_blob(fresh_world: World) -> None:
    """It is gone from this repository alone; one in use stays, and the error names its user."""
    world, client = fresh_world, fresh_world.client
    push_blob(client, "other", LOOSE)
    path = world.fill(BLOB)
    deleted = client.delete(path)
    assert (deleted.status_code, deleted.data) == (202, b"")
    assert client.head(path).status_code == 404
    assert v2_codes(client.delete(path)) == ["BLOB_UNKNOWN"]
    assert client.get(f"/v2/other/blobs/{Digest.of(LOOSE)}").data == LOOSE
    refused = client.delete(world.fill("{repo}/blobs/{layer}"))
    assert v2_codes(refused) == ["UNSUPPORTED"]
    assert refused.status_code == 405
    detail = json.loads(refused.data)["errors"][0]["detail"]
    assert str(world.image.digest) in detail.split()
    layer = Digest.of(world.chain[0].layer)
    in_v1 = json.loads(client.delete(f"/v2/{REPOSITORY}/blobs/{layer}").data)["errors"][0]["detail"]
    assert world.chain[0].id in in_v1.split()


# --- V2: uploads


def start(client: FlaskClient, query: str = "", repository: str = REPOSITORY) -> TestResponse:
    """Begin an upload."""
    return client.post(f"/v2/{repository}/blobs/uploads/{query}")


def check_upload(response: TestResponse, status: int, length: int, repository: str = REPOSITORY) -> str:
    """Check the headers of every answer about an upload; return its path."""
    location = response.headers["Location"]
    match = UPLOAD_PATH.fullmatch(location)
    assert match
    assert location.startswith(f"/v2/{repository}/blobs/uploads/")
    assert (response.status_code, response.data) == (status, b"")
    assert response.headers["Range"] == f"0-{max(length - 1, 0)}"
    assert response.headers["Docker-Upload-UUID"] == match[1]
    assert status == 204 or response.headers["Content-Length"] == "0"
    return location


def check_stored(response: TestResponse, digest: str, repository: str = REPOSITORY) -> None:
    """Check the answer to a finished upload, which has the location of the blob."""
    assert (response.status_code, response.data) == (201, b"")
    assert response.headers["Docker-Content-Digest"] == digest
    assert response.headers["Location"] == f"/v2/{repository}/blobs/{digest}"


@pytest.mark.parametrize("path", [f"/v2/{REPOSITORY}/blobs/uploads/", f"/v2/{REPOSITORY}/blobs/uploads"])
@pytest.mark.parametrize("headers", [{}, {"Content-Length": "0"}, {"Content-Type": ""}])
def test_v2_upload_begins(client: FlaskClient, path: str, headers: dict[str, str]) -> None:
    """202, and where to go on; with and without the slash that some proxies lose."""
    location = check_upload(client.post(path, headers=headers), 202, 0)
    check_upload(client.get(location), 204, 0)


@pytest.mark.parametrize("data", [b"", b"x", bytes(300_000)], ids=["empty", "a byte", "more"])
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
class TestV2Upload:
    """Every way to bring a blob in, with both algorithms."""

    @staticmethod
    def stored(client: FlaskClient, response: TestResponse, data: bytes, digest: str) -> None:
        """Check that the blob can be read by this digest."""
        check_stored(response, digest)
        got = client.get(response.headers["Location"])
        assert (got.data, got.headers["Docker-Content-Digest"]) == (data, digest)
        head = client.head(response.headers["Location"])
        assert head.headers["Content-Length"] == str(len(data))

    def test_in_one_post(self, client: FlaskClient, data: bytes, algorithm: str) -> None:
        """POST ?digest= takes everything at once, and twice as well as once."""
        digest = str(Digest.of(data, algorithm))
        for _ in range(2):
            response = client.post(f"/v2/{REPOSITORY}/blobs/uploads/?digest={digest}", data=data)
            self.stored(client, response, data, digest)

    def test_in_one_put(self, client: FlaskClient, data: bytes, algorithm: str) -> None:
        """POST, then PUT with everything; the upload is then gone; the colon may be escaped."""
        digest = str(Digest.of(data, algorithm))
        location = check_upload(start(client), 202, 0)
        escaped = digest.replace(":", "%3A")
        self.stored(client, client.put(f"{location}?digest={escaped}", data=data), data, digest)
        assert v2_codes(client.get(location)) == ["BLOB_UPLOAD_UNKNOWN"]

    def test_in_a_stream(self, client: FlaskClient, data: bytes, algorithm: str) -> None:
        """POST, PATCH without a place, empty PUT."""
        digest = str(Digest.of(data, algorithm))
        location = check_upload(start(client), 202, 0)
        location = check_upload(client.patch(location, data=data, content_type=OCTETS), 202, len(data))
        self.stored(client, client.put(f"{location}?digest={digest}"), data, digest)

    @pytest.mark.parametrize("form", ["{}-{}", "bytes {}-{}/*", "bytes {}-{}/300000", "bytes {}-{}"])
    def test_in_chunks(self, client: FlaskClient, data: bytes, algorithm: str, form: str) -> None:
        """PATCH with its place, as often as it takes, the last piece with the PUT."""
        digest = str(Digest.of(data, algorithm))
        location, held = check_upload(start(client), 202, 0), 0
        size = max(1, len(data) // 3)
        pieces = [data[at : at + size] for at in range(0, len(data), size)] or [b""]
        for piece in pieces[:-1]:
            place = {"Content-Range": form.format(held, held + len(piece) - 1)}
            location = check_upload(client.patch(location, data=piece, headers=place), 202, held + len(piece))
            held += len(piece)
        last = pieces[-1]
        place = {"Content-Range": form.format(held, held + len(last) - 1)} if last else {}
        self.stored(client, client.put(f"{location}?digest={digest}", data=last, headers=place), data, digest)


@pytest.mark.parametrize("content_type", ["text/plain", "application/json", "multipart/form-data", ""])
def test_v2_upload_minds_no_content_type(client: FlaskClient, content_type: str) -> None:
    """Uploads accept any Content-Type."""
    location = check_upload(start(client), 202, 0)
    check_upload(client.patch(location, data=b"a=b", content_type=content_type), 202, 3)
    digest = str(Digest.of(b"a=b"))
    check_stored(client.put(f"{location}?digest={digest}"), digest)


def test_v2_upload_state(fresh_world: World) -> None:
    """GET and HEAD answer alike; a stream continues at the end of the upload."""
    world, client = fresh_world, fresh_world.client
    check_upload(client.get(world.upload), 204, len(HELD))
    check_upload(client.head(world.upload), 204, len(HELD))
    check_upload(client.patch(world.upload, data=b"abc"), 202, len(HELD) + 3)
    check_upload(client.patch(world.upload, data=b""), 202, len(HELD) + 3)


BODY = bytes(range(256)) * 2000


@pytest.mark.parametrize("held", [0, 5], ids=["first", "later"])
@pytest.mark.parametrize("arrived", [1, 300_000, len(BODY)], ids=["a byte", "a part", "all"])
@pytest.mark.parametrize("way", ["PATCH", "PUT"])
def test_v2_stream_sent_twice(client: FlaskClient, way: str, arrived: int, held: int) -> None:
    """A stream that is repeated where it was first sent to counts once, even if it was cut short."""
    location, before = check_upload(start(client), 202, 0), BODY[:held][::-1]
    if held:
        location = check_upload(client.patch(location, data=before), 202, held)
    check_upload(client.patch(location, data=BODY[:arrived]), 202, held + arrived)
    digest = Digest.of(before + BODY)
    if way == "PATCH":
        location = check_upload(client.patch(location, data=BODY), 202, held + len(BODY))
        assert location.endswith(f"?offset={held + len(BODY)}")
    finish = f"{location}{'&' if '?' in location else '?'}digest={digest}"
    assert client.put(finish, data=b"" if way == "PATCH" else BODY).status_code == 201


def test_v2_stream_that_goes_on(client: FlaskClient) -> None:
    """What is not a repetition of what arrived since the last answer is new."""
    first = check_upload(start(client), 202, 0)
    sent = b""
    for piece in (b"abcabc", b"abcabx", b"abc", b"x" * 20):
        sent += piece
        check_upload(client.patch(first, data=piece), 202, len(sent))
    assert client.put(f"{first}?digest={Digest.of(sent)}").status_code == 201


@pytest.mark.parametrize("body", [b"", BODY], ids=["empty", "whole"])
@pytest.mark.parametrize("join", ["?", "&"])
def test_v2_commit_sent_twice(client: FlaskClient, body: bytes, join: str) -> None:
    """The answer to a commit that was done is the same again, but not for what the repository lacks."""
    location = check_upload(start(client), 202, 0)
    location = location if body else check_upload(client.patch(location, data=BODY), 202, len(BODY))
    finish = f"{location}{join if '?' in location else '?'}digest={Digest.of(BODY)}"
    answers = [client.put(finish, data=body) for _ in range(2)]
    assert [(each.status_code, each.headers["Location"]) for each in answers] == [
        (201, f"/v2/{REPOSITORY}/blobs/{Digest.of(BODY)}")
    ] * 2
    elsewhere = client.put(finish.replace(REPOSITORY, "else/where"), data=body)
    assert (elsewhere.status_code, v2_codes(elsewhere)) == (404, ["BLOB_UPLOAD_UNKNOWN"])
    assert client.patch(location, data=b"more").status_code == 404


def test_v2_chunk_sent_twice(client: FlaskClient) -> None:
    """A client that missed an answer may retry: 416 states the offset; the first Location stays valid."""
    location = check_upload(start(client), 202, 0)
    first, second = {"Content-Range": "0-2"}, {"Content-Range": "3-5"}
    check_upload(client.patch(location, data=b"abc", headers=first), 202, 3)
    again = client.patch(location, data=b"abc", headers=first)
    assert (again.status_code, v2_codes(again)) == (416, ["BLOB_UPLOAD_INVALID"])
    assert (again.headers["Location"], again.headers["Range"]) == (f"{location}?offset=3", "0-2")
    check_upload(client.patch(location, data=b"def", headers=second), 202, 6)
    digest = str(Digest.of(b"abcdef"))
    check_stored(client.put(f"{location}?digest={digest}"), digest)


def test_v2_finish_with_a_wrong_digest_can_be_corrected(fresh_world: World) -> None:
    """A wrong or missing digest takes nothing and loses nothing."""
    world, client = fresh_world, fresh_world.client
    for query in ("", world.fill("?digest={absent}"), "?digest=x"):
        refused = client.put(world.upload + query, data=b"more")
        assert (refused.status_code, v2_codes(refused)) == (400, ["DIGEST_INVALID"])
        check_upload(client.get(world.upload), 204, len(HELD))
    digest = str(Digest.of(HELD))
    check_stored(client.put(f"{world.upload}?digest={digest}"), digest)


@pytest.mark.parametrize("how", ["cancelled", "finished", "of another repository"])
def test_v2_uploads_that_are_not_there(fresh_world: World, how: str) -> None:
    """404 for every method, also for uploads of other repositories."""
    world, client, path = fresh_world, fresh_world.client, fresh_world.upload
    if how == "cancelled":
        cancelled = client.delete(path)
        assert (cancelled.status_code, cancelled.data) == (204, b"")
    elif how == "finished":
        assert client.put(f"{path}?digest={Digest.of(HELD)}").status_code == 201
    else:
        push_blob(client, "other", b"x")
        path = path.replace(REPOSITORY, "other")
    digest = world.fill("?digest={absent}")
    for method, query in (("GET", ""), ("HEAD", ""), ("PATCH", ""), ("PUT", digest), ("DELETE", "")):
        response = client.open(path + query, method=method, data=b"" if method in ("GET", "HEAD") else b"x")
        assert response.status_code == 404
        assert method == "HEAD" or v2_codes(response) == ["BLOB_UPLOAD_UNKNOWN"]


MOUNTS = {
    "there": ("?mount={loose}&from=" + REPOSITORY, True),
    "and a digest": ("?mount={loose}&from=" + REPOSITORY + "&digest={absent}", True),
    "a manifest": ("?mount={image}&from=" + REPOSITORY, True),
    "not in that repository": ("?mount={absent}&from=" + REPOSITORY, False),
    "no such repository": ("?mount={loose}&from=none", False),
    "without from": ("?mount={loose}", True),
    "without from, nowhere": ("?mount={absent}", False),
    "from alone": ("?from=" + REPOSITORY, False),
    "empty": ("?mount=&from=", False),
    "an empty digest": ("?digest=", False),
    "no digest": ("?mount=x&from=" + REPOSITORY, False),
    "an algorithm that is not offered": (f"?mount=md5:{'0' * 32}&from=" + REPOSITORY, False),
    "no name": ("?mount={loose}&from=Team/App", False),
    "another registry": ("?mount={loose}&from=registry.example:5000/app", False),
    "too long a name": ("?mount={loose}&from=" + "a" * 300, False),
}


@pytest.mark.parametrize("name", MOUNTS)
@pytest.mark.parametrize("target", ["target", REPOSITORY])
def test_v2_mount(fresh_world: World, name: str, target: str) -> None:
    """201 and readable at once, or 202 and an upload as if nothing had been asked."""
    query, mounted = MOUNTS[name]
    response = start(fresh_world.client, fresh_world.fill(query), target)
    if not mounted:
        check_upload(response, 202, 0, target)
        return
    digest = fresh_world.fill("{image}" if name == "a manifest" else "{loose}")
    check_stored(response, digest, target)
    assert fresh_world.client.get(response.headers["Location"]).status_code == 200


def test_v2_locations_are_absolute_if_told_so(registry: Registry) -> None:
    """public_url names the registry behind a path or a port that it cannot know."""
    client = client_of(registry, public_url="https://hub.example:8443/")
    prefix, image = "https://hub.example:8443/v2/team/app/", builders.image(builders.layer({"a": b"1"}))
    begun = start(client)
    assert begun.headers["Location"].startswith(f"{prefix}blobs/uploads/")
    for data in image.blobs.values():
        stored = client.post(f"/v2/{REPOSITORY}/blobs/uploads/?digest={Digest.of(data)}", data=data)
        assert stored.headers["Location"] == f"{prefix}blobs/{Digest.of(data)}"
    path = f"/v2/{REPOSITORY}/manifests/x"
    put = client.put(path, data=image.manifest, content_type=SCHEMA2)
    assert put.headers["Location"] == f"{prefix}manifests/{image.digest}"


def test_blobs_are_left_to_nginx_if_told_so(
    catalog: Catalog, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a prefix set, GET of a blob or layer names the file and sends no body; all else is unchanged."""
    registry = build_registry(catalog, FilesystemStore(tmp_path))
    monkeypatch.setattr(Slots, "take", lambda *_: pytest.fail("a slot is taken, but nginx sends the bytes"))
    client = client_of(registry, x_accel_prefix="/_blobs/")
    push_blob(client, REPOSITORY, LOOSE)
    (image,) = builders.v1_chain(builders.layer({"a": b"1"}))
    push_v1(client, REPOSITORY, [image], "v1")
    for path, data in (
        (f"/v2/{REPOSITORY}/blobs/{Digest.of(LOOSE)}", LOOSE),
        (f"/v1/images/{image.id}/layer", image.layer),
    ):
        digest = Digest.of(data).hex
        response = client.get(path)
        location = f"/_blobs/sha256/{digest[:2]}/{digest}/data"
        assert (response.status_code, response.data) == (200, b"")
        assert response.headers["X-Accel-Redirect"] == location
        head = client.head(path)
        assert (head.headers["Content-Length"], "X-Accel-Redirect" in head.headers) == (str(len(data)), False)
        assert (
            tmp_path / "docker/registry/v2/blobs" / location.removeprefix("/_blobs/")
        ).read_bytes() == data
    assert client.get(f"/v2/{REPOSITORY}/manifests/v1").data


# --- V2: manifests

ONE = "{repo}/manifests/one"


def manifest_headers(name: str, media_type: str) -> dict[str, str]:
    """Return what a manifest is sent with; *name* is the world's for its digest."""
    return VERSION | {
        "Content-Type": media_type,
        "Docker-Content-Digest": name,
        "ETag": f'"{name}"',
        "X-Content-Type-Options": "nosniff",
    }


IMAGE, OF_INDEX = manifest_headers("{image}", SCHEMA2), manifest_headers("{index}", INDEX)
BY_TAG, BY_DIGEST = {"Vary": "Accept, User-Agent"}, {"Vary": "Accept"}
BOTH = f"{SCHEMA2}, {OCI}"
MANIFEST_ROWS = [
    *[
        Row(f"GET {reference}", 200, {"Accept": accept} if accept else {}, IMAGE | vary)
        for reference, vary in (
            (ONE, BY_TAG),
            ("{repo}/manifests/two", BY_TAG),
            ("{repo}/manifests/{image}", BY_DIGEST),
        )
        for accept in ("", "*/*", "application/*", "application/json", SCHEMA2, BOTH, INDEX, "text/html")
    ],
    *[
        Row("GET {repo}/manifests/index", 200, {"Accept": accept} if accept else {}, OF_INDEX)
        for accept in (
            "",
            "*/*",
            INDEX,
            f"{BOTH}, {INDEX}",
            f"{BOTH}, {INDEX}, {LIST}",
            f"{SCHEMA2}, */*",
            "application/json",
        )
    ],
    *[
        Row("GET {repo}/manifests/index", 200, {"Accept": accept}, IMAGE)
        for accept in (SCHEMA2, BOTH, f"{SCHEMA2};q=0.5", SCHEMA2.upper())
    ],
    *[
        Row(f"GET {{repo}}/manifests/{digest}", 200, {"Accept": accept}, headers | BY_DIGEST)
        for digest, headers in (("{index}", OF_INDEX), ("{image}", IMAGE))
        for accept in (SCHEMA2, OCI, INDEX, LIST)
    ],
    *[
        Row(f"{method} {ONE}", 304, {"If-None-Match": tags}, {"ETag": '"{image}"'}, b"")
        for method in ("GET", "HEAD")
        for tags in ('"{image}"', "{image}", '"{index}", "{image}"')
    ],
    Row(f"GET {ONE}", 200, {"If-None-Match": '"{index}"'}, IMAGE),
    Row("GET {repo}/manifests/index", 304, {"If-None-Match": '"{image}"', "Accept": SCHEMA2}),
    Row("GET {repo}/manifests/index", 200, {"If-None-Match": '"{image}"'}, OF_INDEX),
    Row("GET {repo}/manifests/v1", 200, headers={"Content-Type": SCHEMA2}),
    Row("GET {repo}/manifests/none", 404, codes=["MANIFEST_UNKNOWN"]),
    Row("GET {repo}/manifests/ONE", 404, codes=["MANIFEST_UNKNOWN"]),
    Row("HEAD {repo}/manifests/none", 404, headers=VERSION, body=b""),
    Row("GET {repo}/manifests/{absent}", 404, codes=["MANIFEST_UNKNOWN"]),
    Row("GET {repo}/manifests/{layer}", 404, codes=["MANIFEST_UNKNOWN"]),
    Row("GET {repo}/manifests/.x", 404, codes=["MANIFEST_UNKNOWN"]),
    Row("GET {repo}/manifests/sha256:x", 400, codes=["DIGEST_INVALID"]),
    Row("GET /v2/none/manifests/one", 404, codes=["MANIFEST_UNKNOWN"]),
    Row("GET /v2/none/manifests/{image}", 404, codes=["MANIFEST_UNKNOWN"]),
    Row("PATCH {repo}/manifests/one", 405, codes=["UNSUPPORTED"]),
]


@pytest.mark.parametrize("row", MANIFEST_ROWS, ids=lambda row: f"{row.request} {str(row.sent)[:80]}")
def test_v2_manifests(world: World, row: Row) -> None:
    """By tag, what the client can read; by digest, always that document; HEAD answers as GET does."""
    response = exchange(world, row)
    if response.status_code == 200:
        digest = response.headers["Docker-Content-Digest"]
        assert str(Digest.of(response.data)) == digest
        assert response.headers["Content-Length"] == str(len(response.data))
        _, path = world.fill(row.request).split(" ")
        head = world.client.head(path, headers={key: world.fill(value) for key, value in row.sent.items()})
        assert (head.status_code, head.data, dict(head.headers)) == (200, b"", dict(response.headers))


def test_v2_accept_in_several_lines(world: World) -> None:
    """Go writes one line for each type."""
    path = world.fill("{repo}/manifests/index")
    for accept, expected in (([SCHEMA2, OCI], world.image.manifest), ([SCHEMA2, INDEX], world.index)):
        response = world.client.get(path, headers=[("Accept", media_type) for media_type in accept])
        assert response.data == expected


def test_v2_an_index_without_linux_amd64(fresh_world: World) -> None:
    """A client that names only images hears which there are; others get the index."""
    payload = builders.index(fresh_world.image, architectures=("s390x",))
    path = fresh_world.fill("{repo}/manifests/other")
    assert fresh_world.client.put(path, data=payload, content_type=INDEX).status_code == 201
    response = fresh_world.client.get(path, headers={"Accept": SCHEMA2})
    assert response.status_code == 406
    (error,) = response.json["errors"]  # type: ignore[index]
    assert error["code"] == "UNSUPPORTED"
    assert error["message"].endswith(": there is no image for linux/amd64, only for linux/s390x")
    response = fresh_world.client.get(path, headers={"Accept": f"{SCHEMA2}, {INDEX}"})
    assert (response.data, response.content_type) == (payload, INDEX)
    tags = fresh_world.client.get(fresh_world.fill("{v1}/tags")).json
    assert "other" not in tags
    unseen = fresh_world.client.get(fresh_world.fill("{v1}/tags/other"))
    assert (unseen.status_code, unseen.json) == (406, {"error": error["message"]})


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize(
    "content_type", [SCHEMA2, f"{SCHEMA2}; charset=utf-8", SCHEMA2.upper(), "application/json", "", OCTETS]
)
def test_v2_put_of_a_manifest(fresh_world: World, algorithm: str, content_type: str) -> None:
    """By tag and digest; kept to the byte, under the type it has; parameters are not part of the type."""
    client, payload = fresh_world.client, fresh_world.image.manifest + b"\n"
    by_tag, digest = str(Digest.of(payload)), str(Digest.of(payload, algorithm))
    for reference, stored in (("new", by_tag), (digest, digest)):
        path = f"/v2/{REPOSITORY}/manifests/{reference}"
        response = client.put(path, data=payload, content_type=content_type)
        assert (response.status_code, response.data) == (201, b"")
        assert response.headers["Location"] == f"/v2/{REPOSITORY}/manifests/{stored}"
        assert response.headers["Docker-Content-Digest"] == stored
        got = client.get(response.headers["Location"])
        assert (got.data, got.content_type) == (payload, SCHEMA2)


@pytest.mark.parametrize(
    ("media_type", "document"),
    [
        ("application/vnd.oci.artifact.manifest.v1+json", {"blobs": []}),
        ("application/x-unheard-of", {"anything": 1}),
        (OCI, {"schemaVersion": 2, "layers": [], "subject": {"mediaType": OCI, "size": 1}}),
        (INDEX, {"schemaVersion": 2, "manifests": []}),
    ],
    ids=["retired artifact", "unknown", "subject that is not here", "empty index"],
)
def test_v2_put_of_what_we_need_not_understand(
    fresh_world: World, media_type: str, document: dict[str, Any]
) -> None:
    """Any JSON object is a manifest; its subject may be pushed later, or never."""
    if "subject" in document:
        config = builders.descriptor(media_types.OCI_CONFIG, fresh_world.image.config)
        document = document | {"config": config}
        document["subject"] = document["subject"] | {"digest": f"sha256:{ZEROS}"}
    payload = json.dumps(document).encode()
    path = fresh_world.fill("{repo}/manifests/x")
    assert fresh_world.client.put(path, data=payload, content_type=media_type).status_code == 201
    got = fresh_world.client.get(path)
    assert (got.data, got.content_type) == (payload, media_type)


def test_v2_foreign_layers_stay_with_their_vendor(fresh_world: World) -> None:
    """A layer that may not be distributed may be absent; V1 clients, who need it, see no tag."""
    document = json.loads(fresh_world.image.manifest)
    foreign = {"mediaType": media_types.DOCKER_LAYER_FOREIGN, "size": 5, "digest": f"sha256:{ZEROS}"}
    document["layers"][0] = foreign | {"urls": ["https://vendor.example/layer"]}
    path = fresh_world.fill("{repo}/manifests/foreign")
    payload = json.dumps(document).encode()
    assert fresh_world.client.put(path, data=payload, content_type=SCHEMA2).status_code == 201
    assert fresh_world.client.get(path).data == payload
    assert "foreign" not in fresh_world.client.get(fresh_world.fill("{v1}/tags")).json


def test_v2_missing_content_is_listed(fresh_world: World) -> None:
    """There is one error for each missing digest, so that a client can send them all."""
    document = json.loads(fresh_world.image.manifest)
    digests = [f"sha256:{digit * 64}" for digit in "12"]
    document["layers"] += [document["layers"][0] | {"digest": digest} for digest in digests]
    path = fresh_world.fill("{repo}/manifests/one")
    response = fresh_world.client.put(path, data=json.dumps(document), content_type=SCHEMA2)
    assert v2_codes(response) == ["MANIFEST_BLOB_UNKNOWN"] * 2
    assert [entry["detail"] for entry in json.loads(response.data)["errors"]] == [
        {"digest": digest} for digest in digests
    ]


def test_v2_delete_of_a_tag(fresh_world: World) -> None:
    """Only the name is deleted: the other tag, the manifest and its blobs stay."""
    world, client = fresh_world, fresh_world.client
    deleted = client.delete(world.fill(ONE))
    assert (deleted.status_code, deleted.data) == (202, b"")
    assert v2_codes(client.get(world.fill(ONE))) == ["MANIFEST_UNKNOWN"]
    assert v2_codes(client.delete(world.fill(ONE))) == ["MANIFEST_UNKNOWN"]
    for reference in ("two", "{image}"):
        assert client.get(world.fill("{repo}/manifests/" + reference)).data == world.image.manifest
    assert client.get(world.fill("{repo}/tags/list")).json["tags"] == ["index", "two", "v1"]


def test_v2_delete_of_a_manifest(fresh_world: World) -> None:
    """All its tags go with it; a child of an index only after the index."""
    world, client = fresh_world, fresh_world.client
    child, index = (world.fill("{repo}/manifests/" + name) for name in ("{image}", "{index}"))
    refused = client.delete(child)
    assert (refused.status_code, v2_codes(refused)) == (405, ["DENIED"])
    assert json.loads(refused.data)["errors"][0]["detail"] == world.fill("{index} index")
    for path in (index, child):
        assert client.delete(path).status_code == 202
        assert v2_codes(client.get(path)) == ["MANIFEST_UNKNOWN"]
        assert v2_codes(client.delete(path)) == ["MANIFEST_UNKNOWN"]
    assert client.get(world.fill("{repo}/tags/list")).json["tags"] == ["v1"]
    assert client.delete(world.fill("{repo}/blobs/{config}")).status_code == 202


# --- V2: lists

TAGS = ["index", "one", "two", "v1"]


def link(query: str, path: str = "{repo}/tags/list") -> dict[str, str]:
    """Return the header that leads to the next page."""
    return {"Link": f'<{path}?{query}>; rel="next"'}


TAG_ROWS = {
    "": (TAGS, {}),
    "?n=2": (TAGS[:2], link("last=one&n=2")),
    "?n=2&last=one": (TAGS[2:], {}),
    "?n=1&last=one": (["two"], link("last=two&n=1")),
    "?n=4": (TAGS, {}),
    "?n=3": (TAGS[:3], link("last=two&n=3")),
    "?n=0": ([], {}),
    "?n=0&last=one": ([], {}),
    "?n=0002": (TAGS[:2], link("last=one&n=2")),
    f"?n={NUMBER}": (TAGS, {}),
    "?last=one": (TAGS[2:], {}),
    "?last=p": (TAGS[2:], {}),
    "?last=zzz": ([], {}),
    "?last=": (TAGS, {}),
    "?last=%00%ff%27": (TAGS, {}),
    "?n=1&last=One": (["index"], link("last=index&n=1")),
    "?other=1": (TAGS, {}),
}


@pytest.mark.parametrize("query", TAG_ROWS)
def test_v2_tags(world: World, query: str) -> None:
    """In byte order, a page at a time, with a Link exactly while more remains."""
    tags, headers = TAG_ROWS[query]
    absent = () if headers else ("Link",)
    response = exchange(world, Row("GET {repo}/tags/list" + query, 200, {}, headers, absent=absent))
    assert json.loads(response.data) == {"name": REPOSITORY, "tags": tags}
    assert response.content_type == "application/json"


@pytest.mark.parametrize("path", ["{repo}/tags/list", "/v2/_catalog"])
@pytest.mark.parametrize("n", ["-1", "abc", "", "1.0", ARABIC, "%2b1", "1e3"])
def test_v2_page_sizes_that_are_none(world: World, path: str, n: str) -> None:
    """400, with the code that Docker's registry gives."""
    exchange(world, Row(f"GET {path}?n={n}", 400, codes=["PAGINATION_NUMBER_INVALID"]))


def test_v2_tags_of_no_repository(world: World) -> None:
    """Unknown is unknown; known without tags is an empty list, never null."""
    exchange(world, Row("GET /v2/none/tags/list", 404, codes=["NAME_UNKNOWN"]))
    push_blob(world.client, "untagged", b"x")
    response = world.client.get("/v2/untagged/tags/list")
    assert json.loads(response.data) == {"name": "untagged", "tags": []}


def walk(client: FlaskClient, path: str, key: str) -> list[list[str]]:
    """Follow Link from *path* on; return the pages."""
    pages = []
    while path:
        response = client.get(path)
        pages.append(response.json[key])
        match = re.fullmatch(r'<(.+)>; rel="next"', response.headers.get("Link", ""))
        path = match[1] if match else ""
    return pages


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 100])
def test_v2_lists_are_walked_without_loss(client: FlaskClient, n: int) -> None:
    """Names of every kind, in byte order: capitals before underscores before small letters."""
    names = ["a", "a-b", "a.b", "a/b", "a0", "a__b"]
    tags = ["0", "1.0", "A", "Z", "_", "a", "a-b", "a.b", "a_b", "b"]
    image = builders.image(builders.layer({"a": b"1"}))
    for name in names:
        push_image(client, name, image, "x")
    push_image(client, "a", image, *reversed(tags))
    for path, key, expected in (
        ("/v2/_catalog", "repositories", sorted(names)),
        ("/v2/a/tags/list", "tags", sorted([*tags, "x"])),
    ):
        pages = walk(client, f"{path}?n={n}", key)
        assert [name for page in pages for name in page] == expected
        assert [len(page) for page in pages[:-1]] == [n] * (len(pages) - 1)
        assert 0 < len(pages[-1]) <= n


@pytest.mark.slow
def test_v2_catalog(fresh_world: World) -> None:
    """A page has a hundred names by default; repositories without images are not listed."""
    client = fresh_world.client
    exchange(fresh_world, Row("GET /v2/_catalog", 200, body=b'{"repositories": ["team/app"]}'))
    start(client, repository="begun")
    for number in range(105):
        push_image(client, f"many/{number:03}", fresh_world.image, "x")
    assert [len(page) for page in walk(client, "/v2/_catalog", "repositories")] == [100, 6]
    assert len(client.get("/v2/_catalog?n=1000").json["repositories"]) == 106
    everything = Row(f"GET /v2/_catalog?n={NUMBER}", 200, absent=["Link"])
    assert len(exchange(fresh_world, everything).json["repositories"]) == 106
    exchange(fresh_world, Row("GET /v2/_catalog?n=0", 200, body=b'{"repositories": []}', absent=["Link"]))
    next_page = link("last=many%2F000&n=1", "/v2/_catalog")
    exchange(fresh_world, Row("GET /v2/_catalog?n=1", 200, headers=next_page))


@pytest.mark.parametrize(
    "name",
    [
        "foo/blobs/bar",
        "foo/tags/list",
        "tags/list",
        "foo/manifests",
        "foo/blobs/uploads",
        "blobs/uploads",
        "v2/x",
        "v1/images",
        "images",
        "a/tags/b",
        "repositories/x/images",
        "uploads",
        "auth",
        "a" * 255,
        "a/b/c/d/e",
        "0",
        "a__b.c-----d",
    ],
)
def test_names_that_look_like_our_own(client: FlaskClient, name: str) -> None:
    """URLs are parsed from the right, so any name of the grammar works, in both dialects."""
    image = builders.image(builders.layer({"a": b"1"}))
    push_image(client, name, image, "one")
    location = start(client, repository=name).headers["Location"]
    check_upload(client.patch(location, data=b"x"), 202, 1, name)
    push_v1(client, name, builders.v1_chain(builders.layer({"b": b"1"})), "two")
    assert client.get(f"/v2/{name}/manifests/one").data == image.manifest
    assert client.get(f"/v2/{name}/tags/list").json == {"name": name, "tags": ["one", "two"]}
    assert sorted(client.get(f"/v1/repositories/{name}/tags").json) == ["one", "two"]
    assert client.get(f"/v1/repositories/{name}/images").status_code == 200
    assert client.get("/v2/_catalog").json == {"repositories": [name]}
    assert client.delete(f"/v1/repositories/{name}/tags/two").status_code == 200
    assert client.delete(f"/v2/{name}/manifests/one").status_code == 202
    assert client.get(f"/v2/{name}/tags/list").json["tags"] == []


# --- V1

UNCACHED = {"Cache-Control": "no-cache", "Pragma": "no-cache", "Expires": "-1"}
PLAIN = UNCACHED | {"Content-Type": "application/json"}
KEPT = {
    "Cache-Control": "private, max-age=31536000",
    "Last-Modified": "Thu, 01 Jan 1970 00:00:00 GMT",
    "Content-Type": "application/json",
}
V1_ROWS = [
    Row(
        "GET /v1/_ping",
        200,
        headers=PLAIN | {"X-Docker-Registry-Version": "0.9.1", "X-Docker-Registry-Standalone": "False"},
        body=b"true",
        absent=["Docker-Distribution-Api-Version"],
    ),
    Row("GET /v1/users/", 200, {"Authorization": "Basic bWU6cHc="}, PLAIN, b'"OK"'),
    Row("GET /v1/users", 200, headers=PLAIN, body=b'"OK"', absent=["Location"]),
    Row("POST /v1/users/", 400, body=b'"Username or email already exists"'),
    Row("POST /v1/users", 400, body=b'"Username or email already exists"'),
    Row("PUT /v1/users/me/", 204, body=b""),
    Row("GET {v1}/tags/one", 200, headers=PLAIN),
    Row("GET {v1}/tags/v1", 200, headers=PLAIN, body=None),
    Row("DELETE {v1}/images", 204),
    Row("PUT {v1}/auth", 200, headers=PLAIN, body=b'"OK"'),
    Row("GET /v1/images/{top}/ancestry", 200, TOKEN, KEPT),
    Row("DELETE /v1/_ping", 405),
]


@pytest.mark.parametrize("row", V1_ROWS, ids=lambda row: row.request)
def test_v1_rows(world: World, row: Row) -> None:
    """What needs no story."""
    response = exchange(world, row)
    if row.status == 405:
        allowed = response.headers["Allow"].split(", ")
        assert sorted(allowed) == ["GET", "HEAD", "OPTIONS"]
        v1_text(response)


def check_session(response: TestResponse, access: str, repository: str = REPOSITORY) -> None:
    """Check the headers that begin a session."""
    token = response.headers["X-Docker-Token"]
    assert re.fullmatch(rf'signature=[A-Za-z0-9_.-]+,repository="{repository}",access={access}', token)
    assert response.headers["WWW-Authenticate"] == f"Token {token}"
    assert response.headers["X-Docker-Endpoints"] == "localhost"
    assert response.headers.getlist("X-Docker-Endpoints") == ["localhost"]


@pytest.mark.parametrize("slash", ["", "/"])
def test_v1_sessions(fresh_world: World, slash: str) -> None:
    """A push and a pull each begin with a token and one endpoint: the host that the client speaks to."""
    world, client = fresh_world, fresh_world.client
    begun = client.put(world.fill("{v1}") + slash, json=[{"id": world.chain[0].id, "Tag": "x"}])
    assert (begun.status_code, begun.data) == (200, b'""')
    check_session(begun, "write")
    ended = client.put(world.fill("{v1}/images"), json=[])
    assert (ended.status_code, ended.data) == (204, b"")
    check_session(ended, "write")
    listed = client.get(world.fill("{v1}/images"))
    check_session(listed, "read")
    ids = {entry["id"] for entry in listed.json}
    assert {image.id for image in world.chain} < ids
    assert not {world.begun.id, world.unsummed.id} & ids


def test_v1_a_push_makes_the_repository_known(client: FlaskClient) -> None:
    """It is listed only when it has an image."""
    assert client.put("/v1/repositories/new/", json=[]).status_code == 200
    assert client.get("/v1/repositories/new/images").json == []
    assert v1_text(client.get("/v1/repositories/new/tags")) == "Repository not found"
    assert client.get("/v2/_catalog").json == {"repositories": []}


def test_v1_image(world: World) -> None:
    """The JSON to the byte with its size and checksum, the layer with its length, the ancestry top first."""
    base, top = world.chain
    for image in world.chain:
        json_ = world.client.get(f"/v1/images/{image.id}/json", headers=TOKEN)
        assert (json_.data, json_.content_type) == (image.json, "application/json")
        assert json_.headers["X-Docker-Size"] == str(len(image.layer))
        assert json_.headers["X-Docker-Checksum-Payload"] == payload_checksum(image)
        layer = world.client.get(f"/v1/images/{image.id}/layer", headers=TOKEN)
        assert (layer.data, layer.content_type) == (image.layer, OCTETS)
        assert layer.headers["Accept-Ranges"] == "bytes"
        head = world.client.head(f"/v1/images/{image.id}/layer", headers=TOKEN)
        assert (head.data, dict(head.headers)) == (b"", dict(layer.headers))
    assert world.client.get(f"/v1/images/{top.id}/ancestry", headers=TOKEN).json == [top.id, base.id]
    assert world.client.get(f"/v1/images/{base.id}/ancestry", headers=TOKEN).json == [base.id]


def test_v1_ranges(world: World) -> None:
    """One byte past the end is clamped; a range beyond is 416 without a body."""
    layer = world.chain[0].layer
    size, path = len(layer), f"/v1/images/{world.chain[0].id}/layer"
    rest = world.client.get(path, headers=TOKEN | {"Range": f"bytes=7-{size}"})
    assert (rest.status_code, rest.data) == (206, layer[7:])
    assert rest.headers["Content-Range"] == f"bytes 7-{size - 1}/{size}"
    end = world.client.get(path, headers=TOKEN | {"Range": f"bytes={size}-{size}"})
    assert (end.status_code, end.data, end.headers["Content-Length"]) == (416, b"", "0")


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "Basic Og==",
        "Basic bWU6cHc=",
        f'Token signature=1,repository="{REPOSITORY}",access=read',
        f'Token Token signature=1,repository="{REPOSITORY}",access=read',
    ],
)
def test_v1_reads_need_no_token(world: World, authorization: str | None) -> None:
    """Clients that send Basic or nothing find an image wherever it is."""
    headers = {"Authorization": authorization} if authorization else {}
    image = world.chain[-1]
    assert world.client.get(f"/v1/images/{image.id}/json", headers=headers).data == image.json
    assert world.client.get(f"/v1/images/{image.id}/layer", headers=headers).data == image.layer
    assert len(world.client.get(f"/v1/images/{image.id}/ancestry", headers=headers).json) == 2
    busy = world.client.get(f"/v1/images/{world.begun.id}/json", headers=headers)
    assert busy.status_code == (400 if "repository=" in (authorization or "") else 404)


def test_v1_a_token_shows_one_repository(world: World) -> None:
    """The same id may be another image in another repository."""
    image, token = world.chain[0], {"Authorization": 'Token repository="other"'}
    path = f"/v1/images/{image.id}/json"
    other = lone("chain", builders.layer({"other": b"1"}))
    squatter = builders.V1Pushed(image.id, json.dumps({"id": image.id}).encode(), other.layer)
    put_v1(world.client, squatter, token)
    assert world.client.get(path, headers=token).data == squatter.json
    assert world.client.get(path, headers=TOKEN).data == image.json


def test_v1_tags(fresh_world: World) -> None:
    """Listed, read, moved, deleted one by one and all together; V2 sees the same."""
    world, client = fresh_world, fresh_world.client
    top, v2_id = world.chain[-1].id, world.fill("{config}").removeprefix("sha256:")
    tags = world.fill("{v1}/tags")
    assert client.get(tags).json == {"index": v2_id, "one": v2_id, "two": v2_id, "v1": top}
    assert client.get(f"{tags}/one").json == v2_id
    moved = client.put(f"{tags}/one", data=json.dumps(top), headers=TOKEN)
    assert (moved.status_code, moved.data) == (200, b"true")
    assert client.get(f"{tags}/one").json == top
    repo = world.fill("{repo}/manifests/")
    assert client.get(f"{repo}one").data == client.get(f"{repo}v1").data
    assert client.delete(f"{tags}/one").data == b"true"
    assert v1_text(client.get(f"{tags}/one")) == "Tag not found"
    assert v2_codes(client.get(f"{repo}one")) == ["MANIFEST_UNKNOWN"]
    cleared = client.delete(tags)
    assert (cleared.status_code, cleared.data) == (200, b"true")
    assert v1_text(client.get(tags)) == "Repository not found"
    assert client.get(world.fill("/v1/images/{top}/json"), headers=TOKEN).status_code == 200
    assert client.get(f"{repo}{world.image.digest}").status_code == 200


@pytest.mark.parametrize("slash", ["", "/"])
def test_v1_delete_of_a_repository(fresh_world: World, slash: str) -> None:
    """Its tags go, its images stay."""
    path = fresh_world.fill("{v1}") + slash
    assert fresh_world.client.delete(path).data == b"true"
    assert v1_text(fresh_world.client.delete(path)) == "Repository not found"
    assert fresh_world.client.get(fresh_world.fill("{repo}/tags/list")).json["tags"] == []


@pytest.mark.parametrize(
    ("agent", "sums"),
    [
        ("docker/1.5.0 go/go1.4.3", {"X-Docker-Checksum-Payload": "{right}"}),
        (
            "docker/1.5.0 go/go1.4.3",
            {"X-Docker-Checksum-Payload": "{right}", "X-Docker-Checksum": "tarsum:x"},
        ),
        (
            "docker/0.9.1 go/go1.2.1",
            {"X-Docker-Checksum-Payload": "{wrong}", "X-Docker-Checksum": "tarsum:x"},
        ),
        ("docker/0.6.0 go/go1.1", {"X-Docker-Checksum": "tarsum+sha256:0"}),
    ],
    ids=["payload", "both", "0.9", "tarsum"],
)
def test_v1_checksums_of_every_age(client: FlaskClient, agent: str, sums: dict[str, str]) -> None:
    """The payload's must be right, but for Docker 0.9, which hashes something else; TarSums tell nothing."""
    image = lone("x", builders.layer({"a": b"1"}))
    put_v1(client, image, TOKEN, steps=2)
    values = {"right": payload_checksum(image), "wrong": f"sha256:{ZEROS}"}
    sent = {name: value.format(**values) for name, value in sums.items()}
    path = f"/v1/images/{image.id}/checksum"
    for _ in range(2):
        response = client.put(path, headers=TOKEN | sent | {"User-Agent": agent})
        assert (response.status_code, response.data) == (200, b"true")
    assert client.get(f"/v1/images/{image.id}/json", headers=TOKEN).status_code == 200


def test_v1_an_image_starts_over_until_it_is_complete(client: FlaskClient, clock: Clock) -> None:
    """The same JSON keeps the layer; another one forgets it; a complete image never changes.

    While a client pushes the image, another JSON of it is refused at once.
    """
    image = lone("x", builders.layer({"a": b"1"}))
    path, sums = f"/v1/images/{image.id}", {"X-Docker-Checksum-Payload": payload_checksum(image)}
    put_v1(client, image, TOKEN, steps=2)
    assert client.put(f"{path}/json", data=image.json, headers=TOKEN).status_code == 200
    another = image.json.replace(b"linux", b"plan9")
    clock.advance(HOLD - timedelta(seconds=3))
    busy = client.put(f"{path}/json", data=another, headers=TOKEN)
    text = f"another request is writing this upload: image {image.id}: retry in 3 seconds"
    assert (busy.status_code, v1_text(busy), busy.headers["Retry-After"]) == (409, text, "3")
    assert client.put(f"{path}/layer", data=image.layer, headers=TOKEN).status_code == 200
    clock.advance(HOLD - timedelta(seconds=1))
    assert client.put(f"{path}/json", data=another, headers=TOKEN).status_code == 409
    clock.advance(timedelta(seconds=1))
    assert client.put(f"{path}/json", data=another, headers=TOKEN).status_code == 200
    early = client.put(f"{path}/checksum", headers=TOKEN | sums)
    assert (early.status_code, v1_text(early)) == (400, "Image is being uploaded, retry later")
    clock.advance(HOLD)
    put_v1(client, image, TOKEN)
    exists = client.put(f"{path}/json", data=another, headers=TOKEN)
    assert (exists.status_code, exists.json) == (409, {"error": "Image already exists"})
    assert client.get(f"{path}/json", headers=TOKEN).data == image.json


@pytest.mark.parametrize("layers", [1, 2])
def test_v1_images_that_differ_in_their_ids_only(client: FlaskClient, layers: int) -> None:
    """Every tag keeps the id that was pushed, over V1 and as schema 1; to V2 they are one image."""
    chains = [
        builders.v1_chain(*(builders.layer({"a": bytes([number])}) for number in range(layers)), seed=seed)
        for seed in ("first", "second", "third")
    ]
    for tag, chain in zip("123", chains, strict=True):
        push_v1(client, REPOSITORY, chain, tag)
    tops = {tag: chain[-1].id for tag, chain in zip("123", chains, strict=True)}
    again = client.put(f"/v1/repositories/{REPOSITORY}/tags/1", json=tops["1"], headers=TOKEN)
    assert again.status_code == 200
    assert client.get(f"/v1/repositories/{REPOSITORY}/tags").json == tops
    found = [client.get(f"/v2/{REPOSITORY}/manifests/{tag}") for tag in tops]
    assert len({answer.headers["Docker-Content-Digest"] for answer in found}) == len(tops)
    assert len({answer.json["config"]["digest"] for answer in found}) == 1
    for tag, top in tops.items():
        old = client.get(f"/v2/{REPOSITORY}/manifests/{tag}", headers={"User-Agent": "docker/1.9.1"})
        assert json.loads(json.loads(old.data)["history"][0]["v1Compatibility"])["id"] == top


@pytest.mark.parametrize("start", ["PUT {v1}/", "GET {v1}/images"])
@pytest.mark.parametrize("path", ["{v1}/tags/v1", "{v1}/tags", "{v1}/"])
def test_v1_a_session_may_do_what_everybody_may(fresh_world: World, start: str, path: str) -> None:
    """Without authentication, the token of a push or a pull does not forbid to delete either."""
    method, _, url = fresh_world.fill(start).partition(" ")
    begun = fresh_world.client.open(url, method=method, json=[] if method == "PUT" else None)
    headers = {"Authorization": f"Token {begun.headers['X-Docker-Token']}"}
    deleted = fresh_world.client.delete(fresh_world.fill(path), headers=headers)
    assert (deleted.status_code, deleted.data) == (200, b"true")


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("header", ["X-Docker-Checksum-Payload", "X-Docker-Checksum"])
@pytest.mark.parametrize("order", ["AaBb", "ABab", "ABba", "BAab", "AABabb", "ABaAab"])
def test_v1_two_clients_of_one_image(client: FlaskClient, order: str, header: str, *, same: bool) -> None:
    """A checksum (a, b) is compared with what that client sent (A, B); the first that completes wins.

    The other succeeds, too, if it sent the same files, however compressed; otherwise its push fails.
    """
    first = lone("x", gzip.compress(builders.tar({"a": b"1"}), 1, mtime=0))
    second = replace(first, layer=builders.layer({"a": b"1" if same else b"2"}))
    assert first.layer != second.layer
    put_v1(client, first, TOKEN, steps=1)
    path, completed, failed = f"/v1/images/{first.id}", "", set()
    for step in order:
        image = first if step in "Aa" else second
        if step.isupper():
            answer = client.put(f"{path}/layer", data=image.layer, headers=TOKEN)
        else:
            make = (
                payload_checksum if header.endswith("Payload") else lambda each: tarsum(each.json, each.layer)
            )
            answer = client.put(f"{path}/checksum", headers=TOKEN | {header: make(image)})
            completed = completed or step
        if answer.status_code != 200:
            failed.add(step.lower())
    assert failed == (set() if same else {"a", "b"} - {completed})
    held = client.get(f"{path}/layer", headers=TOKEN).data
    if header.endswith("Payload"):
        assert held == (first if completed == "a" else second).layer
    winner = first if completed == "a" else second
    assert gzip.decompress(held) == gzip.decompress(winner.layer)


@pytest.mark.slow
def test_v1_documents_are_kept_to_the_byte(client: FlaskClient) -> None:
    """Order, blanks, escapes, unknown members, and the newline of old daemons are kept."""
    image = lone("x", gzip.compress(bytes(1024), mtime=0))
    odd = b' {"zz":1e0,  "id":"%b", "\\u0061":"\\u003c\\ud83d\\ude00", "parent":""}\n' % image.id.encode()
    put_v1(client, builders.V1Pushed(image.id, odd, image.layer), TOKEN)
    assert client.get(f"/v1/images/{image.id}/json", headers=TOKEN).data == odd


def test_v1_ids_of_the_first_images(client: FlaskClient) -> None:
    """The first images have ids of 16 digits, and every release can pull them."""
    image = builders.V1Pushed("27cf784147099545", b'{"id":"27cf784147099545"}', builders.layer({}))  # type: ignore[arg-type]
    push_v1(client, "base", [image], "latest")
    assert client.get("/v1/repositories/base/tags").json == {"latest": "27cf784147099545"}
    assert client.get("/v2/base/manifests/latest").status_code == 200


@pytest.mark.parametrize(
    ("query", "total", "pages", "page", "size", "names"),
    [
        ("", 4, 1, 1, 25, ["a_b", "axb", "team/app", "zeta"]),
        ("?q=", 4, 1, 1, 25, ["a_b", "axb", "team/app", "zeta"]),
        ("?q=app", 1, 1, 1, 25, ["team/app"]),
        ("?q=am/ap", 1, 1, 1, 25, ["team/app"]),
        ("?q=_", 1, 1, 1, 25, ["a_b"]),
        ("?q=%25", 0, 0, 1, 25, []),
        ("?q=none", 0, 0, 1, 25, []),
        ("?q=a&n=2", 4, 2, 1, 2, ["a_b", "axb"]),
        ("?q=a&n=2&page=2", 4, 2, 2, 2, ["team/app", "zeta"]),
        ("?q=a&n=2&page=3", 4, 2, 3, 2, []),
        ("?q=a&n=0", 4, 4, 1, 1, ["a_b"]),
        ("?q=a&n=500&page=0", 4, 1, 1, 100, ["a_b", "axb", "team/app", "zeta"]),
        ("?q=a&page=x", 4, 1, 1, 25, ["a_b", "axb", "team/app", "zeta"]),
        (f"?q=a&n={NUMBER}&page={NUMBER}", 4, 1, 999_999_999, 100, []),
    ],
)
def test_v1_search(
    fresh_world: World, query: str, *, total: int, pages: int, page: int, size: int, names: list[str]
) -> None:
    """What ``docker search`` shows today; patterns are not patterns."""
    for name in ("a_b", "axb", "zeta"):
        push_image(fresh_world.client, name, fresh_world.image, "x")
    answer = fresh_world.client.get(f"/v1/search{query}").json
    results = answer.pop("results")
    term = answer.pop("query")
    assert answer == {"num_results": total, "num_pages": pages, "page": page, "page_size": size}
    assert f"q={term.replace('%', '%25')}" in query or not term
    assert [result["name"] for result in results] == names
    flags = {"is_official": False, "is_trusted": False, "is_automated": False, "star_count": 0}
    assert all(result == {"name": result["name"], "description": "", **flags} for result in results)
