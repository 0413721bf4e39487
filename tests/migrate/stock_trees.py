"""Trees of the reference registry, as its releases write them and as disks damage them."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from dualreg.image.digest import Digest
from dualreg.image.jws import SigningKey, sign
from tests import builders
from tests.builders import Image
from tests.state import blob_file


@dataclass
class StockTree:
    """A tree that a test writes file by file."""

    root: Path

    @property
    def v2(self) -> Path:
        """Where everything is."""
        return self.root / "docker/registry/v2"

    def data(self, digest: Digest) -> Path:
        """Return where a blob's bytes are."""
        return blob_file(self.root, digest)

    def revision(self, name: str, digest: Digest) -> Path:
        """Return a manifest's folder."""
        return self.v2 / "repositories" / name / "_manifests/revisions" / digest.algorithm / digest.hex

    def blob(self, content: bytes) -> Digest:
        """Write a blob that no repository has."""
        digest = Digest.of(content)
        _write(self.data(digest), content)
        return digest

    def layer(self, name: str, content: bytes) -> Digest:
        """Write a blob of a repository."""
        digest = self.blob(content)
        folder = self.v2 / "repositories" / name / "_layers" / digest.algorithm / digest.hex
        _write(folder / "link", str(digest).encode())
        return digest

    def manifest(self, name: str, payload: bytes, *tags: str) -> Digest:
        """Write a manifest, and tags that point at it."""
        digest = self.blob(payload)
        _write(self.revision(name, digest) / "link", str(digest).encode())
        for tag in tags:
            folder = self.v2 / "repositories" / name / "_manifests/tags" / tag
            _write(folder / "current/link", str(digest).encode())
            _write(folder / "index" / digest.algorithm / digest.hex / "link", str(digest).encode())
        return digest

    def image(self, name: str, image: Image, *tags: str) -> Digest:
        """Write an image."""
        for content in image.blobs.values():
            self.layer(name, content)
        return self.manifest(name, image.manifest, *tags)

    def schema1(self, name: str, tag: str, *layers: bytes, signed: bool = True) -> Digest:
        """Write an image of Docker 1.6, as 2.0 to 2.4 did: its signatures apart; as 2.5 did: without."""
        payload = schema1_payload(name, tag, *layers)
        for content in layers:
            self.layer(name, content)
        digest = self.manifest(name, payload, tag)
        if signed:
            body = json.loads(sign(payload, SigningKey.generate(), _NOW))
            kept = self.blob(json.dumps(body["signatures"][0], indent=3).encode())
            folder = self.revision(name, digest) / "signatures" / kept.algorithm / kept.hex
            _write(folder / "link", str(kept).encode())
        return digest


@dataclass(frozen=True)
class Expected:
    """What an import must make of a tree.

    Attributes:
        good: Each tag, and the digest that it must have in this registry.
        untagged: Manifests without a tag that must be imported with one that has.
        bad: Each tag that cannot be imported, and the kind of the finding.
        kinds: Every kind of finding that inspect must report.
    """

    tree: StockTree
    good: dict[str, Digest] = field(default_factory=dict)
    untagged: dict[str, Digest] = field(default_factory=dict)
    bad: dict[str, str] = field(default_factory=dict)
    kinds: frozenset[str] = frozenset(
        {"bad-name", "missing-blob", "missing-manifest", "dangling-tag", "corrupt",
         "empty-repository", "untagged", "tarsum"}
    )  # fmt: skip


#: Layers with something in them, by the letter that they hold.
LAYERS = {name: builders.layer({name: name.encode() * 50}) for name in "abcdefghijklmnop"}
_NOW = datetime(2015, 6, 1, tzinfo=UTC)


def small(root: Path) -> StockTree:
    """Build a tree with one image, an index, and a signature about it."""
    tree = StockTree(root)
    images = [builders.image(LAYERS["a"]), builders.image(LAYERS["a"], LAYERS["b"], architecture="arm64")]
    for image in images:
        tree.image("team/app", image)
    index = tree.manifest("team/app", builders.index(*images), "latest")
    tree.manifest("team/app", referrer(index))
    tree.image("team/other", images[0], "1")
    return tree


def everything(root: Path) -> Expected:
    """Build a tree with one of everything."""
    own = Expected(StockTree(root))
    for build in (_well, _of_old_releases, _lost, _beside):
        build(own)
    return own


def _well(own: Expected) -> None:
    tree = own.tree
    docker, oci = builders.image(LAYERS["a"], LAYERS["b"]), builders.image(LAYERS["a"], LAYERS["c"], oci=True)
    own.good["team/app:docker"] = tree.image("team/app", docker, "docker", "also")
    own.good["team/app:also"] = own.good["team/app:docker"]
    vague = builders.relabelled(docker, "application/octet-stream")  # as Docker 1.10 pushes
    own.good["team/app:vague"] = tree.image("team/app", vague, "vague")
    own.good["team/app:oci"] = tree.image("team/app", oci, "oci")
    own.good["team/app/below:1"] = tree.image("team/app/below", oci, "1")
    own.good["library/short:1"] = tree.image("library/short", docker, "1")
    children = [builders.image(LAYERS["d"]), builders.image(LAYERS["e"], architecture="arm64")]
    for child in children:
        tree.image("team/index", child)
    own.good["team/index:1"] = index = tree.manifest("team/index", builders.index(*children, oci=False), "1")
    about = tree.manifest("team/index", referrer(index))
    own.untagged["team/index"] = about
    tree.manifest("team/index", referrer(about))  # about what is about it
    foreign = json.loads(docker.manifest)
    kind = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    foreign["layers"].append(builders.descriptor(kind, b"elsewhere", urls=["https://vendor.example/layer"]))
    own.good["team/app:foreign"] = tree.manifest("team/app", json.dumps(foreign).encode(), "foreign")


def _of_old_releases(own: Expected) -> None:
    tree = own.tree
    own.good["old/one:signed"] = tree.schema1("old/one", "signed", LAYERS["f"], LAYERS["g"])
    own.good["old/one:bare"] = tree.schema1("old/one", "bare", LAYERS["f"], signed=False)
    other = tree.schema1("old/one", "foreign", LAYERS["g"])
    (link,) = (tree.revision("old/one", other) / "signatures").glob("*/*/link")
    link.write_text(str(tree.blob(b"{}")))  # a signature that proves nothing
    own.good["old/one:foreign"] = other
    lost = tree.image("old/lost", builders.image(LAYERS["h"]), "1")  # 2.1.0 lost links of revisions
    (tree.revision("old/lost", lost) / "link").unlink()
    tree.revision("old/lost", lost).rmdir()
    own.good["old/lost:1"] = lost
    misplaced = tree.schema1("old/misplaced", "1", LAYERS["o"])  # or put them among those of layers
    folder = tree.v2 / "repositories/old/misplaced/_layers/sha256" / misplaced.hex
    folder.mkdir()
    (tree.revision("old/misplaced", misplaced) / "link").rename(folder / "link")
    own.good["old/misplaced:1"] = misplaced
    unlinked = builders.image(LAYERS["i"])
    own.good["old/layers:1"] = tree.image("old/layers", unlinked, "1")
    for digest in unlinked.blobs:
        (tree.v2 / "repositories/old/layers/_layers/sha256" / digest.hex / "link").unlink()


def _lost(own: Expected) -> None:
    tree = own.tree

    def lose(tag: str, digest: Digest, kind: str) -> Digest:
        own.bad[f"lost/{tag}:1"] = kind
        return digest

    image = builders.image(LAYERS["a"], LAYERS["j"])
    lose("blob", tree.image("lost/blob", image, "1"), "missing-blob")
    tree.data(Digest.of(LAYERS["j"])).unlink()
    lose("short", tree.image("lost/short", builders.image(LAYERS["k"]), "1"), "corrupt")
    tree.data(Digest.of(LAYERS["k"])).write_bytes(LAYERS["k"][:-3])
    deleted = lose("deleted", tree.image("lost/deleted", builders.image(LAYERS["l"]), "1"), "dangling-tag")
    (tree.revision("lost/deleted", deleted) / "link").unlink()
    children = [builders.image(LAYERS["m"]), builders.image(LAYERS["m"], architecture="arm64")]
    tree.image("lost/child", children[0])
    lose("child", tree.manifest("lost/child", builders.index(*children), "1"), "missing-manifest")
    garbled = lose("garbled", tree.image("lost/garbled", builders.image(LAYERS["n"]), "1"), "corrupt")
    tree.data(garbled).write_bytes(b"{}")
    beta = json.loads(schema1_payload("lost/beta", "1", LAYERS["a"]))
    beta["fsLayers"] = [{"blobSum": "tarsum.v1+sha256:" + "0" * 64}]
    lose("beta", tree.manifest("lost/beta", json.dumps(beta, indent=3).encode(), "1"), "tarsum")
    tree.image("Lost/Upper", builders.image(LAYERS["a"]), "1")
    own.bad["Lost/Upper:1"] = "bad-name"


def _beside(own: Expected) -> None:
    tree = own.tree
    tree.manifest("team/app", builders.image(LAYERS["a"], oci=True).manifest)  # a tag was moved away from it
    _write(tree.v2 / "repositories/team/app/_uploads/00000000-0000-0000-0000-000000000000/data", b"half")
    _write(tree.v2 / "repositories/team/app/_manifests/tags/garbage/current/link", b"no digest")
    own.bad["team/app:garbage"] = "corrupt"
    (tree.v2 / "repositories/team/app/_manifests/tags/deleted/index").mkdir(parents=True)
    (tree.v2 / "repositories/empty/_layers").mkdir(parents=True)
    _write(tree.v2 / "repositories/.DS_Store", b"")


def schema1_payload(name: str, tag: str, *layers: bytes) -> bytes:
    """Return schema 1 over *layers*, base first, without signatures."""
    chain = builders.v1_chain(*layers, seed=f"{name}:{tag}")[::-1]
    document = {
        "schemaVersion": 1,
        "name": name,
        "tag": tag,
        "architecture": "amd64",
        "fsLayers": [{"blobSum": str(Digest.of(image.layer))} for image in chain],
        "history": [{"v1Compatibility": image.json.decode()} for image in chain],
    }
    return json.dumps(document, indent=3).encode()


def referrer(subject: Digest) -> bytes:
    """Return an artifact without blobs of its own that is about *subject*."""
    about = {"mediaType": "application/vnd.oci.image.index.v1+json", "digest": str(subject), "size": 9}
    document = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "artifactType": "application/x.test",
        "manifests": [],
        "subject": about,
    }
    return json.dumps(document).encode()


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
