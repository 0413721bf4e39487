"""The storage of docker-registry 0.5 to 0.9, the V1 registry in Python.

    images/<id>/json, layer, ancestry, _checksum, _inprogress
    repositories/<namespace>/<name>/tag_<tag>, tag<tag>_json, _private, _index_images

It is read liberally, as crashes and full disks left incomplete files, and never written to.

Source: docker-registry 0.5.1 to 0.9.1, ``registry/`` and ``docker_registry/``: ``storage.py``, ``images.py``,
``tags.py``, ``toolkit.py``.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self
from urllib.parse import quote_plus

from dualreg.errors import ImageIdInvalid
from dualreg.image.names import ImageId
from dualreg.migrate.findings import Finding, FindingKind
from dualreg.migrate.sources.base import SourceImage, SourceInvalid, SourceTag, lost_tag
from dualreg.migrate.sources.files import (
    entries,
    is_file,
    is_folder,
    may_be_folder,
    read_file,
    retry_missing,
    was_deleted,
)
from dualreg.migrate.sources.v1_files import (
    agent,
    decode,
    is_side_file,
    listed_images,
    small_json,
    updated,
)
from dualreg.migrate.sources.v1_folder import read_image

#: Bytes of the longest file name.
_NAME_LIMIT = 255
#: Files of a repository that list images, and all files that are not tags.
_LISTS = ("_index_images", "_images_list")
_SIDE_FILES = frozenset({*_LISTS, "_private", "json"})
#: Where the reference registry stores everything below its root.
_REGISTRY_TREE = "docker/registry/v2"


@dataclass(frozen=True, slots=True)
class V1Tree:
    """A V1Source.

    Attributes:
        root: The folder with ``images`` and ``repositories``.
    """

    root: Path

    @classmethod
    def open(cls, path: Path) -> Self:
        """Return the tree at *path*, or in a folder directly below it.

        Raises:
            SourceInvalid: there is none, or more than one.
            OSError: the folder cannot be read.
        """
        if not path.is_dir():
            raise SourceInvalid(f"{path}: no such directory")
        if _is_tree(path):
            return cls(path.resolve())  # what is opened is compared with it
        below = [Path(entry) for entry in entries(path, path) if is_folder(entry)]
        found = [each for each in below if _is_tree(each)]
        if len(found) > 1:
            raise SourceInvalid(f"{path}: several trees; choose one of {', '.join(map(str, found))}")
        if not found:
            looks = next((each for each in (path, *below) if (each / _REGISTRY_TREE).is_dir()), None)
            hint = f"; it looks like registry-tree:{looks}" if looks else ""
            raise SourceInvalid(f"{path}: no images/ and repositories/ in it or one directory below{hint}")
        return cls(found[0].resolve())

    def tags(self) -> Iterator[SourceTag | Finding]:
        for name, folder in self._repositories():
            if isinstance(folder, SourceTag):
                yield folder
            else:
                yield from self._repository(name, folder)

    def _repositories(self) -> Iterator[tuple[str, Path | SourceTag]]:
        """Yield the name and folder of each repository; what is lost for a namespace that cannot be read."""
        for namespace in filter(may_be_folder, entries(self.root / "repositories", self.root)):
            name = decode(namespace.name)
            try:
                repositories = retry_missing(partial(entries, Path(namespace), self.root))
            except OSError as error:
                if not was_deleted(Path(namespace), error):
                    yield name, lost_tag(FindingKind.UNREADABLE, name, "", f"cannot be read: {error}")
                continue
            for folder in filter(may_be_folder, repositories):
                yield f"{name}/{decode(folder.name)}", Path(folder)

    def _repository(self, name: str, folder: Path) -> Iterator[SourceTag | Finding]:
        try:
            files = retry_missing(partial(entries, folder, self.root))
        except OSError as error:
            if not was_deleted(folder, error):
                yield lost_tag(FindingKind.UNREADABLE, name, "", f"cannot be read: {error}")
            return
        yield from _notes(name, files)
        empty = True
        for each in self._tags(name, files):
            empty = empty and isinstance(each, Finding)
            yield each
        if empty:
            yield Finding(FindingKind.EMPTY, name, "no tags")

    def _tags(self, repository: str, files: Iterable[os.DirEntry[str]]) -> Iterator[SourceTag | Finding]:
        """Yield the tags of a repository, and findings about files that only look like tags."""
        for entry in files:
            if _is_tag(entry) and (found := self._tag(repository, Path(entry))):
                yield found

    def _tag(self, repository: str, path: Path) -> SourceTag | Finding | None:
        """Return a tag, or the finding that it is none; None if there is no such file."""
        tag = decode(path.name.removeprefix("tag_"))
        try:
            content, found = retry_missing(partial(read_file, path, self.root))
        except OSError as error:
            if was_deleted(path, error):
                return None
            return lost_tag(FindingKind.UNREADABLE, repository, tag, f"cannot be read: {error}")
        text = content.decode("utf-8", "replace").strip()
        if is_image_id(text) or self._names_an_image(text):
            return SourceTag(repository, tag, text, updated(path, self.root, found.st_mtime))
        if is_side_file(path, content):
            return Finding(FindingKind.PHANTOM, f"{repository}:{tag}", "the file contains no image id")
        text = "the file contains no image id" if content else "the file is empty"
        return lost_tag(FindingKind.CORRUPT, repository, tag, text)

    def tag(self, repository: str, tag: str) -> SourceTag | None:
        found = (self._tag(repository, path) for path in self._files_of(repository, tag))
        tags = [each for each in found if isinstance(each, SourceTag)]
        return next((each for each in tags if not each.lost), tags[0] if tags else None)

    def names_of(self, repository: str) -> Iterator[str]:
        for folder in self.folders_of(repository):
            for each in folder.iterdir():
                if each.name.startswith("tag_"):
                    yield decode(each.name.removeprefix("tag_"))

    def agent(self, repository: str, tag: str) -> str:
        return next((agent(path, self.root) for path in self._files_of(repository, tag)), "")

    def _files_of(self, repository: str, tag: str) -> Iterator[Path]:
        """Yield the files in which a tag may be stored."""
        for folder in self.folders_of(repository):
            yield folder / f"tag_{tag}"

    def folders_of(self, repository: str) -> Sequence[Path]:
        # There may be several, as releases encoded slashes once or twice.
        namespace, _, name = repository.partition("/")
        names = dict.fromkeys((name, quote_plus(name), quote_plus(quote_plus(name))))
        found = (self.root / "repositories" / namespace / each for each in names if "/" not in each)
        return [folder for folder in found if len(folder.name) <= _NAME_LIMIT and folder.is_dir()]

    def image_ids(self) -> Iterator[str]:
        for entry in filter(is_folder, entries(self.root / "images", self.root)):
            yield entry.name

    def has_image(self, id_: str) -> bool:
        """Return whether there is a JSON of such an image, readable or not."""
        return os.path.isfile(self.root / "images" / id_ / "json")  # noqa: PTH113 -- also if it cannot be read

    def image(self, id_: str) -> SourceImage:
        return read_image(self._images, id_)

    @property
    def _images(self) -> str:
        return sys.intern(f"{self.root}/images")  # every image has it

    def ancestry(self, id_: str) -> Sequence[str] | None:
        listed = small_json(f"{self._images}/{id_}/ancestry", self.root)
        return [*map(str, listed)] if isinstance(listed, list) else None

    def homes(self) -> Mapping[str, str]:
        # Clients sent a list of images with each push; those of deleted tags were kept as well.
        found: dict[str, str] = {}
        for name, folder in self._repositories():
            if isinstance(folder, Path):
                for file in _LISTS:
                    found |= dict.fromkeys(listed_images(folder / file, self.root), name)
        return found

    def _names_an_image(self, text: str) -> bool:
        plain = text.isascii() and text.isalnum()
        return plain and self.has_image(text)


def is_image_id(text: str) -> bool:
    """Return whether *text* has the form of a V1 image id."""
    try:
        ImageId.parse(text)
    except ImageIdInvalid:
        return False
    return True


def _is_tag(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry has the name of a tag; it may be anything but a folder, such as a dead link."""
    return entry.name.startswith("tag_") and not is_folder(entry)


def _is_tree(path: Path) -> bool:
    # For folders that cannot be read, os.path returns False, and pathlib raises.
    return all(os.path.isdir(path / name) for name in ("images", "repositories"))  # noqa: PTH112 -- see above


def _notes(repository: str, files: Iterable[os.DirEntry[str]]) -> Iterator[Finding]:
    """Yield findings about the files of a repository that are not tags."""
    for each in files:
        if each.name == "_private":
            text = "private repository: grant access only to those who had it"
            yield Finding(FindingKind.PRIVATE, repository, text)
        elif not (
            _is_tag(each) or ((each.name.startswith("tag") or each.name in _SIDE_FILES) and is_file(each))
        ):
            yield Finding(FindingKind.FOREIGN, f"{repository}/{each.name}", "unknown file")
