"""A tree of link files and blobs like that of a large registry: V1 and V2 images, but tiny layers."""

import hashlib
import json
import os

#: Tags of a repository; each is an image with layers of its own, on base layers that all of them share.
_TAGS = 20
_OWN, _BASE = 2, 20
#: Of so many repositories, one was pushed over V1.
_EVERY = 4
_KIND = "application/vnd.docker"


class Tree:
    """Writes a tree without waiting for the disk.

    Attributes:
        links: How many link files it has: of blobs, manifests, tags and V1 images.
    """

    def __init__(self, root: str) -> None:
        """Write below *root*, the folder of ``blobs`` and ``repositories``."""
        self.links = 0
        self._root = root

    def repository(self, number: int) -> None:
        """Write a repository with everything in it; every fourth one was pushed over V1."""
        name = f"group{number % 100}/repository{number}"
        chain = _V1Chain(self, name) if number % _EVERY == 0 else None
        base = [self.blob(name, f"{name} base {each}".encode()) for each in range(_BASE)]
        for tag in range(_TAGS):
            layers = [*base, *(self.blob(name, f"{name} {tag} {each}".encode()) for each in range(_OWN))]
            digest = self._image(name, tag, layers)
            if chain:
                chain.record(tag, digest, layers)

    def _image(self, name: str, tag: int, layers: list[str]) -> str:
        """Write a manifest with its config, and a tag; return the digest of the manifest."""
        config = self.blob(name, f"{name} {tag} config".encode())
        parts = [
            ("container.image.v1+json", config),
            *(("image.rootfs.diff.tar.gzip", each) for each in layers),
        ]
        first, *others = (
            {"mediaType": f"{_KIND}.{kind}", "size": 9, "digest": f"sha256:{digest}"}
            for kind, digest in parts
        )
        document = {"schemaVersion": 2, "mediaType": f"{_KIND}.distribution.manifest.v2+json"}
        digest = self.blob(name, json.dumps(document | {"config": first, "layers": others}).encode())
        self.link(f"{name}/_manifests/revisions/sha256/{digest}/link", f"sha256:{digest}")
        self.link(f"{name}/_manifests/tags/{tag}/current/link", f"sha256:{digest}")
        return digest

    def blob(self, name: str, content: bytes) -> str:
        """Write a blob of a repository; return the hexadecimal part of its digest."""
        digest = hashlib.sha256(content).hexdigest()
        self._write(f"blobs/sha256/{digest[:2]}/{digest}/data", content)
        self.link(f"{name}/_layers/sha256/{digest}/link", f"sha256:{digest}")
        return digest

    def link(self, path: str, content: str) -> None:
        """Write a link file; *path* is below the folder of repositories."""
        self.links += 1
        self.beside(path, content)

    def beside(self, path: str, content: str) -> None:
        """Write a file beside a link."""
        self._write(f"repositories/{path}", content.encode())

    def _write(self, path: str, content: bytes) -> None:
        target = f"{self._root}/{path}"
        os.makedirs(os.path.dirname(target), exist_ok=True)  # noqa: PTH103, PTH120 -- millions of them
        with open(target, "wb") as file:  # noqa: PTH123 -- the same
            file.write(content)


class _V1Chain:
    """The V1 images that a client pushed to a repository, whose base images its tags share."""

    def __init__(self, tree: Tree, name: str) -> None:
        self._tree, self._name = tree, name
        self._known: set[str] = set()

    def record(self, tag: int, manifest: str, layers: list[str]) -> None:
        """Write the images that a manifest was made of, and that a V1 client pushed its tag."""
        parent = None
        for layer in layers:
            image = hashlib.sha256(f"{self._name} {parent} {layer}".encode()).hexdigest()
            if image not in self._known:
                self._known.add(image)
                self._image(image, parent, layer)
            parent = image
        folder = f"{self._name}/_manifests"
        self._tree.beside(f"{folder}/revisions/sha256/{manifest}/views/v1", str(parent))
        origin = {
            "agent": "docker/1.5.0",
            "manifest": f"sha256:{manifest}",
            "origin": "v1",
        }
        self._tree.beside(f"{folder}/tags/{tag}/origin", json.dumps(origin))

    def _image(self, image: str, parent: str | None, layer: str) -> None:
        document = {"id": image} | ({"parent": parent} if parent else {})
        facts = {
            "json": f"sha256:{self._tree.blob(self._name, json.dumps(document).encode())}",
            "layer": f"sha256:{layer}",
            "diff_id": f"sha256:{layer}",
            "checksum": f"sha256:{image}",
            "parent": parent,
            "tarsum": None,
            "tarsum_verified": None,
        }
        self._tree.link(f"{self._name}/_v1/{image}", json.dumps(facts, sort_keys=True))
