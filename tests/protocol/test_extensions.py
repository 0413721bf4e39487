"""Extensions, CORS, the operator's notice, and what becomes of idle uploads."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient

from dualreg.assembly import prepare
from dualreg.cli import main
from dualreg.image.names import RepositoryName, UploadId
from dualreg.maintenance import uploads
from dualreg.registry import Registry
from dualreg.settings import Settings
from dualreg.storage.memory import MemoryStore
from tests.apps import client_of
from tests.builders import Image, image, layer, v1_chain
from tests.conftest import Clock
from tests.state import snapshot

APP = image(layer({"a": b"1"}), oci=True)


def push(client: FlaskClient, pushed: Image, repository: str, *tags: str) -> None:
    """Push an image under every one of *tags*."""
    for digest, data in pushed.blobs.items():
        assert client.post(f"/v2/{repository}/blobs/uploads/?digest={digest}", data=data).status_code == 201
    for tag in tags:
        path = f"/v2/{repository}/manifests/{tag}"
        assert client.put(path, data=pushed.manifest, content_type=pushed.media_type).status_code == 201


def test_extensions_can_be_discovered(client: FlaskClient) -> None:
    """The discovery document names every extension with its endpoints."""
    extensions = client.get("/v2/_oci/ext/discover").json["extensions"]
    assert {each["name"]: each["endpoints"] for each in extensions} == {
        "_dualreg": ["_dualreg/tags", "_dualreg/repository"],
        "_oci": ["_oci/ext/discover", "_oci/tag-history"],
    }


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["a-1", "a-2", "a-3", "b-1", "b-2"]),
        ("prefix=a-", ["a-1", "a-2", "a-3"]),
        ("prefix=zz", []),
        ("sort=-pushed", ["b-2", "a-3", "b-1", "a-2", "a-1"]),
        ("sort=-pushed&prefix=b", ["b-2", "b-1"]),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 5])
def test_tags_with_details(
    client: FlaskClient, clock: Clock, query: str, size: int, expected: list[str]
) -> None:
    """Tags are listed by name or newest first, filtered by prefix, in pages, each exactly once."""
    for tag in ("a-1", "a-2", "b-1", "a-3", "b-2"):
        push(client, APP, "t/x", tag)
        clock.advance(timedelta(seconds=1))
    path, seen = f"/v2/t/x/_dualreg/tags?{query}&n={size}", []
    while path:
        answer = client.get(path)
        seen += [entry["name"] for entry in answer.json["tags"]]
        path = answer.headers.get("Link", "").partition(">")[0].lstrip("<")
    assert seen == expected


def test_what_a_tag_is_said_to_be(client: FlaskClient, registry: Registry, clock: Clock) -> None:
    """A tag's entry has digest, type, size, and when it was pushed and last pulled."""
    pushed_at = clock().isoformat()
    push(client, APP, "t/x", "now")
    entry = {"name": "now", "digest": str(APP.digest), "mediaType": APP.media_type, "size": len(APP.manifest)}
    assert client.get("/v2/t/x/_dualreg/tags").json["tags"] == [
        {**entry, "pushed": pushed_at, "pulled": None, "origin": "v2"}
    ]
    clock.advance(timedelta(hours=1))
    assert client.head("/v2/t/x/manifests/now").status_code == 200
    assert client.get("/v2/t/x/_dualreg/tags").json["tags"][0]["pulled"] is None
    assert client.get("/v2/t/x/manifests/now").status_code == 200
    registry.tags.pulls.flush()
    assert client.get("/v2/t/x/_dualreg/tags").json["tags"][0]["pulled"] == clock().isoformat()


@pytest.mark.parametrize("query", ["sort=size", "prefix=%00", "after=1", "n=-1"])
def test_unheard_of_queries_are_refused(client: FlaskClient, query: str) -> None:
    """A query that no page was ever linked by is a 400 in the dialect."""
    push(client, APP, "t/x", "now")
    answer = client.get(f"/v2/t/x/_dualreg/tags?{query}")
    assert (answer.status_code, answer.json["errors"][0]["code"]) == (400, "PAGINATION_NUMBER_INVALID")


def test_a_repository_can_be_deleted(client: FlaskClient, registry: Registry) -> None:
    """Everything of the repository is deleted, V1 images, uploads and link files too; others stay."""
    push(client, APP, "t/x/y", "now")
    push(client, APP, "t/other", "now")
    before = snapshot(registry)
    push(client, APP, "t/x", "now")
    (v1,) = v1_chain(layer({"v": b"1"}))
    registry.v1_images.begin(RepositoryName("t/x"), v1.id, v1.json)
    client.post("/v2/t/x/blobs/uploads/")
    assert client.get("/v1/repositories/t/x/tags").status_code == 200
    assert client.delete("/v2/t/x/_dualreg/repository").status_code == 202
    after = snapshot(registry)
    for table in ("repositories", "repository_blobs", "manifests", "tags", "uploads", "v1_images"):
        assert after["rows"][table] == before["rows"][table]
    assert (after["links"], after["staged"]) == (before["links"], {})
    assert client.delete("/v2/t/x/_dualreg/repository").status_code == 404


@pytest.mark.parametrize(
    ("origin", "allowed"), [("https://ui.example", True), ("https://evil.example", False)]
)
def test_cors(registry: Registry, origin: str, allowed: bool) -> None:  # noqa: FBT001 -- a table's column
    """Only listed origins may read answers; preflight needs no credentials and no existing path."""
    settings = Settings(cors_origins="https://ui.example, https://other.example")
    client = client_of(registry, settings)
    preflight = client.options("/v2/any/manifests/x", headers={"Origin": origin})
    assert preflight.status_code == 204
    assert ("Access-Control-Allow-Methods" in preflight.headers) == allowed
    answer = client.get("/v2/", headers={"Origin": origin})
    assert answer.headers.get("Access-Control-Allow-Origin") == (origin if allowed else None)
    assert ("Docker-Content-Digest" in answer.headers.get("Access-Control-Expose-Headers", "")) == allowed
    assert "Origin" in answer.headers["Vary"]


def test_the_operators_notice(registry: Registry) -> None:
    """Every V2 answer has the notice, in the form that clients print."""
    client = client_of(registry, notice='moving on "Friday"')
    assert client.get("/v2/").headers["Warning"] == r'299 - "moving on \"Friday\""'
    assert "Warning" not in client.get("/v1/_ping").headers


def test_idle_uploads_expire(
    client: FlaskClient, registry: Registry, store: MemoryStore, clock: Clock
) -> None:
    """An upload that was idle for too long is gone for its client, and collected with its bytes."""
    ttl = timedelta(hours=24)
    clock.instant = datetime.now(UTC)  # staged files are dated by the real clock
    stale = client.post("/v2/t/x/blobs/uploads/").headers["Location"]
    assert client.patch(stale, data=b"abc").status_code == 202
    stray = UploadId.new()
    store.append(stray, [b"left by a crash"], offset=0)
    clock.advance(ttl + timedelta(seconds=1))
    fresh = client.post("/v2/t/x/blobs/uploads/").headers["Location"]
    for refused in (
        client.get(stale),
        client.patch(stale, data=b"x"),
        client.put(f"{stale}?digest={APP.digest}"),
    ):
        assert (refused.status_code, refused.json["errors"][0]["code"]) == (404, "BLOB_UPLOAD_UNKNOWN")
    before = registry.now() - ttl
    planned = uploads.plan(registry.uploads, before)
    assert (planned.sessions, planned.strays) == ((stale.rpartition("/")[2],), (stray,))
    assert uploads.apply(registry.uploads, before, planned) == 2
    assert [*store.staged()] == []
    assert client.get(fresh).status_code == 204


def test_the_commands(tmp_path: Path) -> None:
    """``gc`` and ``repository delete`` work on a new registry, and print what they found."""
    prepare(Settings(data=tmp_path))
    run = CliRunner().invoke
    collected = run(main, ["gc", "--data", str(tmp_path), "--dry-run", "--json"])
    assert collected.exit_code == 0
    nothing = {"idle_uploads": 0, "discarded": 0, "orphans": 0, "blobs": 0, "bytes": 0, "complete": True}
    nothing |= {"kept": 0, "kept_bytes": 0, "kept_until": None}
    assert json.loads(collected.stdout) == nothing | {"repositories": {}, "expired": []}
    unknown = run(main, ["repository", "delete", "t/x", "--data", str(tmp_path)])
    error = unknown.stderr.splitlines()[-1]
    assert (unknown.exit_code, error) == (1, "Error: repository name not known to registry: t/x")


@pytest.mark.parametrize("slash", ["", "/"])
def test_v1_minds_no_trailing_slash(client: FlaskClient, slash: str) -> None:
    """Old clients end some URLs with a slash and others not; both mean the same."""
    assert client.put(f"/v1/repositories/t/x{slash}", data=b"[]").status_code == 200
    assert client.put(f"/v1/repositories/t/x/images{slash}", data=b"[]").status_code == 204
    assert client.put(f"/v1/repositories/t/x/auth{slash}", data=b"").status_code == 200
    assert client.get(f"/v1/repositories/t/x/images{slash}").json == []
    assert client.get(f"/v1/repositories/t/x/tags{slash}").status_code == 404
    assert client.get("/v1/repositories/t/x/images/images").status_code == 404
