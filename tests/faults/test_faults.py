"""Whatever fails, at whatever moment: what was answered is true, and trying again succeeds."""

import errno
import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import delete

from dualreg.assembly import build_registry, open_registry, prepare
from dualreg.catalog.database import Catalog
from dualreg.catalog.tables import Table
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.names import UploadId
from dualreg.registry import Registry
from dualreg.settings import Settings
from dualreg.storage.filesystem import FilesystemStore
from dualreg.storage.s3 import Bucket
from dualreg.web import context
from tests import builders
from tests.apps import client_of, serve_instead
from tests.contracts.radosgw import s3_bucket
from tests.databases import empty_database
from tests.faults.faulty import FaultyBucket, FaultyCatalog, FaultyFolder, Plan, check_sound
from tests.programs import until
from tests.protocol.exchange import REPOSITORY, payload_checksum, v1_text, v2_codes
from tests.soak import short_or_long
from tests.state import snapshot

IMAGE = builders.image(builders.layer({"a": b"1"}), builders.layer({"c": b"3"}))
INDEX = builders.index(IMAGE)
CHAIN = builders.v1_chain(builders.layer({"a": b"1"}), builders.layer({"b": b"2"}))


def push_v2(client: FlaskClient) -> bool:
    """Push as Docker does, up to the first answer that is no success; tell whether there was none."""
    for digest, data in IMAGE.blobs.items():
        if client.head(f"/v2/{REPOSITORY}/blobs/{digest}").status_code == 200:
            continue
        begun = client.post(f"/v2/{REPOSITORY}/blobs/uploads/")
        if begun.status_code != 202:
            return False
        patched = client.patch(begun.headers["Location"], data=data)
        if patched.status_code != 202:
            return False
        if client.put(f"{patched.headers['Location']}?digest={digest}").status_code != 201:
            return False
    path = f"/v2/{REPOSITORY}/manifests/latest"
    return client.put(path, data=IMAGE.manifest, content_type=IMAGE.media_type).status_code == 201


def push_v1(client: FlaskClient) -> bool:
    """Push as Docker did, up to the first answer that is no success; tell whether there was none."""
    repository = f"/v1/repositories/{REPOSITORY}"
    begun = client.put(f"{repository}/", json=[])
    if begun.status_code != 200:
        return False
    token = {"Authorization": f"Token {begun.headers['X-Docker-Token']}"}
    for image in CHAIN:
        path, sums = f"/v1/images/{image.id}", {"X-Docker-Checksum-Payload": payload_checksum(image)}
        if client.get(f"{path}/json", headers=token).status_code == 200:
            continue
        for url, body, headers in (
            (f"{path}/json", image.json, token),
            (f"{path}/layer", image.layer, token),
            (f"{path}/checksum", b"", token | sums),
        ):
            if client.put(url, data=body, headers=headers).status_code != 200:
                return False
    if client.put(f"{repository}/tags/latest", json=CHAIN[-1].id, headers=token).status_code != 200:
        return False
    return client.put(f"{repository}/images", json=[]).status_code == 204


def pull_v2(client: FlaskClient) -> bool:
    """Read everything that ``push_v2`` pushed; tell whether it could be."""
    got = client.get(f"/v2/{REPOSITORY}/manifests/latest")
    blobs = {client.get(f"/v2/{REPOSITORY}/blobs/{digest}").data for digest in IMAGE.blobs}
    return got.data == IMAGE.manifest and blobs == set(IMAGE.blobs.values())


def pull_v1(client: FlaskClient) -> bool:
    """Read everything that ``push_v1`` pushed, over both dialects; tell whether it could be."""
    top = client.get(f"/v1/repositories/{REPOSITORY}/tags").json.get("latest")
    layers = [client.get(f"/v1/images/{image.id}/layer").data for image in CHAIN]
    config = client.get(f"/v2/{REPOSITORY}/manifests/latest").status_code
    return (top, layers, config) == (CHAIN[-1].id, [image.layer for image in CHAIN], 200)


def seed_v2(client: FlaskClient) -> None:
    """Push what V1 clients will look at."""
    assert push_v2(client)


def look_v1(client: FlaskClient) -> bool:
    """Look at a V2 image as a V1 client, which works out and records how it looks."""
    answer = client.get(f"/v1/repositories/{REPOSITORY}/tags")
    if answer.status_code != 200:
        return False
    image = answer.json["latest"]
    ancestry = client.get(f"/v1/images/{image}/ancestry")
    if ancestry.status_code != 200 or len(ancestry.json) != 2:
        return False
    urls = [f"/v1/images/{member}/{part}" for member in ancestry.json for part in ("json", "layer")]
    return all(client.get(url).status_code == 200 for url in urls)


def forget(client: FlaskClient) -> bool:
    """Delete the tag's manifest and then all its blobs; what is gone already is fine."""
    deleted = client.delete(f"/v2/{REPOSITORY}/manifests/{IMAGE.digest}")
    if deleted.status_code not in (202, 404):
        return False
    gone = [client.delete(f"/v2/{REPOSITORY}/blobs/{digest}") for digest in IMAGE.blobs]
    return all(response.status_code in (202, 404) for response in gone)


def is_forgotten(client: FlaskClient) -> bool:
    """Tell whether nothing is left to read."""
    urls = [f"/v2/{REPOSITORY}/blobs/{digest}" for digest in IMAGE.blobs]
    urls.append(f"/v2/{REPOSITORY}/manifests/latest")
    return all(client.get(url).status_code == 404 for url in urls)


def seed_many(client: FlaskClient) -> None:
    """Push an image with many tags, an index of it, and a V1 image."""
    assert push_v2(client)
    put = f"/v2/{REPOSITORY}/manifests/"
    for number in range(4):
        tagged = client.put(f"{put}t{number}", data=IMAGE.manifest, content_type=IMAGE.media_type)
        assert tagged.status_code == 201
    assert push_v1(client)
    assert client.put(f"{put}index", data=INDEX, content_type=media_types.OCI_INDEX).status_code == 201


def untag(client: FlaskClient) -> bool:
    """Delete the index, and the image with all its tags."""
    digests = (Digest.of(INDEX), IMAGE.digest)
    deleted = [client.delete(f"/v2/{REPOSITORY}/manifests/{digest}").status_code for digest in digests]
    return {*deleted} <= {202, 404}


def is_untagged(client: FlaskClient) -> bool:
    """Tell whether the tag of the V1 image is the only one."""
    return bool(client.get(f"/v2/{REPOSITORY}/tags/list").json["tags"] == ["latest"])


def is_empty_of_tags(client: FlaskClient) -> bool:
    """Tell whether there is no tag any more."""
    return client.get(f"/v2/{REPOSITORY}/tags/list").json["tags"] == []


def delete_all(client: FlaskClient) -> bool:
    """Delete the whole repository."""
    return client.delete(f"/v2/{REPOSITORY}/_dualreg/repository").status_code in (202, 404)


def is_empty(client: FlaskClient) -> bool:
    """Tell whether there is no such repository any more."""
    return client.get(f"/v2/{REPOSITORY}/tags/list").status_code == 404


def clear(client: FlaskClient) -> bool:
    """Delete all tags as a V1 client."""
    token = {"Authorization": f'Token repository="{REPOSITORY}"'}
    return client.delete(f"/v1/repositories/{REPOSITORY}/tags", headers=token).status_code in (200, 404)


Act = Callable[[FlaskClient], bool]
STORIES: dict[str, tuple[Callable[[FlaskClient], object], Act, Act]] = {
    "V2 push": (lambda _: None, push_v2, pull_v2),
    "V1 push": (lambda _: None, push_v1, pull_v1),
    "V1 look at a V2 image": (seed_v2, look_v1, look_v1),
    "V2 delete": (seed_v2, forget, is_forgotten),
    "V2 delete of a manifest with many tags": (seed_many, untag, is_untagged),
    "V2 delete of a repository": (seed_many, delete_all, is_empty),
    "V1 delete of all tags": (seed_many, clear, is_empty_of_tags),
}


Make = Callable[[Plan], tuple[FlaskClient, Registry, Plan]]


def in_places(names: Iterable[str], few: Iterable[str]) -> list[Any]:
    """Return pairs of parameters: where a registry has its bytes (``failing``), and what happens to it.

    Args:
        few: What happens over a bucket, too, where each step takes milliseconds, unless time does not matter.
    """
    over_bucket = short_or_long([*few], [*names])
    return [
        *(("folder", name) for name in names),
        *(pytest.param("bucket", name, marks=pytest.mark.s3) for name in over_bucket),
    ]


@contextmanager
def faulty_stores(kind: str, folder: Path) -> Iterator[Callable[[], FaultyFolder | FaultyBucket]]:
    """Yield what makes empty stores: in *folder*, or in one bucket."""
    numbers = itertools.count()
    if kind == "folder":
        yield lambda: FaultyFolder(folder / str(next(numbers)))
        return
    with s3_bucket() as url, closing(Bucket.parse(url)) as bucket:

        def make() -> FaultyBucket:
            own = replace(bucket, prefix=f"{bucket.prefix}{next(numbers)}/")
            vars(own)["client"] = bucket.client
            return FaultyBucket(own)

        yield make


@pytest.fixture
def failing(request: pytest.FixtureRequest, tmp_path: Path, app: Flask, caplog: Any) -> Iterator[Make]:
    """Makes empty registries, one after the other, whose store and catalog share a plan.

    There are hundreds: catalog and application are used again.
    """
    caplog.set_level("CRITICAL")
    stack = ExitStack()
    catalog = FaultyCatalog(stack.enter_context(empty_database(tmp_path / "faulty")))
    stack.callback(catalog.close)
    new_store = stack.enter_context(faulty_stores(getattr(request, "param", "folder"), tmp_path))

    def make(plan: Plan) -> tuple[FlaskClient, Registry, Plan]:
        with catalog.engine.begin() as connection:
            for table in reversed(Table.metadata.sorted_tables):
                connection.execute(delete(table))
        store = new_store()
        catalog.plan = store.plan = plan
        registry = build_registry(catalog, store)
        serve_instead(app, registry, Settings(audit="off"))
        return app.test_client(), registry, plan

    with stack:
        yield make


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before its effect", "after its effect"])
@pytest.mark.parametrize(
    ("failing", "story"),
    in_places(STORIES, ["V2 push", "V1 push", "V2 delete", "V2 delete of a repository"]),
    indirect=["failing"],
)
def test_any_one_call_may_fail(
    failing: Make, story: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, *, after: bool
) -> None:
    """The k-th call to store or catalog fails, for every k: nothing false is left, and a retry succeeds."""
    monkeypatch.setattr("dualreg.registry.deletion.STEP", 2)
    prepare, act, check = STORIES[story]
    client, registry, plan = failing(Plan())
    prepare(client)
    start = plan.calls
    assert act(client)
    steps = plan.calls - start
    assert steps > 5
    assert check(client)
    check_sound(registry)
    noticed = 0
    stride = short_or_long(5 if prepare is seed_many else 1, 1)  # seeding takes most of the time
    if "bucket" in request.node.callspec.id:
        stride = short_or_long(steps // 2, 1)
    tried = range(0, steps, stride)
    for step in tried:
        client, registry, plan = failing(Plan())
        prepare(client)
        plan.calls, plan.fail_at, plan.after = 0, step, after
        noticed += not act(client)
        plan.fail_at = None
        check_sound(registry)
        assert act(client), f"the retry after a fault at call {step}"
        assert check(client), f"after a fault at call {step}"
        check_sound(registry)
    assert noticed >= len(tried) // 2


class BrokenStore(FilesystemStore):
    """A folder on a disk that fails in the middle of a body."""

    error: int | None = None

    def append(self, upload: UploadId, chunks: Iterable[bytes], *, offset: int) -> int:
        """Write the first piece, and no other."""

        def filling() -> Iterator[bytes]:
            for piece in chunks:
                yield piece
                if self.error:
                    raise OSError(self.error, "of the device")

        return super().append(upload, filling(), offset=offset)

    def stage(self, upload: UploadId, content: bytes) -> None:
        """Create a file, and write nothing."""
        super().stage(upload, b"" if self.error else content)
        if self.error:
            raise OSError(self.error, "of the device")


@pytest.mark.parametrize(
    ("error", "message", "wait"),
    [
        (errno.ENOSPC, "the disk of the registry is full", "60"),
        (errno.EIO, "the disk of the registry fails", "60"),
        (errno.EROFS, "the disk of the registry is read-only", "60"),
        (errno.EMFILE, "the registry has too many files open", "5"),
    ],
)
def test_a_disk_that_fails_in_a_body(
    catalog: Catalog, tmp_path: Path, error: int, message: str, wait: str
) -> None:
    """503 in the request's dialect, no word about our files, nothing half-taken; then all goes on."""
    store = BrokenStore(tmp_path / "store")
    registry = build_registry(catalog, store)
    client = client_of(registry)
    assert push_v2(client)
    location = client.post(f"/v2/{REPOSITORY}/blobs/uploads/").headers["Location"]
    client.patch(location, data=b"held")
    token = {"Authorization": f'Token repository="{REPOSITORY}"'}
    begun = CHAIN[0]
    client.put(f"/v1/images/{begun.id}/json", data=begun.json, headers=token)
    before = snapshot(registry)
    store.error = error
    digest, manifest = Digest.of(b"heldmore"), IMAGE.manifest + b"\n"
    for response in (
        client.patch(location, data=b"more"),
        client.put(f"{location}?digest={digest}", data=b"more"),
        client.post(f"/v2/{REPOSITORY}/blobs/uploads/?digest={digest}", data=b"heldmore"),
        client.put(f"/v2/{REPOSITORY}/manifests/latest", data=manifest, content_type=IMAGE.media_type),
    ):
        assert (response.status_code, v2_codes(response)) == (503, ["UNKNOWN"])
        assert message in response.text
        assert (response.headers["Retry-After"], "of the device" in response.text) == (wait, False)
    for response in (
        client.put(f"/v1/images/{CHAIN[1].id}/json", data=CHAIN[1].json, headers=token),
        client.put(f"/v1/images/{begun.id}/layer", data=begun.layer, headers=token),
    ):
        text = f"service unavailable: {message}"
        assert (response.status_code, v1_text(response)) == (503, text)
        assert response.headers["Retry-After"] == wait
    held = snapshot(registry)
    # Bytes behind the offset do not count; there are none of any other upload.
    assert [data[:4] for data in held.pop("staged").values()] == [b"held"]
    assert before.pop("staged")
    assert held == before
    store.error = None
    held_back = client.get(location)
    assert (held_back.status_code, held_back.headers["Range"]) == (204, "0-3")
    assert client.put(f"{location}?digest={digest}", data=b"more").status_code == 201
    assert push_v1(client)
    check_sound(registry)


@pytest.mark.slow
def test_an_unreachable_database(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """503 in the request's dialect, with the time to return; a line in the log, without a traceback."""
    folder = tmp_path / "catalog"
    settings = Settings(data=tmp_path / "data", database=f"sqlite:///{folder}/catalog.sqlite3")
    prepare(settings)
    registry = open_registry(settings)
    client = client_of(registry)
    folder.rename(tmp_path / "away")
    registry.state.catalog.close()
    for path, text in (
        (f"/v2/{REPOSITORY}/tags/list", "service unavailable"),
        (f"/v1/repositories/{REPOSITORY}/tags", "service unavailable"),
        ("/_status", "CatalogGone"),
    ):
        caplog.clear()
        response = client.get(path)
        assert (response.status_code, text in response.text) == (503, True)
        assert path == "/_status" or int(response.headers["Retry-After"]) > 0
        (line,) = caplog.text.splitlines()
        assert "catalog.sqlite3 was deleted or replaced" in line
    (tmp_path / "away").rename(folder)
    assert until(lambda: client.get("/_status").status_code == 200)
    registry.close()


def test_an_audit_log_that_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is changed without its line: 503 before anything happens; reads and denials are answered."""
    folder = tmp_path / "log"
    settings = Settings(data=tmp_path / "data", audit=str(folder / "audit.jsonl"))
    prepare(settings)
    registry = open_registry(settings)
    client = client_of(registry, settings)
    assert push_v2(client)
    held = snapshot(registry)
    folder.rename(tmp_path / "away")
    folder.write_text("")
    manifest = f"/v2/{REPOSITORY}/manifests"
    for method, path in (
        ("PUT", f"{manifest}/2"), ("DELETE", f"{manifest}/latest"),
        ("POST", f"/v2/{REPOSITORY}/blobs/uploads/"),
        ("PUT", f"/v1/repositories/{REPOSITORY}/"), ("DELETE", f"/v1/repositories/{REPOSITORY}/tags/latest"),
    ):  # fmt: skip
        caplog.clear()
        response = client.open(path, method=method, data=IMAGE.manifest, content_type=IMAGE.media_type)
        assert (response.status_code, "service unavailable" in response.text) == (503, True)
        assert int(response.headers["Retry-After"]) > 0
        (line,) = caplog.text.splitlines()
        assert "cannot write the audit log: " in line
    assert snapshot(registry) == held
    assert client.get(f"{manifest}/latest").status_code == 200
    status = client.get("/_status")
    assert (status.status_code, status.json["failures"]) == (503, {"audit": "NotADirectoryError"})
    folder.unlink()
    assert push_v2(client)
    assert client.get("/_status").status_code == 200
    registry.close()
    with client.application.app_context():
        context.audit().close()
