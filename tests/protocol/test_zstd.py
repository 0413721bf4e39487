"""Clients that cannot read zstd get gzip, and wait for it as their release does."""

import gzip
import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from dualreg.catalog.database import Catalog
from dualreg.image import layer, media_types
from dualreg.image.digest import Digest
from dualreg.image.inflater import Compression
from dualreg.image.jws import verified_payload
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry import Registry, transcoding
from dualreg.registry.rules import Rules
from dualreg.registry.state import State
from dualreg.storage.filesystem import FilesystemStore
from dualreg.storage.links import Links
from dualreg.web import late
from tests import apps, builders
from tests.apps import client_of
from tests.databases import empty_database
from tests.properties.registries import push_v1, push_v2

NAME = RepositoryName("team/app")
LAYERS = [builders.layer({"a": hashlib.shake_256(b"a").digest(90_000)}), builders.layer({"b": b"b" * 900})]
IMAGE = builders.zstd_image(*LAYERS)
DOCKER_TYPES = f"{media_types.DOCKER_MANIFEST}, {media_types.DOCKER_LIST}, {media_types.SCHEMA1_SIGNED}"
TOKEN = {"Authorization": f'Token signature=0,repository="{NAME}",access=read'}


class Gate:
    """Holds up the compression of layers until it is opened; then it may fail."""

    def __init__(self) -> None:
        """Start closed."""
        self.opened, self.failure = threading.Event(), b""

    def __call__(self, chunks: Iterable[bytes], *updates: Callable[[bytes], None]) -> Iterator[bytes]:
        """Compress a layer."""
        assert self.opened.wait(30)
        yield from layer.regzip([*chunks, self.failure], *updates)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    """What holds up the compression in this process; answers that wait send a byte each time they look."""
    gate = Gate()
    monkeypatch.setattr(transcoding, "regzip", gate)
    monkeypatch.setattr(late, "_INTERVAL", 0.0)
    monkeypatch.setattr(apps, "COMPARING", False)  # an answer that waits is not like the next one
    return gate


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Registry]:
    """A registry that works in the background, with an image of zstd layers."""
    with empty_database(tmp_path) as url, closing(Catalog(url)) as catalog:
        store = FilesystemStore(tmp_path / "store")
        registry = Registry.build(State(catalog, store, Links(store)), Rules(transcoding_patience=0.05))
        push_v2(registry, NAME, Tag("1"), IMAGE)
        yield registry
        registry.transcoding.close()


def test_v1_clients_wait_for_layers_only(serving: Registry, gate: Gate) -> None:
    """Tags and JSONs do not wait. A layer comes slowly at first, and is the gzip of the same files."""
    client = client_of(serving)
    top = client.get(f"/v1/repositories/{NAME}/tags").json["1"]
    ancestry = client.get(f"/v1/images/{top}/ancestry", headers=TOKEN).json
    jsons, layers = ([f"/v1/images/{each}/{what}" for each in ancestry] for what in ("json", "layer"))
    for url in jsons:
        assert client.get(url, headers=TOKEN).headers["X-Docker-Size"] == "-1"
    with ThreadPoolExecutor() as pool:
        pulls = [pool.submit(client_of(serving).get, url, headers=TOKEN) for url in layers]
        threading.Timer(0.5, gate.opened.set).start()
        answers = [each.result(30) for each in pulls]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert [gzip.decompress(answer.data) for answer in answers] == [*map(gzip.decompress, LAYERS[::-1])]
    assert not any("Content-Length" in answer.headers for answer in answers)
    for url, about, answer in zip(layers, jsons, answers, strict=True):
        again = client.get(url, headers=TOKEN)
        assert (again.data, again.content_length) == (answer.data, len(answer.data))
        assert client.get(about, headers=TOKEN).headers["X-Docker-Size"] == str(len(answer.data))


def test_a_layer_that_fails_ends_the_connection(serving: Registry, gate: Gate) -> None:
    """The client has a part, and is not led to believe that it is all."""
    gate.failure = b"more"
    client = client_of(serving)
    top = client.get(f"/v1/repositories/{NAME}/tags").json["1"]
    threading.Timer(0.5, gate.opened.set).start()
    begun = client.get(f"/v1/images/{top}/layer", headers=TOKEN)
    assert begun.status_code == 200
    with pytest.raises(ConnectionResetError):
        _ = begun.data
    refused = client.get(f"/v1/images/{top}/layer", headers=TOKEN)
    assert refused.status_code == 400
    assert "cannot be uncompressed" in refused.json["error"]


def test_those_who_cannot_wait_are_told_when_to_come_again(serving: Registry, gate: Gate) -> None:
    """Half of the threads may wait."""
    app = apps.application(serving, threads=2)
    top = app.test_client().get(f"/v1/repositories/{NAME}/tags").json["1"]
    url = f"/v1/images/{top}/layer"
    first = app.test_client().get(url, headers=TOKEN)
    second = app.test_client().get(url, headers=TOKEN)
    assert (second.status_code, second.headers["Retry-After"]) == (429, "10")
    gate.opened.set()
    assert gzip.decompress(first.data) == gzip.decompress(LAYERS[1])
    assert app.test_client().get(url, headers=TOKEN).status_code == 200


def test_v1_pushes_onto_zstd_layers(serving: Registry) -> None:
    """The manifest of what is pushed has gzip layers only; the push waits for them."""
    base = serving.bridge.tags(NAME)[Tag("1")]
    (top,) = builders.v1_chain(builders.layer({"c": b"c"}), seed="top")
    document = json.dumps(json.loads(top.json) | {"parent": base}).encode()
    push_v1(serving, NAME, Tag("on"), [builders.V1Pushed(top.id, document, top.layer)])
    http = client_of(serving)
    manifest = http.get(f"/v2/{NAME}/manifests/on").json
    contents = [http.get(f"/v2/{NAME}/blobs/{digest}").data for digest in layers_of(http, manifest)]
    assert [*map(gzip.decompress, contents)] == [*map(gzip.decompress, [*LAYERS, top.layer])]


def test_files_of_zstd_layers_are_listed(serving: Registry) -> None:
    """Without a gzip edition."""
    client = client_of(serving)
    top = client.get(f"/v1/repositories/{NAME}/tags").json["1"]
    listed = client.get(f"/v1/images/{top}/files", headers=TOKEN).json
    assert [each[0] for each in listed] == ["b"]


#: Headers of clients that get the image without zstd.
CLIENTS: Mapping[str, Mapping[str, str]] = {
    "docker 20.10": {
        "Accept": f"{DOCKER_TYPES}, {media_types.OCI_MANIFEST}, {media_types.OCI_INDEX}",
        "User-Agent": "docker/20.10.24 go/1",
    },
    "docker 1.13": {"Accept": DOCKER_TYPES, "User-Agent": "docker/1.13.1 go/go1.7.5"},
    "docker 1.9": {"User-Agent": "docker/1.9.1 go/go1.4.3"},
}


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("client", CLIENTS)
def test_manifests_come_when_their_layers_are_ready(
    serving: Registry, gate: Gate, client: str, *, listed: bool
) -> None:
    """HEAD does not wait. What GET sends slowly is, byte for byte, what it is called afterwards."""
    headers = CLIENTS[client]
    if listed:
        listing = builders.index(IMAGE, architectures=["amd64"])
        serving.manifests.put(NAME, Tag("1"), media_types.OCI_INDEX, listing)
    url, http = f"/v2/{NAME}/manifests/1", client_of(serving)
    refused = http.head(url, headers=headers)
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "10")
    begun = http.get(url, headers=headers)
    assert begun.status_code == 200
    assert "Docker-Content-Digest" not in begun.headers
    threading.Timer(0.5, gate.opened.set).start()
    body = begun.data
    again = http.get(url, headers=headers)
    assert again.headers["Content-Type"] == begun.headers["Content-Type"]
    assert (
        http.head(url, headers=headers).headers["Docker-Content-Digest"]
        == again.headers["Docker-Content-Digest"]
    )
    assert again.data == body if client != "docker 1.9" else same_payload(again.data, body)
    for digest in layers_of(http, json.loads(body)):
        content = http.get(f"/v2/{NAME}/blobs/{digest}", headers=headers)
        assert Digest.of(content.data) == Digest.parse(digest)
        assert content.data.startswith(Compression.GZIP.value)


def same_payload(one: bytes, other: bytes) -> bool:
    """Return whether two signed manifests differ in their signatures only."""
    return verified_payload(one) == verified_payload(other)


def layers_of(http: FlaskClient, manifest: Mapping[str, Any]) -> list[str]:
    """Return the digests of the layers of an image, or of the image that an index lists."""
    if "manifests" in manifest:
        (entry,) = manifest["manifests"]
        manifest = json.loads(http.get(f"/v2/{NAME}/manifests/{entry['digest']}").data)
    if "fsLayers" in manifest:
        return [each["blobSum"] for each in manifest["fsLayers"]]
    return [each["digest"] for each in manifest["layers"]]


@pytest.mark.parametrize("client", CLIENTS)
def test_a_manifest_whose_layers_cannot_be_read(serving: Registry, gate: Gate, client: str) -> None:
    """Those who wait have a part of it; who comes later is told the reason."""
    gate.failure = b"more"
    headers = CLIENTS[client]
    url, http = f"/v2/{NAME}/manifests/1", client_of(serving)
    begun = http.get(url, headers=headers)
    gate.opened.set()
    with pytest.raises(ConnectionResetError):
        _ = begun.data
    refused = http.get(url, headers=headers)
    assert refused.status_code == 406
    assert "cannot be uncompressed" in refused.json["errors"][0]["message"]


def test_a_tag_that_moves_while_a_client_waits(serving: Registry, gate: Gate) -> None:
    """The client gets no mixture of two manifests."""
    http = client_of(serving)
    begun = http.get(f"/v2/{NAME}/manifests/1", headers=CLIENTS["docker 20.10"])
    parts = begun.iter_encoded()
    assert next(parts) == b"{"
    push_v2(serving, NAME, Tag("1"), builders.image(*LAYERS))
    gate.opened.set()
    with pytest.raises(ConnectionResetError):
        b"".join(parts)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_tag_that_moves_before_anything_is_sent(
    serving: Registry, gate: Gate, monkeypatch: pytest.MonkeyPatch, client: str
) -> None:
    """The client gets the image that needs no layers to be made."""
    headers = CLIENTS[client]
    find, moved = type(serving.negotiation).find, builders.image(*LAYERS)

    def moving(*given: Any, **more: Any) -> Any:
        try:
            return find(*given, **more)
        finally:
            push_v2(serving, NAME, Tag("1"), moved)

    monkeypatch.setattr(type(serving.negotiation), "find", moving)
    answer = client_of(serving).get(f"/v2/{NAME}/manifests/1", headers=headers)
    assert answer.status_code == 200
    assert layers_of(client_of(serving), json.loads(answer.data))[0] in {
        str(Digest.of(each)) for each in LAYERS
    }
    gate.opened.set()


def test_layers_that_were_collected_are_made_again(client: FlaskClient, registry: Registry) -> None:
    """For an image that was deleted and pushed again, of which the server remembers the schema 1 manifest."""

    def pull() -> dict[str, bytes]:
        answer = client.get(f"/v2/{NAME}/manifests/1", headers=CLIENTS["docker 1.9"])
        layers = layers_of(client, json.loads(verified_payload(answer.data)))
        return {digest: client.get(f"/v2/{NAME}/blobs/{digest}").data for digest in layers}

    push_v2(registry, NAME, Tag("1"), IMAGE)
    files = pull()
    assert [*map(gzip.decompress, files.values())] == [*map(gzip.decompress, LAYERS[::-1])]
    registry.manifests.delete(NAME, IMAGE.digest)
    for digest in files:
        registry.blobs.delete(NAME, Digest.parse(digest))
    push_v2(registry, NAME, Tag("1"), IMAGE)
    assert pull() == files
