"""Lists of a static tree: what changes when all images are there, in an order that names only what is.

Tags that move come first, then what nginx and Apache find them by, then the lists of them, and the list of
repositories last.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dualreg.image.digest import Digest
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.migrate.targets.new_files import NewFiles, Rank
from dualreg.migrate.targets.web_servers import write_configuration
from dualreg.registry import Registry
from dualreg.registry.referrers import index_of

#: Files with the list of tags in V1; tags cannot have these names there.
PAGES = ("index.json", "index.html")


@dataclass
class Exported:
    """What was written.

    Attributes:
        blobs: The first file of each blob or layer.
        v1_images: Those whose files are all there.
        headers: Media type and digest of manifests, by repository, and by tag or digest.
        tags: Tags, and the V1 image that V1 clients see each as.
        changes: New content of existing files, by their paths.
        subjects: Manifests that others are about.
    """

    blobs: dict[Digest, Path] = field(default_factory=dict)
    v1_images: set[ImageId] = field(default_factory=set)
    headers: dict[str, dict[str, tuple[str, str]]] = field(default_factory=dict)
    tags: dict[RepositoryName, dict[Tag, ImageId | None]] = field(default_factory=dict)
    changes: dict[str, bytes] = field(default_factory=dict)
    subjects: set[tuple[RepositoryName, Digest]] = field(default_factory=set)

    def take(self, others: "Exported") -> None:
        """Take what *others* has, too."""
        for digest, path in others.blobs.items():
            self.blobs.setdefault(digest, path)
        self.v1_images |= others.v1_images
        for repository, headers in others.headers.items():
            self.headers.setdefault(repository, {}).update(headers)
        for name, tags in others.tags.items():
            self.tags.setdefault(name, {}).update(tags)
        self.changes |= others.changes
        self.subjects |= others.subjects


@dataclass(frozen=True, slots=True)
class StaticLists:
    """Writes the lists below *root*, with few waits for the disk."""

    root: Path
    files: NewFiles
    registry: Registry

    def write(self, exported: Exported) -> None:
        """Write them, so that they have what was exported and what they had before."""
        for path, content in exported.changes.items():
            self.files.write(self.root / path, [content], Rank.TAG)
            self._name_many()
        self.files.name()
        before = read_json(self.root / "v2/_catalog", "repositories") or ()
        repositories = sorted({*before, *exported.tags})
        write_configuration(self.files, self.root, exported.headers, repositories, self._sizes())
        gone = list[Path]()
        for repository, tags in exported.tags.items():
            self._list_tags(repository, tags)
            gone += self._list_v1(repository, tags)
            self._name_many()
        for repository, subject in exported.subjects:
            self._list_referrers(repository, subject)
            self._name_many()
        self.files.name()
        for file in gone:
            file.unlink(missing_ok=True)
        self._json("v2/_catalog", {"repositories": repositories})
        self.files.name()

    def _name_many(self) -> None:
        if self.files.is_full:
            self.files.name()

    def _list_tags(self, repository: RepositoryName, exported: dict[Tag, ImageId | None]) -> None:
        path = f"v2/{repository}/tags/list"
        tags = {*(read_json(self.root / path, "tags") or ()), *exported}
        self._json(path, {"name": repository, "tags": sorted(tags)})

    def _list_v1(self, repository: RepositoryName, exported: dict[Tag, ImageId | None]) -> Sequence[Path]:
        """List the tags that V1 clients see; return the files of those that they no longer do.

        Those that an export has left that was killed are no longer listed.
        """
        folder = f"v1/repositories/{repository}"
        before: dict[str, str] = read_json(self.root / folder / "tags/index.json") or {}
        fresh = {str(tag): str(image) for tag, image in exported.items() if image}
        seen = dict(sorted({**before, **fresh}.items()))
        gone = [tag for tag, image in exported.items() if not image]
        for tag in gone:
            seen.pop(tag, None)
        if seen or before:
            for page in PAGES:
                self._json(f"{folder}/tags/{page}", seen)
            self._json(f"{folder}/images", [{"id": image} for image in dict.fromkeys(seen.values())])
        files = [self.root / folder / "tags" / tag for tag in gone]
        return [file for file in files if isinstance(read_json(file), str)]  # no list, nor a folder of others

    def _list_referrers(self, repository: RepositoryName, subject: Digest) -> None:
        """List the referrers of a manifest that are in the tree."""
        folder = self.root / "v2" / repository
        rows = self.registry.referrers.all(repository, subject)
        index = index_of(row for row in rows if (folder / f"manifests/{row.digest}").is_file())
        self._json(f"v2/{repository}/referrers/{subject}", index)

    def _sizes(self) -> dict[str, int]:
        """Return the sizes of layers, which V1 clients get as a header with the JSON, by path of the JSON."""
        sizes = {}
        for file in (self.root / "v1/images").glob("*/json"):
            with suppress(FileNotFoundError):
                sizes[f"/v1/images/{file.parent.name}/json"] = (file.parent / "layer").stat().st_size
        return sizes

    def _json(self, path: str, value: object) -> None:
        self.files.write_if_changed(self.root / path, json.dumps(value).encode(), Rank.TAG)


def read_json(file: Path, member: str | None = None) -> Any:  # noqa: ANN401 -- any JSON
    """Return the JSON in a file, or a member of it; None if it is missing or invalid."""
    try:
        value = json.loads(file.read_bytes())
        return value[member] if member else value
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError, KeyError, TypeError):
        return None
