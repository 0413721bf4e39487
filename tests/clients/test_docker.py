"""Docker 20.10: push, mount, pull, run, search."""

import json
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from dualreg.catalog.database import Catalog
from dualreg.catalog.rows import Lease
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.registry.transcoding import LEASE
from dualreg.settings import Settings
from tests import builders
from tests.clients.conftest import Served
from tests.clients.tools import Failed, Tools
from tests.programs import until
from tests.protocol.clients.v2 import V2Client

pytestmark = pytest.mark.client


@pytest.fixture(scope="module")
def pushed(docker: Tools, layout: Path) -> str:
    """An image that docker loaded and pushed; its reference."""
    archive = docker.home / "app.tar"
    reference = f"{docker.host}/docker/app:1"
    docker.skopeo("copy", f"oci:{layout}:app", f"docker-archive:{archive}:{reference}")
    docker.docker("load", "-q", "-i", archive)
    docker.docker("push", "-q", reference)
    return reference


@pytest.mark.slow
def test_docker_pulls_what_it_pushed(docker: Tools, pushed: str) -> None:
    """An image that was removed locally comes back with the id it had."""
    before = docker.docker("image", "inspect", "-f", "{{.Id}}", pushed)
    docker.docker("rmi", "-f", before)
    docker.docker("pull", "-q", pushed)
    assert docker.docker("image", "inspect", "-f", "{{.Id}}", pushed) == before
    assert docker.raw("docker/app:1")["config"]["digest"] == before


def test_docker_pulls_what_others_pushed(docker: Tools, layout: Path) -> None:
    """An OCI image of skopeo's is the same image to docker; its files are those of all its layers."""
    docker.push("--format=oci", f"oci:{layout}:opaque", name="docker/opaque:1")
    reference = f"{docker.host}/docker/opaque:1"
    docker.docker("pull", "-q", reference)
    assert (
        docker.docker("image", "inspect", "-f", "{{.Id}}", reference)
        == docker.raw("docker/opaque:1")["config"]["digest"]
    )


@pytest.mark.slow
def test_docker_runs_what_it_pulled(docker: Tools, layout: Path) -> None:
    """In a container of the pulled image, the opaque folder hides what the layers below had in it."""
    docker.push("--format=oci", f"oci:{layout}:opaque", name="docker/run:1")
    run = ("run", "--rm", "--network=none", "--ulimit=nofile=1024:1024", f"{docker.host}/docker/run:1")
    assert docker.docker(*run) == "hello from layers"
    assert docker.docker(*run, "ls", "/data") == "only"


def push_zstd(docker: Tools, layout: Path, image: str, name: str) -> bytes:
    """Push an image, compressed with zstd, by skopeo; return its manifest."""
    plain, packed = (docker.home / f"{image}-{kind}" for kind in ("plain", "zstd"))
    docker.skopeo("copy", "--dest-decompress", f"oci:{layout}:{image}", f"dir:{plain}")
    docker.skopeo("copy", "--dest-compress", "--dest-compress-format=zstd", f"dir:{plain}", f"dir:{packed}")
    docker.push("--preserve-digests", f"dir:{packed}", name=f"{name}:{image}")
    payload = (packed / "manifest.json").read_bytes()
    types = {layer["mediaType"] for layer in json.loads(payload)["layers"]}
    assert types == {media_types.OCI_LAYER_ZSTD}
    return payload


@pytest.mark.slow
@pytest.mark.parametrize("indexed", [False, True], ids=["image", "index"])
def test_docker_runs_what_is_compressed_with_zstd(docker: Tools, layout: Path, *, indexed: bool) -> None:
    """It cannot read that, and gets gzip layers; what it prints as the digest can be pulled, too."""
    name = f"docker/zstd{indexed:d}"
    reference, app = f"{docker.host}/{name}:app", push_zstd(docker, layout, "app", name)
    if indexed:
        arm64 = push_zstd(docker, layout, "arm64", name)
        entries = [
            builders.descriptor(
                media_types.OCI_MANIFEST, payload, platform={"os": "linux", "architecture": architecture}
            )
            for architecture, payload in (("arm64", arm64), ("amd64", app))
        ]
        index = builders.index_of(*entries)
        V2Client(docker.host).push_manifest(name, "app", media_types.OCI_INDEX, index)
    (digest,) = re.findall(r"Digest: (sha256:\w+)", docker.docker("pull", reference))
    identity = docker.docker("image", "inspect", "-f", "{{.Id}}", reference)
    assert identity == json.loads(app)["config"]["digest"]
    run = ("run", "--rm", "--network=none", "--ulimit=nofile=1024:1024")
    assert docker.docker(*run, reference) == "hello from layers"
    docker.docker("rmi", reference)  # not by its ID, which an image of other tests has, too
    assert docker.docker(*run, f"{docker.host}/{name}@{digest}") == "hello from layers"


@contextmanager
def leased(served: Served, layer: bytes) -> Iterator[None]:
    """Have the registry wait for a layer's gzip edition, as if a process on another machine made it."""
    source, lease = Digest.of(layer), Lease("another's", "")
    with closing(Catalog(Settings(data=served.data).database_url)) as catalog:
        with catalog.begin() as tx:
            assert tx.transcoded.lease(source, lease, duration=LEASE)
        yield
        with catalog.begin() as tx:
            assert tx.transcoded.renew(source, lease.token, duration=LEASE)  # nobody else took it
            tx.transcoded.release(source, lease.token)


@pytest.mark.slow
def test_docker_does_not_wait_for_other_platforms(docker: Tools, layout: Path, served: Served) -> None:
    """It runs its image while a layer for another one is transcoded; the digest that it prints stays."""
    name, wire = "docker/platforms", V2Client(docker.host)
    app = push_zstd(docker, layout, "app", name)
    other = builders.zstd_image(builders.layer({"platform": b"another"}), architecture="arm64")
    wire.push(name, "arm64", other)
    entries = [
        builders.descriptor(
            media_types.OCI_MANIFEST, payload, platform={"os": "linux", "architecture": architecture}
        )
        for architecture, payload in (("arm64", other.manifest), ("amd64", app))
    ]
    wire.push_manifest(name, "app", media_types.OCI_INDEX, builders.index_of(*entries))
    reference = f"{docker.host}/{name}:app"
    run = ("run", "--rm", "--network=none", "--ulimit=nofile=1024:1024")
    with leased(served, *other.layers):
        (digest,) = re.findall(r"Digest: (sha256:\w+)", docker.docker("pull", reference))
        (entry,) = json.loads(wire.pull_manifest(name, digest)[1])["manifests"]
        assert entry["platform"]["architecture"] == "amd64"
        assert docker.docker(*run, reference) == "hello from layers"

    def has_other_digest() -> bool:
        return digest not in docker.docker("pull", reference)

    assert until(has_other_digest, 60)
    assert docker.docker(*run, f"{docker.host}/{name}@{digest}") == "hello from layers"


def test_docker_shows_why_it_gets_no_image(docker: Tools) -> None:
    """The reason is in what it prints."""
    wire, image = V2Client(docker.host), builders.zstd_image(builders.layer({"a": b"b"}))
    document = json.loads(image.manifest)
    document["layers"].append(builders.descriptor(f"{media_types.OCI_LAYER_GZIP}+encrypted", image.layers[0]))
    wire.push("docker/odd", "1", replace(image, manifest=json.dumps(document).encode()))
    with pytest.raises(Failed, match=r"unsupported: .*its layers are encrypted"):
        docker.docker("pull", f"{docker.host}/docker/odd:1")


def test_docker_mounts_layers_of_another_repository(docker: Tools, pushed: str, served: Served) -> None:
    """Pushed to a second repository, an image's layers are mounted from the first instead of sent again."""
    target = f"{docker.host}/docker/second:1"
    docker.docker("tag", pushed, target)
    docker.docker("push", "-q", target)
    mounted = re.compile(r'"POST /v2/docker/second/blobs/uploads/ HTTP/1.1" 201 ')  # an upload gets 202
    layers = len(docker.raw("docker/second:1")["layers"])
    assert until(lambda: len(mounted.findall(served.log.read_text())) == layers)
    assert served.log.read_text().count("PATCH /v2/docker/second/") == 1  # the config, which is no layer
    assert docker.raw("docker/second:1") == docker.raw("docker/app:1")


@pytest.mark.usefixtures("pushed")
def test_docker_search(docker: Tools) -> None:
    """``docker search HOST/TERM`` lists the repositories whose name contains the term."""
    found = docker.docker("search", "--format", "{{.Name}}", f"{docker.host}/ocker/ap")
    assert found.split() == ["docker/app"]
    assert docker.docker("search", "--format", "{{.Name}}", f"{docker.host}/nothing-like-it") == ""
