"""What sets one release of Docker before V2 apart from the next: to the registry it is all the same."""

from uuid import uuid4

import pytest

from tests import builders
from tests.builders import V1Pushed
from tests.protocol.clients.generation import SCHEMA1_RELEASES, V1_RELEASES, Generation
from tests.protocol.clients.tarsum import tarsum
from tests.protocol.clients.v1 import V1Client
from tests.protocol.clients.v2 import V2Client
from tests.protocol.clients.wire import ProtocolError
from tests.protocol.conftest import Served
from tests.protocol.layers import AUFS, BZIP2, EMPTY_OF_23_BYTES, NO_END, PLAIN, XZ, files

every_release = pytest.mark.parametrize("generation", V1_RELEASES, ids=lambda release: release.version)


@pytest.fixture
def name() -> str:
    """A repository that no other test uses, of the kind old clients can name."""
    return f"team/r{uuid4().hex[:12]}"


def chain_of(name: str, *layers: bytes) -> list[V1Pushed]:
    """Return a chain that no other test pushes."""
    return builders.v1_chain(*(layers or (NO_END, AUFS)), seed=name)


def test_the_tarsum_of_a_layer_without_entries_is_that_of_the_json() -> None:
    """The checksum is of what a layer holds; compression and the end of the archive do not count."""
    assert tarsum(b"abc", EMPTY_OF_23_BYTES) == (
        "tarsum+sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
    tar = builders.tar({"a": b"1"})
    assert tarsum(b"{}", tar) == tarsum(b"{}", builders.layer({"a": b"1"})) != tarsum(b"{}", NO_END)


@every_release
@pytest.mark.parametrize("user", ["me", None])
def test_a_bare_name_is_pulled_as_library(served: Served, generation: Generation, user: str | None) -> None:
    """``x`` is pushed and listed as ``x``, its tags are read from ``library/x``, and no login is needed."""
    bare = f"r{uuid4().hex[:12]}"
    client, chain = V1Client(served.host, user, generation), chain_of(bare)
    client.push(bare, "latest", chain)
    assert [(got.id, got.json, got.layer) for got in client.pull(bare, "latest")] == [
        (image.id, image.json, image.layer) for image in chain
    ]


@every_release
def test_a_push_of_what_is_there_sends_only_the_tag(
    served: Served, name: str, generation: Generation
) -> None:
    """Nothing is uploaded twice; all but 0.6.0, which forgets it, set the tag."""
    chain = chain_of(name)
    V1Client(served.host).push(name, "one", chain)
    client = V1Client(served.host, "me", generation)
    assert client.push(name, "two", chain) == []
    puts = [line.removeprefix(f"PUT /v1/repositories/{name}") for line in client.wire.log if "PUT" in line]
    if generation.version == "0.6.0":
        assert puts == ["/", "/images"]
        assert client.pull(name, "one")[-1].id == chain[-1].id
    else:
        assert puts == ["/", "/tags/two", "/images"]
        assert client.pull(name, "two")[-1].id == chain[-1].id


@every_release
def test_only_new_images_are_sent_onto_old_ones(served: Served, name: str, generation: Generation) -> None:
    """A child is pushed onto its parents, whether images are requested one by one or all at first."""
    chain = chain_of(name, NO_END, EMPTY_OF_23_BYTES, AUFS)
    client = V1Client(served.host, "me", generation)
    assert client.push(name, "old", chain[:2]) == [image.id for image in chain[:2]]
    assert client.push(name, "new", chain) == [chain[2].id]
    assert [got.id for got in client.pull(name, "new")] == [image.id for image in chain]


@pytest.mark.parametrize("generation", V1_RELEASES[:5], ids=lambda release: release.version)
def test_a_pull_without_a_tag_was_of_all(served: Served, name: str, generation: Generation) -> None:
    """Up to 1.2 every tag of the repository is pulled, and each is the image that it names."""
    chain = chain_of(name)
    client = V1Client(served.host, "me", generation)
    client.push(name, "one", chain[:1])
    client.push(name, "two", chain)
    pulled = client.pull_all(name)
    assert {tag: [got.id for got in images] for tag, images in pulled.items()} == {
        "one": [chain[0].id],
        "two": [image.id for image in chain],
    }


@every_release
def test_cookies_do_not_matter(served: Served, name: str, generation: Generation) -> None:
    """A cookie of another server at this address is sent with every call, by 0.6 to 0.9 twice."""
    client = V1Client(served.host, "me", generation, cookie="session=of-another-registry")
    client.push(name, "latest", chain_of(name))
    assert len(client.pull(name, "latest")) == 2


@every_release
def test_a_broken_download(served: Served, name: str, generation: Generation) -> None:
    """Two cuts are mended from 0.12 on, which up to 1.1 asks HEAD first; before that a pull just fails."""
    client, chain = V1Client(served.host, "me", generation), chain_of(name)
    client.push(name, "latest", chain)
    token, wire = client.begin_pull(name)
    if not generation.since(0, 12):
        with pytest.raises(ProtocolError, match="unexpected EOF"):
            client.fetch(wire, token, chain[0].id, cuts=(100,))
        return
    for cuts in ((100, 200), (len(NO_END),)):
        assert client.fetch(wire, token, chain[0].id, cuts=cuts).layer == NO_END


@pytest.mark.parametrize("generation", SCHEMA1_RELEASES, ids=lambda release: release.version)
@pytest.mark.parametrize("user", ["me", None])
def test_a_later_release_that_fell_back(
    served: Served, name: str, generation: Generation, user: str | None
) -> None:
    """What V2 could not give is pulled over V1 without a ping; from 1.8 on, only the tag wanted is read."""
    chain = chain_of(name)
    V1Client(served.host).push(name, "one", chain)
    client = V1Client(served.host, user, generation)
    assert [got.layer for got in client.pull(name, "one")] == [NO_END, AUFS]
    one_tag = f"GET /v1/repositories/{name}/tags/one" in client.wire.log
    assert one_tag == generation.since(1, 8)


@pytest.mark.parametrize("layer", [NO_END, AUFS, PLAIN], ids=["no end blocks", "AUFS", "plain tar"])
@every_release
def test_layers_of_the_era_pass_unchanged(
    served: Served, name: str, generation: Generation, layer: bytes
) -> None:
    """Missing end blocks, AUFS's own files and whiteouts, plain tars: to either dialect the same bytes."""
    client = V1Client(served.host, "me", generation)
    client.push(name, "latest", chain_of(name, layer))
    assert [got.layer for got in client.pull(name, "latest")] == [layer]
    assert V2Client(served.host).pull(name, "latest").layers == [layer]


@pytest.mark.parametrize("layer", [XZ, BZIP2], ids=["xz", "bzip2"])
def test_what_only_v1_reads_becomes_gzip_for_v2(served: Served, name: str, layer: bytes) -> None:
    """The same gzip every time: no time, no name, no system, the tar inside untouched; V1 gets its own."""
    seen = set()
    for repository in (name, f"{name}2"):
        V1Client(served.host).push(repository, "latest", chain_of(repository, layer))
        (packed,) = V2Client(served.host).pull(repository, "latest").layers
        assert packed[:10] == bytes.fromhex("1f8b08000000000000ff")
        assert files(packed) == files(layer)
        assert [got.layer for got in V1Client(served.host).pull(repository, "latest")] == [layer]
        seen.add(packed)
    assert len(seen) == 1


def test_the_first_empty_layer_is_blank(served: Served, name: str) -> None:
    """The gzip of nothing is no layer in V2, unless the image has no other."""
    client = V1Client(served.host)
    client.push(name, "latest", chain_of(name, NO_END, EMPTY_OF_23_BYTES))
    assert V2Client(served.host).pull(name, "latest").layers == [NO_END]
    assert [got.layer for got in client.pull(name, "latest")] == [NO_END, EMPTY_OF_23_BYTES]
    client.push(f"{name}2", "latest", chain_of(f"{name}2", EMPTY_OF_23_BYTES))
    assert V2Client(served.host).pull(f"{name}2", "latest").layers == [EMPTY_OF_23_BYTES]
