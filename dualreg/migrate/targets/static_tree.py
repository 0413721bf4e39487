"""A static tree: files at the paths of both APIs, from which a plain web server serves pulls.

A tree that is being served stays consistent: existing files change last, after everything that they name, and
lists only grow.
"""

import errno
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
from dualreg.migrate.own_documents import read_document
from dualreg.migrate.sources.base import SourceBytes
from dualreg.migrate.targets.base import Outgoing, SingleSteps, check_folder
from dualreg.migrate.targets.files import write, write_blob, write_if_changed
from dualreg.migrate.targets.web_servers import PLAIN_TYPE, check_root, write_configuration
from dualreg.registry import Registry
from dualreg.registry.referrers import index_of

#: Files with the list of tags in V1; tags cannot have these names there.
_LISTS = ("index.json", "index.html")


class StaticTreeTarget(SingleSteps):
    """A Target; a blob of several repositories is one file with several hard links."""

    takes_schema1 = False
    takes_v1 = False
    served = None
    renames = False
    one_by_one = False
    is_stream = False

    def __init__(self, path: Path, registry: Registry, *, deep: bool = False) -> None:
        """Write below *path*.

        Args:
            registry: The registry that is exported, for its V1 images.
            deep: Read existing blobs, instead of comparing sizes.

        Raises:
            TargetInvalid: it is not a folder, or its path cannot be in a server's configuration.
        """
        check_folder(path)
        check_root(path)
        self._root, self._registry, self._deep, self._lock = path, registry, deep, Lock()
        self._started = False
        self._first: dict[Digest, Path] = {}
        self._headers: dict[str, dict[str, tuple[str, str]]] = {}
        self._tags: dict[RepositoryName, dict[Tag, ImageId | None]] = {}
        self._v1_images: dict[ImageId, tuple[Digest, Digest | None]] = {}
        self._changes: dict[str, bytes] = {}
        self._subjects: set[tuple[RepositoryName, Digest]] = set()

    def blob(self, repository: RepositoryName, digest: Digest, source: SourceBytes) -> int:
        self._start()
        path = self._root / "v2" / repository / "blobs" / str(digest)
        sent = write_blob(path, digest, source, deep=self._deep, duplicate=self._first.get(digest))
        self._first.setdefault(digest, path)
        return sent

    def manifest(self, manifest: Outgoing, tags: Sequence[Tag]) -> bool:
        self._start()
        repository, kind = manifest.repository, manifest.media_type
        if not PLAIN_TYPE.fullmatch(kind):
            where = f"{repository}@{manifest.digest}"
            raise Broken(
                FindingKind.NO_PLACE, where, f"media type {kind!r} cannot be in a server's configuration"
            )
        folder = f"v2/{repository}/manifests"
        changed = write_if_changed(self._root / folder / str(manifest.digest), manifest.payload)
        self._add_headers(manifest, str(manifest.digest))
        if manifest.subject:
            with self._lock:
                self._subjects.add((repository, manifest.subject.digest))
        for tag in tags:
            self._reserve(f"v2/{repository}/tags/list", {"name": repository, "tags": []})
            seen = self._v1_image(repository, tag)
            changed |= self._place(f"{folder}/{tag}", manifest.payload)
            self._add_headers(manifest, tag)
            with self._lock:
                self._tags.setdefault(repository, {})[tag] = seen
        return changed

    def finish(self) -> None:
        for path, content in self._changes.items():
            write(self._root / path, [content])
        before = self._read("v2/_catalog", "repositories") or ()
        repositories = sorted({*before, *self._tags})
        write_configuration(self._root, self._headers, repositories, self._sizes())
        for repository, exported in self._tags.items():
            path = f"v2/{repository}/tags/list"
            tags = {*(self._read(path, "tags") or ()), *exported}
            self._json(path, {"name": repository, "tags": sorted(tags)})
            self._v1_lists(repository)
        for repository, subject in self._subjects:
            self._list_referrers(repository, subject)
        self._json("v2/_catalog", {"repositories": repositories})

    def close(self) -> None:
        pass

    def _list_referrers(self, repository: RepositoryName, subject: Digest) -> None:
        """List the referrers of a manifest that are in the tree."""
        folder = self._root / "v2" / repository
        rows = self._registry.referrers.all(repository, subject)
        index = index_of(row for row in rows if (folder / f"manifests/{row.digest}").is_file())
        self._json(f"v2/{repository}/referrers/{subject}", index)

    def _start(self) -> None:
        """Write the files that every tree has, before a repository can take their places."""
        with self._lock:
            if self._started:
                return
            for page in _LISTS:
                self._json(f"v2/{page}", {})
            self._json("v1/_ping", {"standalone": True})
            self._started = True

    def _add_headers(self, manifest: Outgoing, name: str) -> None:
        with self._lock:
            headers = self._headers.setdefault(manifest.repository, {})
            headers[name] = manifest.media_type, str(manifest.digest)

    def _v1_image(self, repository: RepositoryName, tag: Tag) -> ImageId | None:
        """Write the V1 image that V1 clients see as the tag, and its ancestors.

        Returns:
            The image; None if there is none, or if the tree has another image with an id of these.
        """
        try:
            image = self._registry.bridge.resolve(repository, tag)
            rows = self._registry.v1_images.ancestry(repository, image)
        except RegistryError:
            return None
        if tag in _LISTS or any(self._has_other(row) for row in rows):
            return None
        for number, row in enumerate(rows):
            folder = self._root / "v1/images" / row.id
            if row.layer:
                layer = self._registry.v1_layers.get(repository, row)
                source = SourceBytes(layer.size, partial(self._registry.blobs.open, layer.digest))
                first = self._first.get(layer.digest)
                write_blob(folder / "layer", layer.digest, source, deep=self._deep, duplicate=first)
            self._json(f"v1/images/{row.id}/ancestry", [ancestor.id for ancestor in rows[number:]])
            write_if_changed(folder / "json", read_document(self._registry, row.json))
        self._reserve(f"v1/repositories/{repository}/images", [])
        self._place(f"v1/repositories/{repository}/tags/{tag}", json.dumps(image).encode())
        return image

    def _has_other(self, row: V1ImageRow) -> bool:
        """Return whether the tree has another image with that id, which is unique only in its repository."""
        with self._lock:
            if self._v1_images.setdefault(row.id, (row.json, row.layer)) != (row.json, row.layer):
                return True
        file = self._root / "v1/images" / row.id / "json"
        return file.is_file() and Digest.of(file.read_bytes(), row.json.algorithm) != row.json

    def _v1_lists(self, repository: RepositoryName) -> None:
        exported, folder = self._tags[repository], f"v1/repositories/{repository}"
        before: dict[str, str] = self._read(f"{folder}/tags/index.json") or {}
        seen = before | {str(tag): str(image) for tag, image in exported.items() if image}
        for tag in [tag for tag, image in exported.items() if tag in before and not image]:
            del seen[tag]
            (self._root / folder / "tags" / tag).unlink(missing_ok=True)
        if seen or before:
            for page in _LISTS:
                self._json(f"{folder}/tags/{page}", seen)
            self._json(f"{folder}/images", [{"id": image} for image in dict.fromkeys(seen.values())])

    def _sizes(self) -> dict[str, int]:
        """Return the sizes of layers, which V1 clients get as a header with the JSON, by path of the JSON."""
        sizes = {}
        for file in (self._root / "v1/images").glob("*/json"):
            with suppress(FileNotFoundError):
                sizes[f"/v1/images/{file.parent.name}/json"] = (file.parent / "layer").stat().st_size
        return sizes

    def _reserve(self, path: str, value: object) -> None:
        """Create a list that is completed in the end, so that no repository can take its place."""
        if (self._root / path).is_file():
            self._check_place(path, value)
        else:
            self._json(path, value)

    def _place(self, path: str, content: bytes) -> bool:
        """Create a file, or change an existing one in the end; return whether its content changes."""
        file = self._root / path
        if not file.is_file():
            write(file, [content])
            return True
        if file.read_bytes() == content:
            return False
        self._check_place(path, json.loads(content))
        with self._lock:
            self._changes[path] = content
        return True

    def _check_place(self, path: str, value: object) -> None:
        """Check that a file is no list of one repository where *value* is a tag of another, or the reverse.

        Raises:
            FileExistsError: it is of another one.
        """
        held = self._read(path)  # None: damaged, and written anew
        if held is not None and not isinstance(held, type(value)):
            raise FileExistsError(errno.EEXIST, "belongs to another repository", path)

    def _read(self, path: str, member: str | None = None) -> Any:  # noqa: ANN401 -- any JSON
        """Return the JSON in a file, or a member of it; None if it is missing or invalid."""
        try:
            value = json.loads((self._root / path).read_bytes())
            return value[member] if member else value
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError, KeyError, TypeError):
            return None

    def _json(self, path: str, value: object) -> None:
        write_if_changed(self._root / path, json.dumps(value).encode())
