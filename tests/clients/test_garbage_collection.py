"""The reference registry's garbage collection, on a folder that dualreg serves."""

import gzip
import json
import lzma
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from dualreg.assembly import open_registry
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry import Registry
from dualreg.settings import Settings
from tests import builders
from tests.apps import client_of
from tests.migrate.commands import command
from tests.migrate.stock_trees import LAYERS, StockTree
from tests.programs import require
from tests.properties.registries import push_v1
from tests.protocol.clients.libtrust import verified

pytestmark = pytest.mark.client
READERS = (media_types.DOCKER_MANIFEST, media_types.OCI_MANIFEST, media_types.SCHEMA1_SIGNED)
#: The repositories of the other registry, and one that V1 clients push to.
IMPORTED, PUSHED = ("team/app", "team/old"), "team/v1"


@contextmanager
def opened(data: Path) -> Iterator[tuple[Registry, FlaskClient]]:
    """Open the registry anew, with nothing in memory."""
    registry = open_registry(Settings(data=data))
    try:
        yield registry, client_of(registry)
    finally:
        registry.close()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The folder of another registry, with schema 1 of several of its releases, imported in place."""
    tree = StockTree(tmp_path / "data")
    images = [builders.image(LAYERS["a"], LAYERS["b"]), builders.image(LAYERS["a"], architecture="arm64")]
    for number, image in enumerate(images):
        tree.image("team/app", image, f"image{number}")
    tree.manifest("team/app", builders.index(*images), "index")
    tree.schema1("team/old", "1", LAYERS["c"], LAYERS["d"])
    tree.schema1("team/old", "2", LAYERS["c"], signed=False)
    command(tree.root, f"run registry-tree:{tree.root}")
    return tree.root


def collect_garbage(data: Path, *flags: str) -> set[str]:
    """Run the stock garbage collection; return the hex digests of what it deleted."""
    require("docker-registry", package="docker-registry")
    configuration = data.parent / "registry.json"
    storage = {"filesystem": {"rootdirectory": str(data)}, "delete": {"enabled": True}}
    configuration.write_text(json.dumps({"version": "0.1", "storage": storage, "http": {"addr": ":0"}}))
    before = blobs(data)
    subprocess.run(
        ["docker-registry", "garbage-collect", *flags, configuration],
        check=True,
        capture_output=True,
        timeout=60,
    )
    return before - blobs(data)


def blobs(data: Path) -> set[str]:
    """Return the hex digests of all blobs."""
    return {path.parent.name for path in (data / "docker/registry/v2/blobs").rglob("data")}


def answers(client: FlaskClient, *names: str) -> Mapping[str, bytes]:
    """Return what V1 clients, and V2 clients of each kind, are given of some repositories."""
    found = {}
    for name in names:
        headers = {"Authorization": f'Token repository="{name}"'}
        for tag, image in client.get(f"/v1/repositories/{name}/tags").json.items():  # type: ignore[union-attr]
            for each in client.get(f"/v1/images/{image}/ancestry", headers=headers).json or ():
                for part in ("json", "layer"):
                    answer = client.get(f"/v1/images/{each}/{part}", headers=headers)
                    found[f"{name} {tag} {each} {part}"] = answer.data
        found |= manifests(client, name)
    return found


def manifests(client: FlaskClient, name: str) -> Mapping[str, bytes]:
    """Return what V2 clients of each kind are given of a repository, without signatures."""
    found = {}
    for tag in client.get(f"/v2/{name}/tags/list").json["tags"]:  # type: ignore[index]  # a document
        for accept in READERS:
            answer = client.get(f"/v2/{name}/manifests/{tag}", headers={"Accept": accept})
            assert answer.status_code == 200
            found[f"{tag} {accept}"] = verified(answer.data) if b"signatures" in answer.data else answer.data
            config = json.loads(answer.data).get("config", {}).get("digest")
            if config:
                found[config] = client.get(f"/v2/{name}/blobs/{config}").data
    return found


@pytest.mark.slow
@pytest.mark.parametrize("heal", ["clients", "run"])
@pytest.mark.parametrize("flags", [(), ("--delete-untagged",)], ids=["plain", "untagged"])
def test_what_was_derived_comes_again(data: Path, flags: tuple[str, ...], heal: str) -> None:
    """When a client asks for it, or by another run; ``verify`` names it until then."""
    source = f"registry-tree:{data}"
    with opened(data) as (_, client):
        before = answers(client, *IMPORTED)
    lost = collect_garbage(data, *flags)
    assert len(lost) >= 9
    exclude = (
        "--exclude team/app:index" if flags else ""
    )  # the other registry deletes entries of indexes, too
    told = command(data, f"verify {source} {exclude}", code=1).output
    assert "the next run derives it again" in told
    assert "its signatures: missing from the store" in told
    if heal == "run":
        command(data, f"run {source} {exclude}")
        command(data, f"verify {source} {exclude}")
    with opened(data) as (_, client):
        assert answers(client, *IMPORTED) == before
    command(data, f"verify {source} {exclude}")


@pytest.mark.slow
def test_what_v1_clients_pushed_is_lost(data: Path) -> None:
    """JSONs, and layers that no manifest names: ``verify`` names them; V2 clients miss nothing."""
    plain = gzip.decompress(LAYERS["f"])
    chain = builders.v1_chain(LAYERS["e"], lzma.compress(plain))
    with opened(data) as (registry, client):
        push_v1(registry, RepositoryName(PUSHED), Tag("1"), chain)
        before = manifests(client, PUSHED)
    lost = collect_garbage(data)
    assert {Digest.of(image.json).hex for image in chain} < lost
    assert Digest.of(chain[1].layer).hex in lost
    told = command(data, f"verify registry-tree:{data} --include {PUSHED}", code=1).output
    for image in chain:
        assert f"V1 image {image.id}: JSON missing from the store" in told
    assert f"V1 image {chain[1].id}: layer missing from the store" in told
    with opened(data) as (_, client):
        after = manifests(client, PUSHED)
    # Schema 1 was made of the JSONs, and is now made of the config.
    lossless = {key for key in before if media_types.SCHEMA1_SIGNED not in key}
    assert after.keys() == before.keys() > lossless
    assert {key: after[key] for key in lossless} == {key: before[key] for key in lossless}
