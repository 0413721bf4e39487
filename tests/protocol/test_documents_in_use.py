"""Manifests that no specification allows, but that programs wrote and other registries took."""

import json

import pytest

from dualreg.assembly import build_registry
from dualreg.catalog.database import Catalog
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.settings import Settings
from dualreg.storage.memory import MemoryStore
from tests import builders
from tests.apps import client_of
from tests.documents import IMAGE, IN_USE
from tests.protocol.exchange import push_image, v2_codes

PATH = "/v2/team/app/manifests"


@pytest.mark.slow
@pytest.mark.parametrize("strict", [False, True], ids=["lenient", "strict"])
@pytest.mark.parametrize("by", ["tag", "digest"])
def test_documents_in_use(catalog: Catalog, store: MemoryStore, by: str, *, strict: bool) -> None:
    """Taken as they are, with a warning for each wrong size; with strict_manifests, only if all are right."""
    settings = Settings(strict_manifests=strict, notice='moving "soon"')
    client = client_of(build_registry(catalog, store, settings), settings)
    push_image(client, "team/app", IMAGE, str(IMAGE.digest))
    for number, (name, document) in enumerate(IN_USE.items()):
        digest = Digest.of(document.payload)
        path = f"{PATH}/{digest if by == 'digest' else f't{number}'}"
        answer = client.put(path, data=document.payload, content_type=document.media_type)
        notice, *warnings = sorted(answer.headers.getlist("Warning"), key=lambda text: "moving" not in text)
        assert notice == '299 - "moving \\"soon\\""'
        if strict and not document.sizes:
            assert (name, answer.status_code, v2_codes(answer)) == (name, 400, ["SIZE_INVALID"])
            assert client.get(path).status_code == 404
            continue
        assert (name, answer.status_code, len(warnings)) == (name, 201, not document.sizes)
        assert all(text.startswith('299 - "sha256:') for text in warnings)
        got = client.get(path, headers={"Accept": document.media_type})
        assert (got.data, got.content_type) == (document.payload, document.media_type)
        assert client.delete(f"{PATH}/{digest}").status_code == 202


def test_many_wrong_sizes_are_summed_up(catalog: Catalog, store: MemoryStore) -> None:
    """Warnings have to fit into 4,096 bytes."""
    client = client_of(build_registry(catalog, store))
    image = builders.image(*(builders.layer({str(number): b""}) for number in range(40)))
    push_image(client, "team/app", image)
    document = json.loads(image.manifest)
    for layer in document["layers"]:
        layer["size"] += 1
    answer = client.put(f"{PATH}/1", json=document, content_type=image.media_type)
    warnings = answer.headers.getlist("Warning")
    assert answer.status_code == 201
    assert sum(map(len, warnings)) < 4096
    assert warnings[-1] == f'299 - "{40 - len(warnings) + 1} more sizes in the manifest are wrong"'


def test_wrong_sizes_stay_in_the_document(catalog: Catalog, store: MemoryStore) -> None:
    """V1 and schema 1 clients get the real sizes of content, not the stated ones."""
    client = client_of(build_registry(catalog, store))
    push_image(client, "team/app", IMAGE)
    document = json.loads(IMAGE.manifest)
    for descriptor in (document["config"], *document["layers"]):
        descriptor["size"] = 1
    answer = client.put(f"{PATH}/1", json=document, content_type=IMAGE.media_type)
    assert answer.status_code == 201
    top = client.get("/v1/repositories/team/app/tags/1").json
    shown = client.get(f"/v1/images/{top}/json", headers={"X-Docker-Token": "true"})
    assert int(shown.headers["X-Docker-Size"]) == len(IMAGE.layers[0])
    old = client.get(f"{PATH}/1", headers={"Accept": media_types.SCHEMA1_SIGNED})
    assert old.content_type == media_types.SCHEMA1_SIGNED


def test_a_config_is_not_read_into_memory_because_it_is_said_to_be_small(
    catalog: Catalog, store: MemoryStore
) -> None:
    """The limit on configs applies to their real size."""
    client = client_of(build_registry(catalog, store))
    image = builders.image(builders.layer({"a": b"b"}), padding="x" * (4 << 20))
    push_image(client, "team/app", image)
    document = json.loads(image.manifest)
    document["config"]["size"] = 2
    assert client.put(f"{PATH}/1", json=document, content_type=image.media_type).status_code == 201
    assert client.get("/v1/repositories/team/app/tags/1").status_code == 404
    old = client.get(f"{PATH}/1", headers={"Accept": media_types.SCHEMA1_SIGNED})
    assert old.status_code == 404


@pytest.mark.parametrize("name", ["a layer as entry", "a blob as entry, as if it were a manifest"])
def test_an_index_holds_its_blobs(catalog: Catalog, store: MemoryStore, name: str) -> None:
    """A build cache is an index of layers: it is pulled as it is, and its layers stay as long as it does.

    Clients that read no index get an error.
    """
    client, document = client_of(build_registry(catalog, store)), IN_USE[name]
    push_image(client, "team/app", IMAGE)
    layer = Digest.of(IMAGE.layers[0])
    missing = json.loads(document.payload)
    missing["manifests"][0]["digest"] = f"sha256:{'0' * 64}"
    refused = client.put(f"{PATH}/1", json=missing, content_type=document.media_type)
    assert (refused.status_code, v2_codes(refused)) == (400, ["MANIFEST_BLOB_UNKNOWN"])
    pushed = client.put(f"{PATH}/1", data=document.payload, content_type=document.media_type)
    assert pushed.status_code == 201
    for accept in (media_types.OCI_INDEX, "*/*"):
        assert client.get(f"{PATH}/1", headers={"Accept": accept}).data == document.payload
    assert client.get(f"{PATH}/1", headers={"Accept": media_types.OCI_MANIFEST}).status_code == 406
    assert client.get("/v1/repositories/team/app/tags/1").status_code == 406
    assert client.delete(f"/v2/team/app/blobs/{layer}").status_code == 405
    assert client.delete(f"{PATH}/{Digest.of(document.payload)}").status_code == 202
    assert client.delete(f"/v2/team/app/blobs/{layer}").status_code == 202
