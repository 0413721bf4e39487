"""Old registries' trees, with everything in them that was met in the field."""

import bz2
import gzip
import hashlib
import json
import lzma
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests import builders
from tests.protocol.clients.tarsum import tarsum

#: The layer of nothing that Docker up to 1.2 pushed: the gzip of zero bytes.
EMPTY_23 = bytes.fromhex("1f8b080000096e8800ff010000ffff0000000000000000")
#: And since 1.3: of 1024.
EMPTY_1024 = gzip.compress(bytes(1024), mtime=0)


def image_id(seed: str, digits: int = 64) -> str:
    """Return an id that looks like an old daemon's."""
    return hashlib.sha256(seed.encode()).hexdigest()[:digits]


def payload(document: bytes, layer: bytes) -> str:
    """Return the V1 payload checksum, by its definition."""
    return "sha256:" + hashlib.sha256(document + b"\n" + layer).hexdigest()


@dataclass
class Tree:
    """A tree that a test writes file by file."""

    root: Path
    jsons: dict[str, bytes] = field(default_factory=dict)
    layers: dict[str, bytes] = field(default_factory=dict)

    def image(
        self,
        seed: str,
        layer: bytes | None,
        *,
        parent: str | None = None,
        id_: str | None = None,
        checksum: object = "payload",
        marked: bool = False,
        document: bytes | None = None,
        ancestry: object = None,
        **members: Any,
    ) -> str:
        """Write an image; return its id.

        Args:
            layer: None: it has none.
            checksum: ``payload``: as 0.9 kept it; None: none; text or list: just that.
        """
        id_ = id_ or image_id(seed)
        own: dict[str, Any] = {"id": id_, "created": "2014-01-01T00:00:00Z", "os": "linux", "comment": seed}
        own |= members
        if parent:
            own["parent"] = parent
        document = json.dumps(own).encode() if document is None else document
        folder = self.root / "images" / id_
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "json").write_bytes(document)
        self.jsons[id_] = document
        if layer is not None:
            (folder / "layer").write_bytes(layer)
            self.layers[id_] = layer
            if checksum == "payload":
                checksum = [payload(document, layer)]
        if isinstance(checksum, list):
            (folder / "_checksum").write_text(json.dumps(checksum))
        elif checksum not in (None, "payload"):
            (folder / "_checksum").write_text(str(checksum))
        if marked:
            (folder / "_inprogress").write_text("true")
        if ancestry is not False:
            listed = ancestry if ancestry is not None else self._ancestry(id_, parent)
            (folder / "ancestry").write_text(json.dumps(listed))
        return id_

    def _ancestry(self, id_: str, parent: str | None) -> list[str]:
        above = self.root / "images" / str(parent) / "ancestry"
        return [id_, *(json.loads(above.read_text()) if parent and above.exists() else [])]

    def tag(self, name: str, tag: str, image: str, updated: int | None = None) -> None:
        """Write a tag; *name* is its folder below ``repositories``."""
        folder = self.root / "repositories" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"tag_{tag}").write_text(image)
        if updated is not None:
            side = {"last_update": updated, "docker_version": "1.5.0", "arch": "amd64", "os": "linux"}
            (folder / f"tag{tag}_json").write_text(json.dumps(side))


@dataclass(frozen=True)
class Expected:
    """What an import must make of the tree below.

    Attributes:
        good: Tag (as the source calls it) and the image that it must be in this registry.
        bad: Tag and the kind of the finding.
        kinds: Every kind of finding that inspect must report.
    """

    tree: Tree
    good: Mapping[str, str]
    bad: Mapping[str, str]
    kinds: frozenset[str]


#: Layers with something in them, by the letter that they hold.
LAYERS = {name: builders.layer({name: name.encode() * 50}) for name in "abcdefghijklmnopqrstuvwxyz"}


@dataclass
class _Builder:
    """A tree, and what an import must make of it."""

    tree: Tree
    good: dict[str, str] = field(default_factory=dict)
    bad: dict[str, str] = field(default_factory=dict)

    def keep(self, full: str, image: str) -> None:
        """Tag an image that can be imported."""
        name, _, tag = full.partition(":")
        self.tree.tag(name, tag, image, 1_400_000_000 + len(self.good))
        self.good[full] = image

    def lose(self, full: str, image: str, kind: str) -> None:
        """Tag one that cannot."""
        name, _, tag = full.partition(":")
        self.tree.tag(name, tag, image)
        self.bad[full] = kind


def everything(root: Path) -> Expected:
    """Build a tree with one of everything."""
    own = _Builder(Tree(root))
    for build in (_well, _sorts_of_layers, _sorts_of_documents, _lost, _names, _beside):
        build(own)
    kinds = frozenset(
        {"partial", "no-layer", "no-json", "corrupt", "wrong-id", "stale-mark", "unverified", "phantom-tag",
         "wrong-ancestry", "private", "empty-repository", "orphan", "foreign-file", "missing-parent", "cycle",
         "dangling-tag", "bad-name", "bad-tag"}
    )  # fmt: skip
    return Expected(own.tree, own.good, own.bad, kinds)


def _well(own: _Builder) -> None:
    base = own.tree.image("base", LAYERS["a"])
    middle = own.tree.image("middle", LAYERS["b"], parent=base)
    own.keep("team/app:1", own.tree.image("top", LAYERS["c"], parent=middle, config={"Cmd": ["/bin/sh"]}))
    own.keep("team/app:2", own.tree.image("other", LAYERS["d"], parent=middle))
    own.keep("team/twin:1", own.tree.image("top2", LAYERS["e"], parent=middle))
    own.keep("library/short:latest", own.tree.image("short", LAYERS["f"]))
    ancient = own.tree.image("16", LAYERS["g"], id_=image_id("16", 16))
    own.keep("old/ancient:latest", own.tree.image("on16", LAYERS["h"], parent=ancient))


def _sorts_of_layers(own: _Builder) -> None:
    base = image_id("base")
    plain = builders.tar({"i": b"plain"})
    own.keep("sort/tar:1", own.tree.image("tar", plain))
    own.keep("sort/xz:1", own.tree.image("xz", lzma.compress(plain)))
    own.keep("sort/bz2:1", own.tree.image("bz2", bz2.compress(plain)))
    own.keep("sort/noend:1", own.tree.image("noend", gzip.compress(plain[:1024], mtime=0)))
    own.keep("sort/empty23:1", own.tree.image("e23", EMPTY_23, parent=base))
    own.keep("sort/empty1024:1", own.tree.image("e1024", EMPTY_1024, parent=base))
    own.keep("sort/onlyempty:1", own.tree.image("e", EMPTY_1024))
    pointing = own.tree.image("pointing", LAYERS["i"])
    layer = own.tree.root / "images" / pointing / "layer"
    layer.rename(own.tree.root / "pool")
    layer.symlink_to("../../pool")
    own.keep("sort/pointing:1", pointing)
    own.keep(
        "sort/members:1", own.tree.image("members", gzip.compress(plain[:512]) + gzip.compress(plain[512:]))
    )


def _sorts_of_documents(own: _Builder) -> None:
    base = image_id("base")
    text = json.dumps({"id": image_id("newline")}).encode() + b"\n"
    own.keep("json/newline:1", own.tree.image("newline", LAYERS["j"], document=text))
    minimal = own.tree.image(
        "minimal", LAYERS["k"], document=json.dumps({"id": image_id("minimal")}).encode()
    )
    own.keep("json/minimal:1", own.tree.image("onminimal", LAYERS["l"], parent=minimal))
    odd = {"config": None, "container_config": {"Cmd": "sh"}, "architecture": "x86_64", "parent": ""}
    own.keep("json/odd:1", own.tree.image("odd", LAYERS["m"], **odd))
    own.keep("sum/none:1", own.tree.image("nosum", LAYERS["n"], checksum=None))
    bare = json.dumps({"id": image_id("bare")}).encode()
    own.keep(
        "sum/text:1", own.tree.image("bare", LAYERS["o"], document=bare, checksum=payload(bare, LAYERS["o"]))
    )
    summed = json.dumps({"id": image_id("tarsum")}).encode()
    stated = tarsum(summed, LAYERS["p"])
    own.keep("sum/tarsum:1", own.tree.image("tarsum", LAYERS["p"], document=summed, checksum=[stated]))
    unsure = "tarsum+sha256:" + "0" * 64
    own.keep("sum/unsure:1", own.tree.image("unsure", LAYERS["q"], checksum=[unsure]))
    own.keep("mark/stale:1", own.tree.image("stale", LAYERS["r"], marked=True))
    own.keep("list/wrong:1", own.tree.image("wrong", LAYERS["s"], parent=base, ancestry=[base]))
    own.keep("list/absent:1", own.tree.image("absent", LAYERS["t"], parent=base, ancestry=False))


def _lost(own: _Builder) -> None:
    base = image_id("base")
    own.lose("lost/partial:1", own.tree.image("partial", None, marked=True), "partial")
    own.lose("lost/nolayer:1", own.tree.image("nolayer", None), "no-layer")
    unproven = own.tree.image("unproven", LAYERS["u"], marked=True, checksum=None)
    own.lose("lost/unproven:1", unproven, "partial")
    own.lose("lost/truncated:1", own.tree.image("truncated", LAYERS["v"][:-9], checksum=None), "corrupt")
    changed = own.tree.image("changed", LAYERS["w"])
    (own.tree.root / "images" / changed / "layer").write_bytes(LAYERS["x"])
    own.lose("lost/changed:1", changed, "corrupt")
    own.lose(
        "lost/orphaned:1", own.tree.image("orphaned", LAYERS["y"], parent=image_id("gone")), "missing-parent"
    )
    own.lose("lost/above:1", own.tree.image("above", LAYERS["z"], parent=changed), "corrupt")
    one, two = image_id("one"), image_id("two")
    own.lose("lost/cycle:1", own.tree.image("one", EMPTY_1024, parent=two), "cycle")
    own.tree.image("two", EMPTY_1024, parent=one)
    own.lose("lost/dangling:1", image_id("never pushed"), "dangling-tag")
    moved = json.dumps({"id": base}).encode()
    own.lose("lost/moved:1", own.tree.image("moved", EMPTY_1024, document=moved), "wrong-id")
    own.lose("lost/nojson:1", own.tree.image("nojson", EMPTY_1024), "no-json")
    (own.tree.root / "images" / image_id("nojson") / "json").unlink()
    own.lose("lost/garbage:1", own.tree.image("garbage", EMPTY_1024, document=b"{"), "corrupt")


def _names(own: _Builder) -> None:
    base = image_id("base")
    own.keep("nested/a%2Fb:1", base)
    own.keep("nested/a%252Fc:1", base)
    own.lose("Upper/Case:1", base, "bad-name")
    own.lose("team/app:a%2Bb", base, "bad-tag")
    own.keep("team/app:_x", base)
    (own.tree.root / "repositories" / "team" / "app" / "tag_x_json").write_text(
        '{"last_update": 1}'
    )  # the side file of _x


def _beside(own: _Builder) -> None:
    (own.tree.root / "repositories" / "team" / "app" / "_private").touch()
    nobodys = own.tree.image("nobody's", LAYERS["a"])
    own.tree.image("nobody's top", LAYERS["b"], parent=nobodys)
    own.tree.image("unlisted", LAYERS["c"])
    listed = [{"id": image_id(seed)} for seed in ("never pushed either", "nobody's", "nobody's top")]
    (own.tree.root / "repositories" / "team" / "app" / "_index_images").write_text(json.dumps(listed))
    (own.tree.root / "repositories" / "team" / "empty").mkdir()
    (own.tree.root / "repositories" / "team" / "app" / ".DS_Store").touch()
    (own.tree.root / "lost+found").mkdir()
