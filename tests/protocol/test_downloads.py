"""Ranges of blobs, digests of every algorithm, and content that may be missing."""

import base64
import json
from collections.abc import Sequence
from email import message_from_bytes
from typing import Any

import pytest
from flask.testing import FlaskClient
from gunicorn.http.wsgi import FileWrapper
from hypothesis import given
from hypothesis import strategies as st

from dualreg.assembly import build_registry
from dualreg.catalog.database import Catalog
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.settings import Settings
from dualreg.storage.memory import MemoryStore
from dualreg.web.ranges import SPAN_LIMIT, Span, requested_spans
from tests.apps import client_of
from tests.builders import Image, descriptor, image, index, layer
from tests.protocol.clients.wire import Wire
from tests.protocol.conftest import Served
from tests.protocol.exchange import v2_codes

#: Every byte there is, line ends and dashes among them, four times.
BLOB = bytes(range(256)) * 4
SIZE = len(BLOB)
PATH = f"/v2/t/x/blobs/{Digest.of(BLOB)}"
APP, OTHER = (image(layer({"a": text}), oci=True) for text in (b"1", b"2"))


@pytest.fixture
def stored(client: FlaskClient) -> FlaskClient:
    """A repository that holds BLOB."""
    assert client.post(f"/v2/t/x/blobs/uploads/?digest={Digest.of(BLOB)}", data=BLOB).status_code == 201
    return client


def push_blobs(client: FlaskClient, pushed: Image, repository: str = "t/x") -> None:
    """Push all that the image's manifest names."""
    for digest, data in pushed.blobs.items():
        assert client.post(f"/v2/{repository}/blobs/uploads/?digest={digest}", data=data).status_code == 201


# --- ranges


@pytest.mark.parametrize(
    ("asked", "part"), [("bytes=10-19", BLOB[10:20]), (None, BLOB)], ids=["range", "whole"]
)
def test_no_more_is_read_than_was_asked_for(stored: FlaskClient, asked: str | None, part: bytes) -> None:
    """A server that cannot use sendfile, as over TLS, reads what it is given until there are no bytes."""
    headers = {} if asked is None else {"Range": asked}
    given = {"wsgi.file_wrapper": FileWrapper}
    answer = stored.get(PATH, headers=headers, environ_overrides=given, buffered=False)
    assert b"".join(answer.iter_encoded()) == part
    answer.close()


@pytest.mark.parametrize(
    ("asked", "first", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=1000-", 1000, SIZE),
        ("bytes=0-", 0, SIZE),
        ("bytes=-1", SIZE - 1, SIZE),
        ("bytes=-24", SIZE - 24, SIZE),
        (f"bytes=-{SIZE * 2}", 0, SIZE),
        (f"bytes=1000-{SIZE}", 1000, SIZE),
        (f"bytes=0-{'9' * 19}", 0, SIZE),
        ("bytes= 10-19 ", 10, 20),
        ("BYTES=10-19", 10, 20),
        ("bytes=10-19,15-29", 10, 30),
        ("bytes=10-19,20-29", 10, 30),
        ("bytes=20-29,10-19", 10, 30),
        ("bytes=0-9,20-29,5-24", 0, 30),
        (f"bytes=0-9,{SIZE}-", 0, 10),
        ("bytes=0-9,500-0", 0, 10),
        ("bytes=" + ",".join(["3-5"] * 100), 3, 6),
    ],
)
def test_one_span(stored: FlaskClient, asked: str, first: int, end: int) -> None:
    """Ranges that are one piece are sent as one, with its place in Content-Range."""
    answer = stored.get(PATH, headers={"Range": asked})
    assert (answer.status_code, answer.data) == (206, BLOB[first:end])
    assert answer.headers["Content-Range"] == f"bytes {first}-{end - 1}/{SIZE}"
    assert answer.headers["Content-Length"] == str(end - first)
    assert answer.headers["Content-Type"] == media_types.OCTET_STREAM


@pytest.mark.parametrize(
    ("asked", "spans"),
    [
        ("bytes=0-0,-1", [(0, 1), (SIZE - 1, SIZE)]),
        ("bytes=9-14,100-299,1000-", [(9, 15), (100, 300), (1000, SIZE)]),
        ("bytes=500-599,0-9", [(500, 600), (0, 10)]),
        ("bytes=0-9,100-199,5-19", [(100, 200), (0, 20)]),
        ("bytes=0-9, 20-29\t,40-49", [(0, 10), (20, 30), (40, 50)]),
        (
            "bytes=" + ",".join(f"{2 * n}-{2 * n}" for n in range(SIZE // 2)),
            [(2 * n, 2 * n + 1) for n in range(SIZE // 2)],
        ),
    ],
)
def test_several_spans(stored: FlaskClient, asked: str, spans: list[tuple[int, int]]) -> None:
    """Several pieces are sent as one multipart body that any mail reader can parse to the byte."""
    answer = stored.get(PATH, headers={"Range": asked})
    assert (answer.status_code, "Content-Range" in answer.headers) == (206, False)
    assert answer.headers["Content-Length"] == str(len(answer.data))
    head = f"Content-Type: {answer.headers['Content-Type']}\r\n\r\n".encode()
    message = message_from_bytes(head + answer.data)
    assert (message.get_content_type(), message.defects) == ("multipart/byteranges", [])
    parts = message.get_payload()
    assert isinstance(parts, list)
    assert [(part["Content-Range"], part.get_payload(decode=True)) for part in parts] == [
        (f"bytes {first}-{end - 1}/{SIZE}", BLOB[first:end]) for first, end in spans
    ]
    assert {part.get_content_type() for part in parts} == {media_types.OCTET_STREAM}


@pytest.mark.parametrize("more", [0, 1])
@pytest.mark.parametrize("text", ["0-0", "{0}-{0}", "-1", "9999-"])
def test_as_many_spans_as_podman_asks_for(stored: FlaskClient, text: str, more: int) -> None:
    """1,024 are answered; one more is a 400, by which the client learns to ask for fewer."""
    asked = "bytes=" + ",".join(text.format(number) for number in range(SPAN_LIMIT + more))
    answer = stored.get(PATH, headers={"Range": asked})
    assert answer.status_code == (400 if more else 416 if text == "9999-" else 206)
    assert not more or v2_codes(answer) == ["UNSUPPORTED"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Range": "items=0-9"},
        {"Range": "bytes"},
        {"Range": "bytes="},
        {"Range": "bytes=-"},
        {"Range": "bytes=a-b"},
        {"Range": "bytes=0-9,x"},
        {"Range": "bytes=\u0661-\u0662"},
        {"Range": f"bytes={'9' * 30}-"},
        {"Range": "bytes=0-9", "If-Range": '"sha256:another"'},
        {"Range": "bytes=0-9", "If-Range": f'W/"{Digest.of(BLOB)}"'},
        {"Range": "bytes=0-9", "If-Range": "Thu, 01 Jan 2026 00:00:00 GMT"},
        {"Range": f"bytes={SIZE}-", "If-Range": '"sha256:another"'},
    ],
    ids=lambda headers: str(headers)[:60],
)
def test_everything_after_all(stored: FlaskClient, headers: dict[str, str]) -> None:
    """A range that is not understood, or is of another version: the whole blob."""
    answer = stored.get(PATH, headers=headers)
    assert (answer.status_code, answer.data) == (200, BLOB)
    assert answer.headers["Content-Length"] == str(SIZE)
    assert "Content-Range" not in answer.headers


@pytest.mark.parametrize("asked", ["bytes=0-9", "bytes=-10"])
def test_if_range_of_this_version(stored: FlaskClient, asked: str) -> None:
    """The version is the digest, so a client that has a part can always go on."""
    answer = stored.get(PATH, headers={"Range": asked, "If-Range": stored.head(PATH).headers["ETag"]})
    assert (answer.status_code, len(answer.data)) == (206, 10)


@pytest.mark.parametrize(
    "asked", [f"bytes={SIZE}-", f"bytes={SIZE}-{SIZE + 5}", "bytes=500-0", "bytes=-0", "bytes=5-4,-0"]
)
def test_nothing_to_send(stored: FlaskClient, asked: str) -> None:
    """A range outside the blob is an empty 416 that states the size; HEAD ignores ranges."""
    answer = stored.get(PATH, headers={"Range": asked})
    assert (answer.status_code, answer.data) == (416, b"")
    assert answer.headers["Content-Range"] == f"bytes */{SIZE}"
    assert stored.head(PATH, headers={"Range": asked}).status_code == 200


@pytest.mark.parametrize(
    ("asked", "status"),
    [("", 200), ("bytes=0-", 416), ("bytes=0-0", 416), ("bytes=-1", 416), ("items=0-", 200)],
)
def test_an_empty_blob(client: FlaskClient, asked: str, status: int) -> None:
    """It has no byte that a range could name."""
    digest = Digest.of(b"")
    assert client.post(f"/v2/t/x/blobs/uploads/?digest={digest}").status_code == 201
    answer = client.get(f"/v2/t/x/blobs/{digest}", headers={"Range": asked})
    assert (answer.status_code, answer.data, answer.headers["Content-Length"]) == (status, b"", "0")


@st.composite
def asked_for(draw: st.DrawFn) -> tuple[str, int, set[int]]:
    """Make a Range header, a size, and the bytes that it asks for."""
    size = draw(st.integers(0, 60))
    texts, wanted = [], set()
    for _ in range(draw(st.integers(1, 24))):
        first = draw(st.none() | st.integers(0, 70))
        last = draw(st.integers(0, 70) if first is None else st.none() | st.integers(0, 70))
        texts.append(f"{'' if first is None else first}-{'' if last is None else last}")
        if first is None:
            wanted |= {*range(max(0, size - (last or 0)), size)}
        else:
            wanted |= {*range(first, min(size, size if last is None else last + 1))}
    return (
        f"bytes={draw(st.sampled_from([',', ', ', ' ,']).map(lambda comma: comma.join(texts)))}",
        size,
        wanted,
    )


@pytest.mark.slow
@given(asked_for())
def test_spans_are_what_was_asked_for(asked: tuple[str, int, set[int]]) -> None:
    """They are inside the blob, do not touch, and together are every byte requested."""
    header, size, wanted = asked
    spans = requested_spans(header, size)
    pieces = sum(byte - 1 not in wanted for byte in wanted)
    assert spans is not None
    assert len(spans) == pieces
    assert all(0 <= span.start < span.end <= size for span in spans)
    assert sum(span.length for span in spans) == len(wanted)
    assert {byte for span in spans for byte in range(span.start, span.end)} == wanted


@pytest.mark.slow
@given(st.text(st.characters(codec="latin-1")) | st.from_regex(r"bytes=[0-9, -]*"), st.integers(0, 2**63))
def test_no_header_is_too_strange(header: str, size: int) -> None:
    """Any header is answered with the whole blob, or with parts of it."""
    spans = requested_spans(header, size)
    assert spans is None or all(Span(0, size).start <= span.start < span.end <= size for span in spans)


# --- digests


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("how", ["monolithic", "in the PUT", "streamed", "in chunks"])
def test_blobs_are_found_by_the_digest_they_were_pushed_under(
    client: FlaskClient, algorithm: str, how: str
) -> None:
    """However they were pushed; by that digest alone they are read, mounted and deleted."""
    digest, begin = Digest.of(BLOB, algorithm), f"/v2/t/x/blobs/uploads/?digest-algorithm={algorithm}"
    if how == "monolithic":
        answer = client.post(f"{begin}&digest={digest}", data=BLOB)
    else:
        location, last = client.post(begin).headers["Location"], b""
        if how == "in the PUT":
            last = BLOB
        elif how == "streamed":
            assert client.patch(location, data=BLOB).status_code == 202
        else:
            for first in range(0, SIZE, 256):
                headers = {"Content-Range": f"{first}-{first + 255}"}
                answer = client.patch(location, data=BLOB[first : first + 256], headers=headers)
                assert (answer.status_code, answer.headers["Range"]) == (202, f"0-{first + 255}")
        answer = client.put(f"{location}?digest={digest}", data=last)
    path = f"/v2/t/x/blobs/{digest}"
    assert (answer.status_code, answer.headers["Location"]) == (201, path)
    assert answer.headers["Docker-Content-Digest"] == str(digest)
    read = client.get(path)
    assert (read.status_code, read.data) == (200, BLOB)
    assert (read.headers["Docker-Content-Digest"], read.headers["ETag"]) == (str(digest), f'"{digest}"')
    assert client.get(path, headers={"Range": "bytes=-3"}).data == BLOB[-3:]
    other = Digest.of(BLOB, "sha256" if algorithm == "sha512" else "sha512")
    assert client.get(f"/v2/t/x/blobs/{other}").status_code == 404
    assert client.post(f"/v2/t/y/blobs/uploads/?mount={digest}&from=t/x").status_code == 201
    assert client.delete(path).status_code == 202
    assert (client.head(path).status_code, client.head(f"/v2/t/y/blobs/{digest}").status_code) == (404, 200)


def test_a_manifest_pushed_under_sha512(client: FlaskClient) -> None:
    """It is read, tagged, listed and deleted by that digest, and by no other."""
    push_blobs(client, APP)
    digest = Digest.of(APP.manifest, "sha512")
    path = f"/v2/t/x/manifests/{digest}"
    answer = client.put(f"{path}?tag=now&tag=v1", data=APP.manifest, content_type=APP.media_type)
    assert (answer.status_code, answer.headers["Docker-Content-Digest"]) == (201, str(digest))
    assert (answer.headers["Location"], answer.headers["OCI-Tag"]) == (path, "now, v1")
    for reference in (str(digest), "now", "v1"):
        for method in ("GET", "HEAD"):
            read = client.open(f"/v2/t/x/manifests/{reference}", method=method)
            assert (read.status_code, read.headers["Docker-Content-Digest"]) == (200, str(digest))
            assert read.data == (APP.manifest if method == "GET" else b"")
    assert client.get(f"/v2/t/x/manifests/{APP.digest}").status_code == 404
    assert client.get("/v2/t/x/_dualreg/tags").json["tags"][0]["digest"] == str(digest)
    assert client.delete(path).status_code == 202
    assert client.get("/v2/t/x/manifests/now").status_code == 404
    assert client.get("/v2/t/x/tags/list").json["tags"] == []


def test_referrers_of_a_sha512_subject(client: FlaskClient) -> None:
    """A subject is named by any digest."""
    subject = {**descriptor(APP.media_type, APP.manifest), "digest": str(Digest.of(APP.manifest, "sha512"))}
    document = {**json.loads(index()), "subject": subject}
    answer = client.put("/v2/t/x/manifests/sig", json=document, content_type=media_types.OCI_INDEX)
    assert (answer.status_code, answer.headers["OCI-Subject"]) == (201, subject["digest"])
    assert len(client.get(f"/v2/t/x/referrers/{subject['digest']}").json["manifests"]) == 1


@pytest.mark.parametrize("wrong", [Digest.of(b"other", "sha512"), Digest.of(b"other")])
def test_a_wrong_digest_stores_nothing(client: FlaskClient, wrong: Digest) -> None:
    """By either algorithm."""
    push_blobs(client, APP)
    answer = client.put(f"/v2/t/x/manifests/{wrong}", data=APP.manifest, content_type=APP.media_type)
    assert (answer.status_code, answer.json["errors"][0]["code"]) == (400, "DIGEST_INVALID")
    assert client.get(f"/v2/t/x/manifests/{APP.digest}").status_code == 404
    assert client.post(f"/v2/t/x/blobs/uploads/?digest={wrong}", data=BLOB).status_code == 400
    assert client.head(PATH).status_code == 404


@pytest.mark.parametrize("held", [True, False])
def test_mount_without_from(client: FlaskClient, held: bool) -> None:  # noqa: FBT001 -- a table's column
    """What another repository holds is mounted; else an upload begins, as if no mount was asked for."""
    if held:
        assert (
            client.post(f"/v2/other/y/blobs/uploads/?digest={Digest.of(BLOB)}", data=BLOB).status_code == 201
        )
    answer = client.post(f"/v2/t/x/blobs/uploads/?mount={Digest.of(BLOB)}")
    assert answer.status_code == (201 if held else 202)
    assert (answer.headers["Location"] == PATH) == held
    assert client.get(PATH).status_code == (200 if held else 404)


# --- manifests


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (lambda content: base64.b64encode(content).decode(), 201),
        (lambda _: None, 201),
        (lambda content: base64.b64encode(content + b" ").decode(), 400),
        (lambda content: base64.b64encode(content.swapcase()).decode(), 400),
        (lambda content: base64.b64encode(content).decode() + "!", 400),
        (lambda content: content.decode(), 400),
        (lambda content: [*content], 400),
        (lambda _: "", 400),
        (lambda _: 7, 400),
        (lambda _: "\u0661", 400),
    ],
)
@pytest.mark.parametrize("place", ["config", "subject"])
def test_embedded_content(client: FlaskClient, place: str, data: Any, status: int) -> None:
    """A descriptor's ``data`` is its content, or the manifest is refused: some clients never look further."""
    push_blobs(client, APP)
    document = json.loads(APP.manifest)
    content = APP.config if place == "config" else OTHER.manifest
    document.setdefault(place, descriptor(OTHER.media_type, OTHER.manifest))["data"] = data(content)
    answer = client.put("/v2/t/x/manifests/now", json=document, content_type=APP.media_type)
    assert answer.status_code == status
    if status == 400:
        assert answer.json["errors"][0]["code"] == "MANIFEST_INVALID"
        assert client.get("/v2/t/x/manifests/now").status_code == 404


@pytest.mark.parametrize("oci", [False, True], ids=["list", "index"])
@pytest.mark.parametrize("named", sorted(media_types.INDEXES))
@pytest.mark.parametrize("more", [(), sorted(media_types.IMAGES), sorted(media_types.SCHEMA1_TYPES)])
def test_who_reads_indexes_gets_them(
    client: FlaskClient, more: Sequence[str], named: str, *, oci: bool
) -> None:
    """Of the family they name: an image that the registry chose would be of the wrong platform for some."""
    push_blobs(client, APP)
    path = f"/v2/t/x/manifests/{APP.digest}"
    assert client.put(path, data=APP.manifest, content_type=APP.media_type).status_code == 201
    pushed = index(APP, oci=oci)
    kind = media_types.OCI_INDEX if oci else media_types.DOCKER_LIST
    assert client.put("/v2/t/x/manifests/both", data=pushed, content_type=kind).status_code == 201
    got = client.get("/v2/t/x/manifests/both", headers={"Accept": ", ".join([*more, named])})
    assert got.content_type == named
    if named == kind:
        assert got.data == pushed
    else:
        (entry,) = got.json["manifests"]  # type: ignore[index]
        image = client.get(f"/v2/t/x/manifests/{entry['digest']}").json
        assert image["config"]["digest"] == str(Digest.of(APP.config))  # type: ignore[index]
    if set(more) == media_types.IMAGES:
        images = client.get("/v2/t/x/manifests/both", headers={"Accept": ", ".join(more)})
        assert images.data == APP.manifest


@pytest.mark.parametrize("sparse", [False, True])
def test_sparse_indexes(catalog: Catalog, store: MemoryStore, sparse: bool) -> None:  # noqa: FBT001 -- a table's column
    """An index without all its manifests is taken if the operator wants that; images stay complete."""
    settings = Settings(sparse_indexes=sparse)
    client = client_of(build_registry(catalog, store, settings), settings)
    push_blobs(client, APP)
    path, both = "/v2/t/x/manifests/both", index(APP, OTHER)
    accept = {"Accept": media_types.OCI_MANIFEST}
    assert (
        client.put(
            f"/v2/t/x/manifests/{APP.digest}", data=APP.manifest, content_type=APP.media_type
        ).status_code
        == 201
    )
    answer = client.put(path, data=both, content_type=media_types.OCI_INDEX)
    if sparse:
        assert (answer.status_code, client.get(path).data) == (201, both)
        assert client.get(path, headers=accept).data == APP.manifest
        assert client.get(f"/v2/t/x/manifests/{OTHER.digest}").status_code == 404
        assert client.delete(f"/v2/t/x/manifests/{APP.digest}").status_code == 405
    else:
        assert (answer.status_code, answer.json["errors"][0]["code"]) == (400, "MANIFEST_BLOB_UNKNOWN")
        assert [entry["detail"]["digest"] for entry in answer.json["errors"]] == [str(OTHER.digest)]
    incomplete = client.put("/v2/t/x/manifests/o", data=OTHER.manifest, content_type=OTHER.media_type)
    assert (incomplete.status_code, incomplete.json["errors"][0]["code"]) == (400, "MANIFEST_BLOB_UNKNOWN")


@pytest.mark.parametrize("size", [4_000, 8_300, 30_000, 64_000])
def test_long_headers(served: Served, size: int) -> None:
    """Tokens of many scopes, or of a user with many groups, are no reason to refuse a request."""
    answer = Wire(served.host).send("GET", "/v2/", {"Authorization": f"Bearer {'x' * size}"})
    assert answer.status == 200
    assert answer.headers["docker-distribution-api-version"] == "registry/2.0"
