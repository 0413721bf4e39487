"""A static tree: files under the paths of both APIs, which a plain web server serves pulls from.

What is served already goes on being served: files that are there change last, when all that the new ones name
is there, and lists only grow.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

from dualreg.catalog.rows import V1ImageRow
from dualreg.errors import RegistryError
from dualreg.image.digest import Digest
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.migrate.findings import Broken, FindingKind
from dualreg.migrate.graph import read_document
from dualreg.migrate.sources.base import SourceBytes
from dualreg.migrate.targets.base import Outgoing, check_folder
from dualreg.migrate.targets.files import write, write_blob, write_if_changed
from dualreg.migrate.targets.web_servers import PLAIN_TYPE, check_root, tell_servers
from dualreg.registry import Registry

#: Files of the list of tags in V1, which tags of these names would replace.
_LISTS = ("index.json", "index.html")


class StaticTreeTarget:
    """A Target; blobs that several repositories have are one file under several names."""

    takes_schema1 = False
    renames = False
    one_by_one = False

    def __init__(self, path: Path, registry: Registry, *, deep: bool = False) -> None:
        """Write below *path*, with the V1 images that *registry* shows.

        Args:
            deep: Read the blobs that are there already.

        Raises:
            NoTarget: it is no folder, or none that servers can be told of.
        """
        check_folder(path)
        check_root(path)
        self._root, self._registry, self._deep, self._lock = path, registry, deep, Lock()
        self._begun = False
        self._first: dict[Digest, Path] = {}
        self._told: dict[str, dict[str, tuple[str, str]]] = {}
        self._tags: dict[RepositoryName, dict[Tag, ImageId | None]] = {}
        self._v1_images: dict[ImageId, tuple[Digest, Digest | None]] = {}
        self._changes: dict[str, bytes] = {}

    def blob(self, repository: RepositoryName, digest: Digest, source: SourceBytes) -> int:
        """See Target."""
        self._begin()
        path = self._root / "v2" / repository / "blobs" / str(digest)
        sent = write_blob(path, digest, source, deep=self._deep, twin=self._first.get(digest))
        self._first.setdefault(digest, path)
        return sent

    def manifest(self, manifest: Outgoing, tags: Sequence[Tag]) -> bool:
        """See Target."""
        self._begin()
        repository, kind = manifest.repository, manifest.media_type
        if not PLAIN_TYPE.fullmatch(kind):
            where = f"{repository}@{manifest.digest}"
            raise Broken(FindingKind.NO_PLACE, where, f"no server can be told of the type {kind!r}")
        folder = f"v2/{repository}/manifests"
        changed = write_if_changed(self._root / folder / str(manifest.digest), manifest.payload)
        self._tell(manifest, str(manifest.digest))
        for tag in tags:
            self._reserve(f"v2/{repository}/tags/list", {"name": repository, "tags": []})
            seen = self._v1_image(repository, tag)
            changed |= self._place(f"{folder}/{tag}", manifest.payload)
            self._tell(manifest, tag)
            with self._lock:
                self._tags.setdefault(repository, {})[tag] = seen
        return changed

    def finish(self) -> None:
        """See Target: tags that move, lists, and what web servers are to be told."""
        for path, content in self._changes.items():
            write(self._root / path, [content])
        before = self._read("v2/_catalog", "repositories") or ()
        repositories = sorted({*before, *self._tags})
        for repository, here in self._tags.items():
            path = f"v2/{repository}/tags/list"
            tags = {*(self._read(path, "tags") or ()), *here}
            self._json(path, {"name": repository, "tags": sorted(tags)})
            self._v1_lists(repository)
        self._json("v2/_catalog", {"repositories": repositories})
        tell_servers(self._root, self._told, repositories, self._sizes())

    def _begin(self) -> None:
        """Write what every tree has, before a repository takes its place."""
        with self._lock:
            if self._begun:
                return
            for page in _LISTS:
                self._json(f"v2/{page}", {})
            self._json("v1/_ping", {"standalone": True})
            self._begun = True

    def _tell(self, manifest: Outgoing, name: str) -> None:
        with self._lock:
            told = self._told.setdefault(manifest.repository, {})
            told[name] = manifest.media_type, str(manifest.digest)

    def _v1_image(self, repository: RepositoryName, tag: Tag) -> ImageId | None:
        """Write the V1 image that the tag is seen as, and those below it.

        Returns:
            The image; None if old clients cannot use it, or would get others by the same ids.
        """
        try:
            image = self._registry.bridge.resolve(repository, tag)
            rows = self._registry.v1_images.ancestry(repository, image)
        except RegistryError:
            return None
        if tag in _LISTS or any(self._is_another(row) for row in rows):
            return None
        for number, row in enumerate(rows):
            folder = self._root / "v1/images" / row.id
            if row.layer:
                source = SourceBytes(row.layer_size or 0, partial(self._registry.blobs.open, row.layer))
                twin = self._first.get(row.layer)
                write_blob(folder / "layer", row.layer, source, deep=self._deep, twin=twin)
            self._json(f"v1/images/{row.id}/ancestry", [below.id for below in rows[number:]])
            write_if_changed(folder / "json", read_document(self._registry, row.json))
        self._reserve(f"v1/repositories/{repository}/images", [])
        self._place(f"v1/repositories/{repository}/tags/{tag}", json.dumps(image).encode())
        return image

    def _is_another(self, row: V1ImageRow) -> bool:
        """Tell whether the tree has another image by that id: ids are only known within a repository here."""
        with self._lock:
            if self._v1_images.setdefault(row.id, (row.json, row.layer)) != (row.json, row.layer):
                return True
        file = self._root / "v1/images" / row.id / "json"
        return file.is_file() and Digest.of(file.read_bytes(), row.json.algorithm) != row.json

    def _v1_lists(self, repository: RepositoryName) -> None:
        here, folder = self._tags[repository], f"v1/repositories/{repository}"
        before: dict[str, str] = self._read(f"{folder}/tags/index.json") or {}
        seen = before | {str(tag): str(image) for tag, image in here.items() if image}
        for tag in [tag for tag, image in here.items() if tag in before and not image]:
            del seen[tag]
            (self._root / folder / "tags" / tag).unlink(missing_ok=True)
        if seen or before:
            for page in _LISTS:
                self._json(f"{folder}/tags/{page}", seen)
            self._json(f"{folder}/images", [{"id": image} for image in dict.fromkeys(seen.values())])

    def _sizes(self) -> dict[str, int]:
        """Return what clients are told with the JSONs of V1 images: how large their layers are."""
        sizes = {}
        for file in (self._root / "v1/images").glob("*/json"):
            with suppress(FileNotFoundError):
                sizes[f"/v1/images/{file.parent.name}/json"] = (file.parent / "layer").stat().st_size
        return sizes

    def _reserve(self, path: str, value: object) -> None:
        """Keep others from taking the place of a list that is written in the end."""
        if not (self._root / path).is_file():
            self._json(path, value)

    def _place(self, path: str, content: bytes) -> bool:
        """Write a file if there is none, or else in the end; tell whether that changes anything."""
        file = self._root / path
        if not file.is_file():
            write(file, [content])
            return True
        if file.read_bytes() == content:
            return False
        with self._lock:
            self._changes[path] = content
        return True

    def _read(self, path: str, member: str | None = None) -> Any:  # noqa: ANN401 -- whatever JSON is there
        """Return a list of the tree, or a member of it; None if there is none."""
        try:
            value = json.loads((self._root / path).read_bytes())
            return value[member] if member else value
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def _json(self, path: str, value: object) -> None:
        write_if_changed(self._root / path, json.dumps(value).encode())
