"""What builders of today push, every release of Docker pulls: the same files, the same image."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.layer import inflated
from tests import builders
from tests.builders import Image
from tests.protocol.clients.v2 import DOCKER, DOCKER_1_10, OCI, ProtocolError, V2Client, V2Pulled
from tests.protocol.conftest import Served
from tests.protocol.everyone import OLD_PULLERS, OLD_PUSHERS, V1_PULLERS, Pull, Push, pushing_once
from tests.protocol.layers import OLD_LAYERS, files

SYSTEM = "go/go1.18 git-commit/x kernel/5.15 os/linux arch/amd64"


@dataclass
class Reader(V2Client):
    """A client that fails on what it cannot read, as its release does."""

    zstd: bool = True

    def pull(self, name: str, reference: str) -> V2Pulled:
        """Pull an image, and check that the client can unpack it."""
        pulled = super().pull(name, reference)
        types = {layer["mediaType"] for layer in json.loads(pulled.manifest)["layers"]}
        if pulled.media_type not in self.accept or (not self.zstd and any("zstd" in each for each in types)):
            raise ProtocolError(f"cannot read {pulled.media_type} with {types}")
        return pulled


#: Of clients that read configs: what they name, how they call themselves, whether they read zstd.
READERS = {
    "1.10": (DOCKER_1_10, f"docker/1.10.3 {SYSTEM}", False),
    "1.13": (DOCKER_1_10, f"docker/1.13.1 {SYSTEM} UpstreamClient(Docker-Client/1.13.1)", False),
    "17.09": (DOCKER_1_10, f"docker/17.09.1-ce {SYSTEM}", False),
    "20.10": (DOCKER, f"docker/20.10.24+dfsg1 {SYSTEM}", False),
    "28": (DOCKER, f"docker/28.0.0 {SYSTEM}", True),
    "oci": (OCI, "oras/1.2.0", True),
}


def reader(name: str, host: str) -> Reader:
    """Return the client of one row."""
    accept, agent, zstd = READERS[name]
    return Reader(host, accept, agent=agent, zstd=zstd)


def pulled_by(name: str) -> Pull:
    """Return the pull of one row."""
    return lambda host, repository, tag: reader(name, host).pull(repository, tag).layers


def pushed(make: Callable[[Sequence[bytes]], Image], *, indexed: bool = False) -> Push:
    """Return the push of an image, or of an index with another system's, and with an attestation of both."""

    def push(host: str, name: str, tag: str, layers: Sequence[bytes]) -> None:
        client, image = V2Client(host), make(layers)
        if not indexed:
            client.push(name, tag, image)
            return
        other, proof = make(layers[:1]), builders.artifact("application/vnd.in-toto+json", b"{}")
        systems = {"arm64": ("linux", other), "amd64": ("linux", image), "unknown": ("unknown", proof)}
        entries = []
        for architecture, (system, child) in systems.items():
            client.push(name, str(child.digest), child)
            platform = {"os": system, "architecture": architecture}
            entries.append(builders.descriptor(child.media_type, child.manifest, platform=platform))
        client.push_manifest(name, tag, media_types.OCI_INDEX, builders.index_of(*entries))

    return push


def zstd(layers: Sequence[bytes]) -> Image:
    """Return an OCI image with zstd layers."""
    return builders.zstd_image(*layers, os="linux")


def oci(layers: Sequence[bytes]) -> Image:
    """Return an OCI image with gzip layers."""
    return builders.image(*layers, oci=True)


MAKERS = {"zstd": zstd, "OCI": oci}
PUSHERS: dict[str, Push] = {
    **{name: pushed(make) for name, make in MAKERS.items()},
    **{f"{name} index": pushed(make, indexed=True) for name, make in MAKERS.items()},
    "1.9.1": OLD_PUSHERS["1.9.1"],
}
PULLERS: dict[str, Pull] = {**V1_PULLERS, **OLD_PULLERS, **{name: pulled_by(name) for name in READERS}}


@pytest.fixture(scope="module")
def pushed_once(served: Served) -> Callable[[str], str]:
    """Give the repository that a pusher has pushed to."""
    return pushing_once(served.host, PUSHERS)


def tar(layer: bytes) -> bytes:
    """Return what a client unpacks."""
    return b"".join(inflated([layer], zstd=True))


@pytest.mark.parametrize("puller", PULLERS)
@pytest.mark.parametrize("pusher", PUSHERS)
def test_every_release_pulls_images_of_today(
    served: Served, pushed_once: Callable[[str], str], pusher: str, puller: str
) -> None:
    """The same files in the same layers; blank ones may be left out."""
    layers = PULLERS[puller](served.host, pushed_once(pusher), "latest")
    tars = [tar(layer) for layer in layers]
    assert [found for each in tars if (found := files(each))] == [
        found for layer in OLD_LAYERS if (found := files(layer))
    ]


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("pusher", ["zstd", "OCI", "zstd index", "OCI index"])
def test_the_id_of_an_image_is_the_same_for_all(
    served: Served, pushed_once: Callable[[str], str], pusher: str, name: str
) -> None:
    """It is the digest of the config; and what the client got, it gets again by its digest."""
    repository, client = pushed_once(pusher), reader(name, served.host)
    pulled = client.pull(repository, "latest")
    assert pulled.config == MAKERS[pusher.removesuffix(" index")](OLD_LAYERS).config
    assert client.pull(repository, pulled.digest) == pulled
    assert Digest.of(pulled.manifest) == Digest.parse(pulled.digest)
