"""Docker that cannot read zstd waits for the images of its own platform, not for all that an index lists."""

import gzip
import hashlib
import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from dualreg.catalog.database import Catalog
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.layer import regzip
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry import Registry, transcoding
from dualreg.registry.rules import Rules
from dualreg.registry.state import State
from dualreg.storage.filesystem import FilesystemStore
from dualreg.storage.links import Links
from dualreg.web import late
from tests import apps, builders
from tests.apps import client_of
from tests.builders import Image
from tests.conftest import GuardedStore
from tests.databases import empty_database
from tests.programs import until

NAME, TAG = RepositoryName("team/app"), Tag("1")
ARCHITECTURES = ("arm", "s390x", "amd64", "arm64")


def layer_of(architecture: str) -> bytes:
    """Return the layer of the image for an architecture."""
    return builders.layer({architecture: hashlib.shake_256(architecture.encode()).digest(9000)})


IMAGES = {each: builders.zstd_image(layer_of(each), architecture=each) for each in ARCHITECTURES}
TYPES = {
    "docker 20.10": (media_types.SCHEMA1_SIGNED, *media_types.IMAGES, *media_types.INDEXES),
    "docker 1.13": (media_types.SCHEMA1_SIGNED, media_types.DOCKER_MANIFEST, media_types.DOCKER_LIST),
}
RELEASES = {"docker 20.10": "docker/20.10.24 go/go1.18", "docker 1.13": "docker/1.13.1 go/go1.7.5"}
INDEX_TYPES = {"docker 20.10": media_types.OCI_INDEX, "docker 1.13": media_types.DOCKER_LIST}


def headers(docker: str, architecture: str = "amd64") -> dict[str, str]:
    """Return what a release of Docker sends."""
    agent = f"{RELEASES[docker]} kernel/5.15 os/linux arch/{architecture} UpstreamClient(x)"
    return {"Accept": ", ".join(TYPES[docker]), "User-Agent": agent}


#: Clients that do not say which system they want an image for.
OTHERS: Mapping[str, Mapping[str, str]] = {
    "containerd 1.4": {"Accept": ", ".join(TYPES["docker 20.10"]), "User-Agent": "containerd/1.4.13"},
    "docker 20.10": {"Accept": ", ".join(TYPES["docker 20.10"]), "User-Agent": "docker/20.10.0-dev"},
    "docker types": {"Accept": ", ".join(TYPES["docker 1.13"][1:]), "User-Agent": "crane/0.1"},
}


class Gate:
    """Lets the layers of some architectures be compressed, and notes with which it was begun."""

    def __init__(self) -> None:
        """Hold up all."""
        self.opened = {each: threading.Event() for each in ARCHITECTURES}
        self.begun, self.broken = list[str](), set[str]()

    def __call__(self, chunks: Iterable[bytes], *updates: Any) -> Iterator[bytes]:
        """Compress a layer."""
        stored = b"".join(chunks)
        architecture = next(each for each in ARCHITECTURES if IMAGES[each].layers[0] == stored)
        self.begun.append(architecture)
        assert self.opened[architecture].wait(30)
        yield from regzip([stored, b"more" if architecture in self.broken else b""], *updates)

    def open(self, *architectures: str) -> None:
        """Go on with the layers of architectures; without any, of all."""
        for each in architectures or ARCHITECTURES:
            self.opened[each].set()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """What holds up the compression in this process; answers that wait send a byte each time they look."""
    gate = Gate()
    monkeypatch.setattr(transcoding, "regzip", gate)
    monkeypatch.setattr(late, "_INTERVAL", 0.0)
    monkeypatch.setattr(late, "_LOOK", 0.05)
    monkeypatch.setattr(apps, "COMPARING", False)  # an answer that waits is not like the next one
    yield gate
    gate.open()


def push(registry: Registry, images: Mapping[str, Image] = IMAGES) -> Digest:
    """Push an index of images for several architectures."""
    for image in images.values():
        for digest, blob in image.blobs.items():
            registry.uploads.ingest(NAME, [blob], expected=digest)
        registry.manifests.put(NAME, image.digest, image.media_type, image.manifest)
    payload = builders.index(*images.values(), architectures=[*images])
    registry.manifests.put(NAME, TAG, media_types.OCI_INDEX, payload)
    return Digest.of(payload)


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Registry]:
    """A registry that works in the background, with an index of images with zstd layers."""
    with empty_database(tmp_path) as url, closing(Catalog(url)) as catalog:
        store = FilesystemStore(tmp_path / "store")
        registry = Registry.build(State(catalog, store, Links(store)), Rules(transcoding_patience=0.05))
        push(registry)
        yield registry
        registry.transcoding.close()


def listed(http: FlaskClient, index: bytes) -> dict[str, bytes]:
    """Return the files of the images that an index lists, by their architectures; all can be pulled."""
    found = {}
    for entry in json.loads(index)["manifests"]:
        manifest = http.get(f"/v2/{NAME}/manifests/{entry['digest']}")
        assert (manifest.content_type, len(manifest.data)) == (entry["mediaType"], entry["size"])
        (layer,) = manifest.json["layers"]  # type: ignore[index]
        content = http.get(f"/v2/{NAME}/blobs/{layer['digest']}").data
        assert Digest.of(content) == Digest.parse(layer["digest"])
        found[entry["platform"]["architecture"]] = gzip.decompress(content)
    return found


def files(*architectures: str) -> dict[str, bytes]:
    """Return the files of the images for architectures."""
    return {each: gzip.decompress(layer_of(each)) for each in architectures}


@pytest.mark.slow
@pytest.mark.parametrize("docker", RELEASES)
@pytest.mark.parametrize("waits", [False, True])
def test_docker_waits_for_the_images_of_its_own_platform(
    serving: Registry, gate: Gate, docker: str, *, waits: bool
) -> None:
    """They come first. Once all are ready, it gets all; what it was given stays as long as the image."""
    http, url = client_of(serving), f"/v2/{NAME}/manifests/{TAG}"
    if waits:
        assert http.head(url, headers=headers(docker)).status_code == 429
        begun = http.get(url, headers=headers(docker))
        assert "Docker-Content-Digest" not in begun.headers
        threading.Timer(0.2, gate.open, ["amd64"]).start()
        body = begun.data
    else:
        gate.open("amd64")
        assert until(lambda: http.head(url, headers=headers(docker)).status_code == 200)
        body = http.get(url, headers=headers(docker)).data
    assert "amd64" in gate.begun[:2]  # two layers at once
    assert listed(http, body) == files("amd64")
    again = [http.get(url, headers=headers(docker)) for _ in range(2)]
    assert [each.data for each in again] == [body, body]
    assert again[0].content_type == INDEX_TYPES[docker]
    assert again[0].headers["Docker-Content-Digest"] == str(Digest.of(body))
    assert until(lambda: len(gate.begun) > 2)  # without a client that waits
    gate.open()
    assert until(lambda: http.get(url, headers=headers(docker)).data != body)
    assert listed(http, http.get(url, headers=headers(docker)).data) == files(*ARCHITECTURES)
    by_digest = f"/v2/{NAME}/manifests/{Digest.of(body)}"
    assert http.get(by_digest, headers=headers(docker, "arm")).data == body
    assert http.get(f"/v2/{NAME}/tags/list").json == {"name": NAME, "tags": [TAG]}
    assert http.delete(by_digest).status_code == 202
    assert http.get(url).status_code == http.get(by_digest).status_code == 404


@pytest.mark.parametrize("client", OTHERS)
def test_others_wait_for_all(serving: Registry, gate: Gate, client: str) -> None:
    """They choose when they have the index."""
    http, url = client_of(serving), f"/v2/{NAME}/manifests/{TAG}"
    gate.open("amd64")
    docker = "docker 1.13" if client == "docker types" else "docker 20.10"
    assert until(lambda: http.head(url, headers=headers(docker)).status_code == 200)
    assert http.head(url, headers=OTHERS[client]).status_code == 429
    begun = http.get(url, headers=OTHERS[client])
    threading.Timer(0.2, gate.open).start()
    assert listed(http, begun.data) == files(*ARCHITECTURES)
    assert http.get(url, headers=headers(docker)).data == begun.data


@pytest.mark.slow
def test_each_platform_has_an_index_of_its_own(serving: Registry, gate: Gate) -> None:
    """All that were given can be pulled as long as the image is there; one without an image waits for all."""
    http, url = client_of(serving), f"/v2/{NAME}/manifests/{TAG}"
    given = {}
    for architecture in ("arm64", "s390x"):
        gate.open(architecture)
        wanted = headers("docker 20.10", architecture)
        assert until(lambda wanted=wanted: http.head(url, headers=wanted).status_code == 200)  # type: ignore[misc]
        given[architecture] = http.get(url, headers=wanted).data
        assert listed(http, given[architecture]) == files(architecture)
    assert http.head(url, headers=headers("docker 20.10", "ppc64le")).status_code == 429
    gate.open()
    wanted = headers("docker 20.10", "ppc64le")
    assert until(lambda: http.head(url, headers=wanted).status_code == 200)
    assert listed(http, http.get(url, headers=wanted).data) == files(*ARCHITECTURES)
    for each in given.values():
        assert http.get(f"/v2/{NAME}/manifests/{Digest.of(each)}").data == each


@pytest.mark.slow
def test_a_layer_of_another_platform_that_cannot_be_read(serving: Registry, gate: Gate) -> None:
    """Neither one that was pushed so nor one that is damaged in the store keeps others from theirs."""
    http, url = client_of(serving), f"/v2/{NAME}/manifests/{TAG}"
    path = serving.state.store.path(Digest.of(IMAGES["s390x"].layers[0]))  # type: ignore[attr-defined]  # files
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-9] + b"x" * 9)
    gate.broken.add("arm")
    gate.open()
    for architecture in ("amd64", "arm64"):
        wanted = headers("docker 20.10", architecture)
        assert until(lambda wanted=wanted: http.head(url, headers=wanted).status_code == 200)  # type: ignore[misc]
        for _ in range(3):
            found = listed(http, http.get(url, headers=wanted).data)
            assert found[architecture] == files(architecture)[architecture]
            assert found.keys() <= {"amd64", "arm64"}


@pytest.mark.slow
def test_one_that_is_lost(registry: Registry, store: GuardedStore, gate: Gate) -> None:
    """It is made again, as those same bytes."""
    source = push(registry)
    serving = Registry.build(registry.state, Rules(transcoding_patience=0.05))
    http, wanted = client_of(serving), headers("docker 1.13")
    url = f"/v2/{NAME}/manifests/{TAG}"
    gate.open("amd64")
    assert until(lambda: http.head(url, headers=wanted).status_code == 200)
    given = Digest.of(body := http.get(url, headers=wanted).data)
    gate.open()
    assert until(lambda: http.get(url, headers=wanted).data != body)
    serving.transcoding.close()
    assert given in {blob.digest for blob in registry.derived.blobs(NAME, source)}
    store.delete(given)
    fresh = client_of(registry.over(registry.state))
    assert fresh.get(f"/v2/{NAME}/manifests/{given}").data == body
