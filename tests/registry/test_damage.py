"""Files that are lost, cut or changed are never served, and come back with the next push."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from sqlalchemy import update

from dualreg.assembly import build_registry
from dualreg.catalog.database import Catalog
from dualreg.catalog.rows import RepositoryRow
from dualreg.catalog.tables import Blobs
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.image.v1_image import payload_hasher
from dualreg.registry.v1_comparison import recorded_as
from dualreg.storage.filesystem import FilesystemStore
from tests import builders
from tests.apps import client_of
from tests.properties.registries import push_v1, push_v2

NAME = RepositoryName("team/app")
TOKEN = {"Authorization": f'Token repository="{NAME}"'}
IMAGE = builders.image(builders.layer({"a": b"a" * 900}), builders.layer({"b": b"b" * 900}))
CHAIN = builders.v1_chain(builders.layer({"c": b"c" * 900}), builders.layer({"d": b"d" * 900}))
OTHER = builders.image(builders.layer({"e": b"e"}))
Damage = Callable[[Path], None]


def lose(path: Path) -> None:
    """Remove the file."""
    path.unlink()


def empty(path: Path) -> None:
    """Empty the file."""
    _write(path, b"")


def cut(path: Path) -> None:
    """Cut the last byte."""
    _write(path, path.read_bytes()[:-1])


def lengthen(path: Path) -> None:
    """Append a byte."""
    _write(path, path.read_bytes() + b"\0")


def flip(path: Path) -> None:
    """Change a bit in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    _write(path, bytes(data))


def _write(path: Path, data: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(data)


DAMAGES = (lose, empty, cut, lengthen, flip)


@pytest.fixture
def store(tmp_path: Path) -> FilesystemStore:
    """A store in files."""
    return FilesystemStore(tmp_path / "store")


@pytest.fixture
def damaged(catalog: Catalog, store: FilesystemStore) -> Callable[[Digest, Damage], FlaskClient]:
    """What damages a file of a registry with images of both generations, and returns a client of it."""
    filled = build_registry(catalog, store)
    push_v2(filled, NAME, Tag("v2"), IMAGE)
    push_v1(filled, NAME, Tag("v1"), CHAIN)
    push_v2(filled, NAME, Tag("whole"), OTHER)

    def damage(digest: Digest, how: Damage) -> FlaskClient:
        how(store.path(digest))
        return client_of(build_registry(catalog, store))  # with empty caches

    return damage


def _pushed(client: FlaskClient, content: bytes) -> int:
    location = client.post(f"/v2/{NAME}/blobs/uploads/").headers["Location"]
    joint = "&" if "?" in location else "?"
    return client.put(f"{location}{joint}digest={Digest.of(content)}", data=content).status_code


@pytest.mark.parametrize("damage", DAMAGES[:-1])
@pytest.mark.parametrize("content", [IMAGE.config, IMAGE.layers[0]], ids=["config", "layer"])
def test_v2_does_not_know_a_damaged_blob(
    damaged: Callable[[Digest, Damage], FlaskClient],
    content: bytes,
    damage: Damage,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """HEAD, GET, ranges, mounts and manifests say so alike; a push of the same bytes heals all of them."""
    digest = Digest.of(content)
    client, url = damaged(digest, damage), f"/v2/{NAME}/blobs/{digest}"
    mount = f"/v2/team/other/blobs/uploads/?mount={digest}&from={NAME}"
    put = {"data": IMAGE.manifest, "content_type": IMAGE.media_type}

    def statuses() -> list[int]:
        ranges = ({}, {"Range": "bytes=1-3"}, {"Range": "bytes=0-0,2-3"})
        answers = [client.head(url), *(client.get(url, headers=headers) for headers in ranges)]
        answers += [client.post(mount), client.put(f"/v2/{NAME}/manifests/new", **put)]
        return [answer.status_code for answer in answers]

    assert statuses() == [404, 404, 404, 404, 202, 400]
    assert client.get(url).json["errors"][0]["code"] == "BLOB_UNKNOWN"
    assert caplog.text.count(f"{digest} is damaged") == 1
    assert client.get("/_status").json["damaged_blobs"] == 1
    assert _pushed(client, content) == 201
    assert statuses() == [200, 200, 206, 206, 201, 201]
    assert client.get(url).data == content
    assert client.get("/_status").json["damaged_blobs"] == 0


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_manifest_is_unknown(
    damaged: Callable[[Digest, Damage], FlaskClient], damage: Damage
) -> None:
    """To HEAD and GET, by tag and digest; other tags are served and listed, and a push heals it."""
    client, url = damaged(IMAGE.digest, damage), f"/v2/{NAME}/manifests"
    accept = {"Accept": IMAGE.media_type}
    assert client.get(f"{url}/v2", headers=accept).json["errors"][0]["code"] == "MANIFEST_UNKNOWN"
    for reference in ("v2", IMAGE.digest):
        assert client.head(f"{url}/{reference}", headers=accept).status_code == 404
    assert client.get(f"{url}/whole", headers=accept).data == OTHER.manifest
    assert client.get(f"/v2/{NAME}/tags/list").json["tags"] == ["v1", "v2", "whole"]
    assert client.get(f"/v1/repositories/{NAME}/tags").json.keys() == {"v1", "whole"}
    assert client.get(f"/v1/repositories/{NAME}/images").status_code == 200
    answer = client.put(f"{url}/v2", data=IMAGE.manifest, content_type=IMAGE.media_type)
    assert answer.status_code == 201
    assert client.get(f"{url}/v2", headers=accept).data == IMAGE.manifest
    assert client.get(f"/v1/repositories/{NAME}/tags").json.keys() == {"v1", "v2", "whole"}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("part", ["json", "layer"])
def test_a_v1_push_heals_a_v1_image(
    damaged: Callable[[Digest, Damage], FlaskClient],
    catalog: Catalog,
    store: FilesystemStore,
    part: str,
    damage: Damage,
) -> None:
    """The image is unknown to the client that asks, and then sends it; JSON and layer are back."""
    pushed = CHAIN[0]
    digest, url = Digest.of(getattr(pushed, part)), f"/v1/images/{pushed.id}"
    client = damaged(digest, damage)
    if (part, damage) == ("layer", flip):  # found by reading it
        assert build_registry(catalog, store).integrity.verify(digest) is False
    assert client.get(f"{url}/json", headers=TOKEN).status_code == 404
    if part == "layer":
        assert client.get(f"{url}/layer", headers=TOKEN).status_code == 404
    assert client.get(f"/v1/images/{CHAIN[1].id}/json", headers=TOKEN).status_code == 200
    assert client.get(f"/v1/repositories/{NAME}/tags").json.keys() == {"v1", "v2", "whole"}
    checksum = payload_hasher(pushed.json)
    checksum.update(pushed.layer)
    headers = TOKEN | {"X-Docker-Checksum-Payload": str(checksum.digest())}
    for path, data, sent in (
        ("json", pushed.json, TOKEN),
        ("layer", pushed.layer, TOKEN),
        ("checksum", b"", headers),
    ):
        assert client.put(f"{url}/{path}", data=data, headers=sent).status_code == 200
    for each in ("json", "layer"):
        assert client.get(f"{url}/{each}", headers=TOKEN).data == getattr(pushed, each)
    assert client.put(f"{url}/json", data=pushed.json, headers=TOKEN).status_code == 409


def test_another_image_does_not_take_the_place_of_a_lost_one(
    damaged: Callable[[Digest, Damage], FlaskClient],
) -> None:
    """Neither another JSON, nor a layer of other files; the same files in another compression do."""
    pushed = CHAIN[0]
    url = f"/v1/images/{pushed.id}"
    client = damaged(Digest.of(pushed.layer), lose)
    other = json.dumps(json.loads(pushed.json) | {"comment": "other"}).encode()
    assert client.put(f"{url}/json", data=other, headers=TOKEN).status_code == 409
    assert client.put(f"{url}/json", data=pushed.json, headers=TOKEN).status_code == 200
    wrong = builders.layer({"evil": b"x"})
    assert client.put(f"{url}/layer", data=wrong, headers=TOKEN).status_code == 409
    assert client.get(f"{url}/layer", headers=TOKEN).status_code == 404
    plain = builders.tar({"c": b"c" * 900})
    assert client.put(f"{url}/layer", data=plain, headers=TOKEN).status_code == 200
    checksum = payload_hasher(pushed.json)
    checksum.update(plain)
    headers = TOKEN | {"X-Docker-Checksum-Payload": str(checksum.digest())}
    assert client.put(f"{url}/checksum", headers=headers).status_code == 200
    got = client.get(f"{url}/json", headers=TOKEN)
    assert got.headers["X-Docker-Payload-Checksum"] == str(checksum.digest())
    assert client.get(f"{url}/layer", headers=TOKEN).data == plain


@pytest.mark.parametrize("accel", ["", "/_blobs/"])
def test_a_wrong_size_in_the_catalog_is_corrected(
    catalog: Catalog, store: FilesystemStore, accel: str
) -> None:
    """By the next push of the same bytes, whose size is known; no other length is ever promised."""
    registry = build_registry(catalog, store)
    push_v2(registry, NAME, Tag("v2"), IMAGE)
    digest, client = Digest.of(IMAGE.config), client_of(registry, x_accel_prefix=accel)
    with catalog.engine.begin() as connection:
        connection.execute(update(Blobs).where(Blobs.digest == digest).values(size=Blobs.size + 7))
    url = f"/v2/{NAME}/blobs/{digest}"
    assert [client.head(url).status_code, client.get(url).status_code] == [404, 404]
    assert _pushed(client, IMAGE.config) == 201
    assert client.head(url).headers["Content-Length"] == str(len(IMAGE.config))
    answer = client.get(url)
    assert answer.headers.get("X-Accel-Redirect") or answer.data == IMAGE.config


def test_a_blob_with_another_digest_is_quarantine(
    damaged: Callable[[Digest, Damage], FlaskClient], catalog: Catalog, store: FilesystemStore, tmp_path: Path
) -> None:
    """Its bytes stay for the operator; one that was pushed again meanwhile is left alone."""
    digest = Digest.of(IMAGE.layers[0])
    client = damaged(digest, flip)
    wrong = store.path(digest).read_bytes()
    with store.open(digest) as reader:
        assert _pushed(client, IMAGE.layers[0]) == 201
        assert store.quarantine(digest, reader) is False
    flip(store.path(digest))
    assert build_registry(catalog, store).integrity.verify(digest) is False
    assert client.head(f"/v2/{NAME}/blobs/{digest}").status_code == 404
    assert (tmp_path / f"store/corrupt/sha256-{digest.hex}").read_bytes() == wrong


def test_an_index_of_a_lost_manifest_is_refused(damaged: Callable[[Digest, Damage], FlaskClient]) -> None:
    """A client that pushes the manifest first is served."""
    client = damaged(IMAGE.digest, lose)
    put = {"data": builders.index(IMAGE), "content_type": media_types.OCI_INDEX}
    refused = client.put(f"/v2/{NAME}/manifests/index", **put)
    assert refused.json["errors"][0]["code"] == "MANIFEST_BLOB_UNKNOWN"
    client.put(f"/v2/{NAME}/manifests/{IMAGE.digest}", data=IMAGE.manifest, content_type=IMAGE.media_type)
    assert client.put(f"/v2/{NAME}/manifests/index", **put).status_code == 201


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_v1_image_whose_json_is_damaged_is_no_other_image(
    damaged: Callable[[Digest, Damage], FlaskClient], catalog: Catalog, store: FilesystemStore, damage: Damage
) -> None:
    """What it means cannot be compared any more."""
    pushed = CHAIN[0]
    damaged(Digest.of(pushed.json), damage)
    registry = build_registry(catalog, store)
    row = registry.v1_images.get(NAME, pushed.id)
    other = json.dumps(json.loads(pushed.json), indent=1).encode()
    images = [(replace(row, json=Digest.of(other)), other)]
    repository = RepositoryRow(row.repository_id, NAME)
    compared = recorded_as(registry.state, registry.documents, repository, images)
    assert compared.contradicted == [pushed.id]
