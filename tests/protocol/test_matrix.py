"""What one generation's client pushes, every generation's client pulls: same layers, same configuration."""

import bz2
import gzip
import io
import json
import lzma
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest

from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.inflater import Compression
from dualreg.image.layer import EMPTY_LAYER
from tests import builders
from tests.builders import Image, V1Pushed
from tests.protocol.clients import v2
from tests.protocol.clients.v1 import V1Client, V1Pulled, top_config
from tests.protocol.clients.v2 import V2Client
from tests.protocol.conftest import Served

CONFIG = {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"]}


def changes() -> bytes:
    """Return a tar as a container leaves it: links of both kinds, whiteouts, long names in any script."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:

        def add(name: str, content: bytes = b"", **members: Any) -> None:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            for key, value in members.items():
                setattr(member, key, value)
            archive.addfile(member, io.BytesIO(content))

        add("etc/", type=tarfile.DIRTYPE, mode=0o755)
        add("etc/passwd", b"root:x:0:0::/root:/bin/sh\n")
        add("etc/hard", type=tarfile.LNKTYPE, linkname="etc/passwd")
        add("etc/soft", type=tarfile.SYMTYPE, linkname="passwd")
        add("etc/.wh.gone")
        add("var/.wh..wh..opq")
        add("данные/" + "long" * 60, b"content", pax_headers={"SCHILY.xattr.user.note": "kept"})
    return out.getvalue()


BASE = builders.layer({"bin/sh": b"#!" + bytes(range(256)) * 200})
CHANGES = gzip.compress(changes(), mtime=0)
TOP = builders.tar({"etc/issue": b"top\n"})
#: A blank step in the middle, and a layer that comes twice.
LAYERS = (BASE, CHANGES, EMPTY_LAYER, BASE)


def unpacked(layer: bytes) -> bytes:
    """Return what a client unpacks."""
    return {
        Compression.GZIP: gzip.decompress,
        Compression.BZIP2: bz2.decompress,
        Compression.XZ: lzma.decompress,
        Compression.NONE: bytes,
    }[Compression.sniff(layer)](layer)


@dataclass(frozen=True)
class Seen:
    """What a client has after a pull; *layers* base first, *config* what it would run."""

    layers: Sequence[bytes]
    config: Mapping[str, Any]


Push = Callable[[str, str, str], None]


def v1_pusher(*layers: bytes) -> Push:
    """Return a push of a V1 chain."""

    def push(host: str, name: str, tag: str) -> None:
        V1Client(host, user="me").push(name, tag, builders.v1_chain(*layers, seed=name))

    return push


def v2_pusher(*, oci: bool, indexed: bool = False) -> Push:
    """Return a push of an image, or of an index of it and another system's."""

    def push(host: str, name: str, tag: str) -> None:
        client, image = V2Client(host), builders.image(*LAYERS, oci=oci, config=CONFIG)
        if not indexed:
            client.push(name, tag, image)
            return
        other = builders.image(BASE, oci=oci, architecture="arm64", config={"Cmd": ["/other"]})
        for child in (other, image):
            client.push(name, str(child.digest), child)
        index = builders.index(other, image, oci=oci, architectures=("arm64", "amd64"))
        client.push_manifest(name, tag, json.loads(index)["mediaType"], index)

    return push


PUSHERS: dict[str, tuple[Push, Sequence[bytes]]] = {
    "V1": (v1_pusher(*LAYERS), LAYERS),
    "V1-tar": (v1_pusher(TOP, CHANGES), (TOP, CHANGES)),
    "V1-bzip2": (v1_pusher(bz2.compress(TOP), BASE), (bz2.compress(TOP), BASE)),
    "V1-xz": (v1_pusher(BASE, lzma.compress(TOP)), (BASE, lzma.compress(TOP))),
    "V1-mixed": (
        v1_pusher(TOP, bz2.compress(changes()), EMPTY_LAYER, lzma.compress(TOP)),
        (TOP, bz2.compress(changes()), EMPTY_LAYER, lzma.compress(TOP)),
    ),
    "schema2": (v2_pusher(oci=False), LAYERS),
    "OCI": (v2_pusher(oci=True), LAYERS),
    "index": (v2_pusher(oci=True, indexed=True), LAYERS),
    "list": (v2_pusher(oci=False, indexed=True), LAYERS),
}


def pull_v1(host: str, name: str, tag: str) -> Seen:
    """Pull as Docker 1.5."""
    chain = V1Client(host).pull(name, tag)
    return Seen([image.layer for image in chain], top_config(chain))


def v2_puller(accept: Sequence[str]) -> Callable[[str, str, str], Seen]:
    """Return a pull that takes these media types, and checks what Docker checks before it unpacks."""

    def pull(host: str, name: str, tag: str) -> Seen:
        pulled = V2Client(host, accept).pull(name, tag)
        document = pulled.document
        assert document["rootfs"]["diff_ids"] == [str(Digest.of(unpacked(layer))) for layer in pulled.layers]
        filled = [entry for entry in document["history"] if not entry.get("empty_layer")]
        assert len(filled) == len(pulled.layers)
        assert (document["os"], document["architecture"]) == ("linux", "amd64")
        return Seen(pulled.layers, document["config"])

    return pull


PULLERS: dict[str, Callable[[str, str, str], Seen]] = {
    "V1": pull_v1,
    "V2-docker": v2_puller(v2.DOCKER),
    "V2-oci": v2_puller(v2.OCI),
    "V2-images-only": v2_puller(v2.IMAGES_ONLY),
}


@pytest.fixture
def name() -> str:
    """A repository that no other test uses, of the kind old clients can name."""
    return f"team/r{uuid4().hex[:12]}"


@pytest.mark.parametrize("puller", PULLERS)
@pytest.mark.parametrize("pusher", PUSHERS)
def test_every_client_pulls_what_any_client_pushed(
    served: Served, name: str, pusher: str, puller: str
) -> None:
    """Same layers in the same order, byte for byte unless only V1 knows the compression; same Cmd and Env."""
    push, layers = PUSHERS[pusher]
    push(served.host, name, "latest")
    seen = PULLERS[puller](served.host, name, "latest")
    if pusher.startswith("V1") and puller != "V1":
        # A V1 step that changes no file is one line of history in V2, not a layer.
        layers = [layer for layer in layers if layer != EMPTY_LAYER]
    assert [unpacked(layer) for layer in seen.layers] == [unpacked(layer) for layer in layers]
    for pulled, pushed in zip(seen.layers, layers, strict=True):
        kept = puller == "V1" or Compression.sniff(pushed) in (Compression.GZIP, Compression.NONE)
        assert Compression.sniff(pulled) in ((Compression.sniff(pushed),) if kept else (Compression.GZIP,))
        assert not kept or pulled == pushed
    assert {key: seen.config[key] for key in CONFIG} == CONFIG


def as_pushed(chain: Sequence[V1Pulled]) -> list[V1Pushed]:
    """Return a pulled chain as the client that pulled it would push it."""
    return [V1Pushed(image.id, image.json, image.layer) for image in chain]  # type: ignore[arg-type]


@pytest.mark.parametrize("pusher", [pusher for pusher in PUSHERS if pusher.startswith("V1")])
def test_a_v1_image_comes_back_as_it_was(served: Served, name: str, pusher: str) -> None:
    """Ids, JSON documents to the last byte, layers: a V1 client cannot tell that anything was converted."""
    chain = builders.v1_chain(*PUSHERS[pusher][1], seed=name)
    client = V1Client(served.host)
    client.push(name, "latest", chain)
    V2Client(served.host).pull(name, "latest")
    assert as_pushed(client.pull(name, "latest")) == chain


@pytest.mark.slow
def test_the_same_v1_image_is_the_same_manifest_everywhere(served: Served, name: str) -> None:
    """Converting is a function: two repositories, one digest, in both formats."""
    for layers in (LAYERS, (TOP, BASE)):
        digests = set()
        for repository in (name, f"{name}2"):
            V1Client(served.host).push(repository, "latest", builders.v1_chain(*layers, seed=name))
            digests.add(V2Client(served.host).pull(repository, "latest").digest)
        assert len(digests) == 1


@pytest.mark.parametrize(
    ("layers", "media_type"),
    [((BASE, CHANGES), media_types.DOCKER_MANIFEST), ((BASE, TOP), media_types.OCI_MANIFEST)],
    ids=["gzip", "with a plain tar"],
)
def test_the_format_of_a_converted_image(
    served: Served, name: str, layers: Sequence[bytes], media_type: str
) -> None:
    """All gzip is Docker schema 2; a plain tar among the layers makes it OCI, which has a name for that."""
    V1Client(served.host).push(name, "latest", builders.v1_chain(*layers, seed=name))
    pulled = V2Client(served.host).pull(name, "latest")
    assert pulled.media_type == media_type
    types = [entry["mediaType"] for entry in json.loads(pulled.manifest)["layers"]]
    assert [kind.endswith("gzip") for kind in types] == [layer != TOP for layer in layers]


def chain_ids(image: Image) -> list[str]:
    """Return the V1 ids of an image by Docker's rule of 1.10, written down a second time."""
    diff_ids = json.loads(image.config)["rootfs"]["diff_ids"]
    chain = diff_ids[:1]
    for diff_id in diff_ids[1:]:
        chain.append(str(Digest.of(f"{chain[-1]} {diff_id}".encode())))
    ids = [link.removeprefix("sha256:") for link in chain]
    return [*ids[:-1], Digest.of(image.config).hex]


@pytest.mark.parametrize("oci", [False, True])
def test_v1_ids_of_a_v2_image_are_dockers_own(served: Served, name: str, *, oci: bool) -> None:
    """Chain ids below, the config's digest on top; the same in every repository; parents in a row."""
    image = builders.image(*LAYERS, oci=oci, config=CONFIG)
    seen = []
    for repository in (name, f"{name}2"):
        V2Client(served.host).push(repository, "latest", image)
        seen.append(V1Client(served.host).pull(repository, "latest"))
    assert seen[0] == seen[1]
    ids = chain_ids(image)
    assert [pulled.id for pulled in seen[0]] == ids
    assert [pulled.document.get("parent") for pulled in seen[0]] == [None, *ids[:-1]]
    assert [sorted(pulled.document) for pulled in seen[0][:-1]] == [["id"], *[["id", "parent"]] * 2]


@pytest.mark.parametrize("layers", [(), (EMPTY_LAYER,)], ids=["none", "one blank"])
def test_an_image_without_files_is_one_blank_v1_image(
    served: Served, name: str, layers: Sequence[bytes]
) -> None:
    """V1 has no image without a layer: it gets the well-known empty one."""
    image = builders.image(*layers, config=CONFIG)
    V2Client(served.host).push(name, "latest", image)
    (pulled,) = V1Client(served.host).pull(name, "latest")
    assert (pulled.id, pulled.layer) == (Digest.of(image.config).hex, EMPTY_LAYER)
    assert top_config([pulled]) == CONFIG


def test_a_v1_image_of_blank_steps_keeps_a_layer(served: Served, name: str) -> None:
    """Several V2 tools cannot use an image without layers: one blank layer stays."""
    V1Client(served.host).push(name, "latest", builders.v1_chain(EMPTY_LAYER, EMPTY_LAYER, seed=name))
    assert V2Client(served.host).pull(name, "latest").layers == [EMPTY_LAYER]


@pytest.mark.parametrize("pusher", ["schema2", "OCI"])
def test_a_v1_retag_keeps_the_v2_digest(served: Served, name: str, pusher: str) -> None:
    """Pulled over V1 and pushed back under another tag, a V2 image stays the very manifest it was."""
    PUSHERS[pusher][0](served.host, name, "one")
    before = V2Client(served.host).pull(name, "one")
    client = V1Client(served.host)
    sent = client.push(name, "two", as_pushed(client.pull(name, "one")))
    assert sent == []
    assert V2Client(served.host).pull(name, "two") == before


def test_a_v1_pull_and_push_elsewhere_keeps_ids_and_layers(served: Served, name: str) -> None:
    """A repository that never saw the V2 image takes it over under the same ids; nothing is sent."""
    PUSHERS["schema2"][0](served.host, name, "one")
    client = V1Client(served.host)
    chain = as_pushed(client.pull(name, "one"))
    assert client.push(f"{name}2", "one", chain) == []
    assert as_pushed(client.pull(f"{name}2", "one")) == chain


def test_a_repeated_v1_push_sends_only_the_tag(served: Served, name: str) -> None:
    """Known layers are not sent again, and the tag is set."""
    chain = builders.v1_chain(*LAYERS, seed=name)
    client = V1Client(served.host)
    assert client.push(name, "one", chain) == [image.id for image in chain]
    client.wire.log.clear()
    assert client.push(name, "two", chain) == []
    puts = [line for line in client.wire.log if line.startswith("PUT")]
    path = f"PUT /v1/repositories/{name}"
    assert puts == [f"{path}/", f"{path}/tags/two", f"{path}/images"]
    assert V2Client(served.host).pull(name, "two") == V2Client(served.host).pull(name, "one")


def test_a_child_image_is_pushed_onto_its_parents(served: Served, name: str) -> None:
    """Only new layers are sent, and both tags share the others."""
    client, chain = V1Client(served.host), builders.v1_chain(*LAYERS, seed=name)
    client.push(name, "old", chain[:2])
    assert client.push(name, "new", chain) == [image.id for image in chain[2:]]
    old, new = (V2Client(served.host).pull(name, tag) for tag in ("old", "new"))
    assert new.layers[:2] == old.layers


@pytest.mark.parametrize(
    ("pushed", "pulled"), [("", ""), ("library/", ""), ("", "library/"), ("library/", "library/")]
)
@pytest.mark.parametrize("pusher", ["V1", "schema2"])
def test_library_is_an_alias_for_v1_pulls(served: Served, pusher: str, pushed: str, pulled: str) -> None:
    """Old clients push ``x`` and read the tags of ``library/x``; both mean the one that exists."""
    name = f"r{uuid4().hex[:12]}"
    PUSHERS[pusher][0](served.host, pushed + name, "latest")
    assert pull_v1(served.host, pulled + name, "latest").layers == list(LAYERS)


@pytest.mark.parametrize("mode", ["stream", "chunks", "monolithic", "single"])
def test_every_way_to_upload_a_blob(served: Served, name: str, mode: str) -> None:
    """The result is the same, and a blob that exists is not sent again."""
    image = builders.image(*LAYERS, layer_of=mode)
    client = V2Client(served.host, mode=mode)
    client.push(name, "latest", image)
    assert client.pull(name, "latest").manifest == image.manifest
    digest = image.digest
    assert not client.push_blob(name, str(Digest.of(BASE)), BASE)
    assert client.pull(name, str(digest)).layers == list(LAYERS)


@pytest.mark.parametrize("cuts", [(1,), (100, 5000), (len(BASE) - 1,), (len(BASE),)], ids=str)
@pytest.mark.parametrize("pusher", ["V1", "schema2"])
def test_a_broken_v1_download_is_resumed(served: Served, name: str, pusher: str, cuts: Sequence[int]) -> None:
    """Docker requests up to one byte past the end; at the end, an empty 416 completes the download."""
    PUSHERS[pusher][0](served.host, name, "latest")
    client = V1Client(served.host)
    base = client.pull(name, "latest")[0]
    token, wire = client.begin_pull(name)
    assert client.fetch(wire, token, base.id, cuts=cuts) == base


def test_login_needs_no_account(served: Served) -> None:
    """Without accounts, ``docker login`` succeeds as with docker-registry."""
    client = V1Client(served.host, user="me")
    client.login()
    assert client.wire.log == ["POST /v1/users/", "GET /v1/users/"]
