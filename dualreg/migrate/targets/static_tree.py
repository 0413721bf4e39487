"""A static tree: files at the paths of both APIs, from which a plain web server serves pulls.

A tree that is being served stays consistent: existing files change last, after everything that they name, and
lists only grow.
"""

import errno
import json
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from dualreg.catalog.rows import V1ImageRow
from dualreg.image.digest import Digest
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.migrate.findings import Broken, FindingKind
from dualreg.migrate.own_documents import read_document
from dualreg.migrate.sources.base import SourceBytes
from dualreg.migrate.targets.base import Outgoing, check_folder
from dualreg.migrate.targets.files import has_blob, is_same_file, verified, write_blob
from dualreg.migrate.targets.new_files import NewFiles, Rank, StagingFolder, new_step
from dualreg.migrate.targets.static_lists import PAGES, Exported, StaticLists, read_json
from dualreg.migrate.targets.web_servers import PLAIN_TYPE, check_root
from dualreg.migrate.transfer import LARGE
from dualreg.registry import Registry
from dualreg.registry.v1_seen import SeenImage

#: Parts of names of repositories that are files of other repositories: a tag, or a list.
_TAKEN = frozenset({"manifests", "tags", "images"})


class _Content(NamedTuple):
    """What an image of an ID is."""

    json: Digest
    diff_id: Digest | None
    layer: Digest | None
    layer_size: int | None


class StaticTreeTarget:
    """A Target; a blob of several repositories is one file with several hard links.

    Attributes:
        exported: What is in the tree by its name, of this export.
    """

    takes_schema1 = False
    takes_v1 = False
    shows_v1 = True
    served = None
    renames = False
    one_by_one = False
    is_quick = True
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
        self.root, self.registry, self.deep, self.exported = path, registry, deep, Exported()
        self._staging, self._lock, self._started = StagingFolder(path), Lock(), False
        self._v1_images: dict[ImageId, _Content] = {}
        self._own_images: dict[RepositoryName, dict[ImageId, _Content]] = {}
        self._claimed: dict[str, str] = {}

    def step(self) -> AbstractContextManager["_Step"]:
        return new_step(self._staging, partial(_Step, self))

    def forget(self, repository: RepositoryName) -> None:
        with self._lock:
            self._own_images.pop(repository, None)

    def finish(self) -> None:
        with NewFiles(self._staging) as files:
            StaticLists(self.root, files, self.registry).write(self.exported)
        self.close()

    def close(self) -> None:
        self._staging.close()

    def start(self) -> None:
        """Write the files that every tree has, before a repository can take their places."""
        with self._lock:
            if self._started:
                return
            with NewFiles(self._staging) as files:
                for page in PAGES:
                    files.write_if_changed(self.root / "v2" / page, b"{}", Rank.TAG)
                ping = json.dumps({"standalone": True}).encode()
                files.write_if_changed(self.root / "v1/_ping", ping, Rank.TAG)
                files.name()
            self._started = True

    def note(self, exported: Exported) -> None:
        """Note what has got its name."""
        with self._lock:
            self.exported.take(exported)

    def claim(self, path: str, kind: str) -> None:
        """Have a file be of that kind, for as long as this export runs.

        Raises:
            FileExistsError: it is of another one, of another repository.
        """
        with self._lock:
            if self._claimed.setdefault(path, kind) != kind:
                raise _taken(path)

    def settled(self, repository: RepositoryName, row: V1ImageRow) -> V1ImageRow | None:
        """Return an image as the tree has it, or will; None if that is another one with its id.

        An id is unique only in its repository. There, it is the same image whatever compressed its layer, and
        the first one stays. That of another repository has to have the same layer: the diff ID of a derived
        image is what its client states, and may be that of anybody's layer.
        """
        content = _Content(row.json, row.diff_id, row.layer, row.layer_size)
        with self._lock:
            own = self._own_images.setdefault(repository, {}).setdefault(row.id, content)
            first = self._v1_images.setdefault(row.id, own)
        if own[:2] != content[:2] or (first.json, first.layer) != (own.json, own.layer):
            return None
        file = self.root / "v1/images" / row.id / "json"
        is_known = row.id in self.exported.v1_images or not file.is_file()
        if not is_known and Digest.of(file.read_bytes(), row.json.algorithm) != row.json:
            return None
        if row.layer == own.layer:
            return row
        return replace(row, layer=own.layer, layer_size=own.layer_size, checksum=None)


class _Step:
    """Images that are written together, and listed after all others."""

    def __init__(self, target: StaticTreeTarget, files: NewFiles) -> None:
        self._target, self._files, self._own = target, files, Exported()
        self._entered, self._reserved = set[RepositoryName](), set[str]()

    @property
    def is_full(self) -> bool:
        """Whether no further tag should be begun."""
        return self._files.is_full

    def blob(self, repository: RepositoryName, digest: Digest, source: SourceBytes) -> int:
        self._enter(repository)
        return self._content(self._path("v2", repository, "blobs", str(digest)), digest, source)

    def manifest(self, manifest: Outgoing, tags: Sequence[Tag]) -> bool:
        repository, kind, digest = manifest.repository, manifest.media_type, str(manifest.digest)
        if not PLAIN_TYPE.fullmatch(kind):
            text = f"media type {kind!r} cannot be in a server's configuration"
            raise Broken(FindingKind.NO_PLACE, f"{repository}@{digest}", text)
        self._enter(repository)
        folder = f"v2/{repository}/manifests"
        changed = self._files.write_if_changed(self._path(folder, digest), manifest.payload, Rank.MANIFEST)
        headers = self._own.headers.setdefault(repository, {})
        headers[digest] = kind, digest
        if manifest.subject:
            self._own.subjects.add((repository, manifest.subject.digest))
        for tag in tags:
            self._reserve(f"v2/{repository}/tags/list", {"name": repository, "tags": []})
            seen = self._v1_image(repository, tag, manifest.seen)
            changed |= self._place(f"{folder}/{tag}", manifest.payload)
            headers[tag] = kind, digest
            self._own.tags.setdefault(repository, {})[tag] = seen
        return changed

    def end(self) -> None:
        """Give all of it names."""
        self._files.name()
        self._target.note(self._own)
        self._own = Exported()

    def _path(self, *parts: str) -> Path:
        return self._target.root.joinpath(*parts)

    def _enter(self, repository: RepositoryName) -> None:
        """Make the folder of a repository, so that one whose place is taken fails alone.

        Raises:
            OSError: a file of another repository is in its place.
        """
        if repository in self._entered:
            return
        self._target.start()
        parts = repository.split("/")
        above = {"/".join(parts[:number]) for number, part in enumerate(parts) if part in _TAKEN}
        if not self._entered.isdisjoint(above):
            self.end()  # what is in its place may have no name yet
        self._files.make(f"{self._path('v2', repository, 'manifests')}")
        self._entered.add(repository)

    def _content(self, path: Path, digest: Digest, source: SourceBytes) -> int:
        """Write a blob or V1 layer unless it exists; return how many bytes were written."""
        first = self._own.blobs.get(digest) or self._target.exported.blobs.get(digest)
        sent = self._write(path, digest, source, first)
        self._own.blobs.setdefault(digest, path)
        return sent

    def _write(self, path: Path, digest: Digest, source: SourceBytes, first: Path | None) -> int:
        """Write a blob as ``_content``, of which *first* is or will be another file."""
        deep = self._target.deep
        if source.size > LARGE:  # other threads need not write it again meanwhile
            sent = write_blob(path, digest, source, deep=deep, duplicate=first)
            self._target.note(Exported(blobs={digest: path}))
            return sent
        is_known = first and not self._files.staged(first) and is_same_file(path, first)
        if self._files.staged(path) or has_blob(path, digest, source.size, deep=deep and not is_known):
            return 0
        if first and self._files.link(path, first, Rank.BLOB):
            return 0
        write = self._files.write if path.exists() else self._files.write_first  # what is there is damaged
        write(path, verified(source, digest), Rank.BLOB)
        return source.size

    def _v1_image(self, repository: RepositoryName, tag: Tag, seen: Sequence[SeenImage]) -> ImageId | None:
        """Write the V1 image that V1 clients see as the tag, and its ancestors.

        Returns:
            The image; None if there is none, if the tree has another image with an id of these, or if a list
            of another repository, which is written in the end, has its place.
        """
        folder = f"v1/repositories/{repository}/tags"
        if not seen or tag in PAGES or any(f"/tags/{page}/" in folder for page in PAGES):
            return None
        target, ids = self._target, [each.row.id for each in seen]
        settled = ((each, target.settled(repository, each.row)) for each in seen)
        images = [replace(each, row=row) for each, row in settled if row]
        if len(images) < len(seen):
            return None
        self._files.make(f"{self._path(folder)}")
        for number, each in enumerate(images):
            if each.row.id not in self._own.v1_images and each.row.id not in target.exported.v1_images:
                self._write_v1_image(repository, each, ids[number:])
        self._reserve(f"v1/repositories/{repository}/images", [])
        self._place(f"{folder}/{tag}", json.dumps(ids[0]).encode())
        return ids[0]

    def _write_v1_image(
        self, repository: RepositoryName, image: SeenImage, ancestry: Sequence[ImageId]
    ) -> None:
        registry, row = self._target.registry, image.row
        folder = self._path("v1/images", row.id)
        if row.layer:
            layer = registry.v1_layers.get(repository, row)
            source = SourceBytes(layer.size, partial(registry.blobs.open, layer.digest))
            self._content(folder / "layer", layer.digest, source)
        document = read_document(registry, row.json) if image.json is None else image.json
        for name, content in (("ancestry", json.dumps(ancestry).encode()), ("json", document)):
            self._files.write_if_changed(folder / name, content, Rank.MANIFEST)
        self._own.v1_images.add(row.id)

    def _reserve(self, path: str, value: object) -> None:
        """Create a list that is completed in the end, so that no repository can take its place."""
        if path in self._reserved:
            return
        self._target.claim(path, "list")
        file = self._path(path)
        if file.is_file():
            self._check_place(path, value)
        else:
            self._files.write_first(file, [json.dumps(value).encode()], Rank.MANIFEST)
        self._reserved.add(path)

    def _place(self, path: str, content: bytes) -> bool:
        """Create a file, or change an existing one in the end; return whether its content changes."""
        if path.endswith("/images"):  # which is also the name of a list
            self._target.claim(path, "tag")
        file = self._path(path)
        if file.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if not file.is_file():
            self._files.write(file, [content], Rank.TAG)
            return True
        if file.read_bytes() == content:
            return False
        self._check_place(path, json.loads(content))
        self._own.changes[path] = content
        return True

    def _check_place(self, path: str, value: object) -> None:
        """Check that a file is no list of one repository where *value* is a tag of another, or the reverse.

        Raises:
            FileExistsError: it is of another one.
        """
        held = read_json(self._path(path))  # None: damaged, and written anew
        if held is not None and not isinstance(held, type(value)):
            raise _taken(path)


def _taken(path: str) -> FileExistsError:
    return FileExistsError(errno.EEXIST, "belongs to another repository", path)
