"""The tree of docker-registry 0.5 to 0.9, the Python registry of V1.

    images/<id>/json, layer, ancestry, _checksum, _inprogress
    repositories/<namespace>/<name>/tag_<tag>, tag<tag>_json, _private, _index_images

Read liberally, since its drivers left everything behind that a crash or a disk can do, and never written to.

Source: docker-registry 0.5.1 to 0.9.1, ``registry/`` and ``docker_registry/``: ``storage.py``, ``images.py``,
``tags.py``, ``toolkit.py``.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote_plus

from dualreg.errors import ImageIdInvalid
from dualreg.image.names import ImageId
from dualreg.migrate.findings import Finding, FindingKind
from dualreg.migrate.sources.base import SourceImage, SourceInvalid, SourceTag
from dualreg.migrate.sources.v1_files import (
    agent,
    decode,
    entries,
    is_file,
    is_folder,
    listed_images,
    patiently,
    read_file,
    small_json,
    updated,
)
from dualreg.migrate.sources.v1_folder import look_at

#: Letters of a file's name.
_NAME_LIMIT = 255
#: Files of a repository that list images, and all that are no tags.
_LISTS = ("_index_images", "_images_list")
_SIDE_FILES = frozenset({*_LISTS, "_private", "json"})
#: Where the reference registry keeps everything below its root.
_OTHERS = "docker/registry/v2"


@dataclass(frozen=True, slots=True)
class V1Tree:
    """A tree, by the folder that has ``images`` and ``repositories``."""

    root: Path

    @classmethod
    def open(cls, path: Path) -> "V1Tree":
        """Return the tree at *path*, or in a folder of it.

        Raises:
            NoSource: there is none, or it cannot be told which is meant.
            OSError: the folder cannot be read.
        """
        if not path.is_dir():
            raise SourceInvalid(f"{path}: no such folder")
        if _is_tree(path):
            return cls(path)
        below = [Path(entry) for entry in entries(path) if is_folder(entry)]
        found = [each for each in below if _is_tree(each)]
        if len(found) > 1:
            raise SourceInvalid(f"{path}: which one is meant: {', '.join(map(str, found))}?")
        if not found:
            looks = next((each for each in (path, *below) if (each / _OTHERS).is_dir()), None)
            hint = f"; it looks like registry-tree:{looks}" if looks else ""
            raise SourceInvalid(f"{path}: no images/ and repositories/ here or one folder below{hint}")
        return cls(found[0])

    def tags(self) -> Iterator[SourceTag | Finding]:
        """See V1Source."""
        for name, folder in self._repositories():
            if isinstance(folder, Finding):
                yield folder
            else:
                yield from self._repository(name, folder)

    def _repositories(self) -> Iterator[tuple[str, Path | Finding]]:
        """Yield every repository's folder, by its name; of a namespace that cannot be read, that."""
        for namespace in filter(is_folder, entries(self.root / "repositories")):
            name = decode(namespace.name)
            try:
                repositories = patiently(partial(entries, Path(namespace)))
            except OSError as error:
                yield name, Finding(FindingKind.UNREADABLE, name, f"it cannot be read ({error})")
                continue
            for folder in filter(is_folder, repositories):
                yield f"{name}/{decode(folder.name)}", Path(folder)

    def _repository(self, name: str, folder: Path) -> Iterator[SourceTag | Finding]:
        try:
            files = patiently(partial(entries, folder))
        except FileNotFoundError:
            return  # it was deleted meanwhile
        except OSError as error:
            yield Finding(FindingKind.UNREADABLE, name, f"it cannot be read ({error})")
            return
        yield from _notes(name, files)
        empty = True
        for each in self._tags(name, files):
            empty = empty and isinstance(each, Finding)
            yield each
        if empty:
            yield Finding(FindingKind.EMPTY, name, "no tags")

    def _tags(self, repository: str, files: Iterable[os.DirEntry[str]]) -> Iterator[SourceTag | Finding]:
        """Yield the repository's tags, and what looks like one and is none."""
        for entry in files:
            if entry.name.startswith("tag_") and is_file(entry):
                with suppress(FileNotFoundError):  # deleted meanwhile
                    yield self._tag(repository, Path(entry))

    def _tag(self, repository: str, path: Path) -> SourceTag | Finding:
        """Return a tag, or what is wrong with it.

        Raises:
            FileNotFoundError: it is not there.
        """
        tag = decode(path.name.removeprefix("tag_"))
        try:
            content, found = patiently(partial(read_file, path))
        except FileNotFoundError:
            raise
        except OSError as error:
            return Finding(FindingKind.UNREADABLE, f"{repository}:{tag}", f"it cannot be read ({error})")
        text = content.decode("utf-8", "replace").strip()
        if not is_image_id(text) and not self._names_an_image(text):
            return Finding(FindingKind.PHANTOM, f"{repository}:{tag}", "the file holds no image id")
        return SourceTag(repository, tag, text, updated(path, found.st_mtime))

    def tag(self, repository: str, tag: str) -> SourceTag | None:
        """See Live."""
        for path in self._files_of(repository, tag):
            with suppress(FileNotFoundError):
                found = self._tag(repository, path)
                if isinstance(found, SourceTag):
                    return found
        return None

    def names_of(self, repository: str) -> Iterator[str]:
        """See Live."""
        for folder in self.folders_of(repository):
            for each in folder.iterdir():
                if each.name.startswith("tag_"):
                    yield decode(each.name.removeprefix("tag_"))

    def agent(self, repository: str, tag: str) -> str:
        """See KnowsAgents."""
        return next((agent(path) for path in self._files_of(repository, tag)), "")

    def _files_of(self, repository: str, tag: str) -> Iterator[Path]:
        """Yield the files that a tag may be in."""
        for folder in self.folders_of(repository):
            yield folder / f"tag_{tag}"

    def folders_of(self, repository: str) -> Sequence[Path]:
        """See Live: there may be several, since releases encoded slashes once, or twice."""
        namespace, _, name = repository.partition("/")
        names = dict.fromkeys((name, quote_plus(name), quote_plus(quote_plus(name))))
        found = (self.root / "repositories" / namespace / each for each in names if "/" not in each)
        return [folder for folder in found if len(folder.name) <= _NAME_LIMIT and folder.is_dir()]

    def image_ids(self) -> Iterator[str]:
        """See V1Source: the names of all images' folders."""
        for entry in filter(is_folder, entries(self.root / "images")):
            yield entry.name

    def has(self, id_: str) -> bool:
        """Tell whether there may be such an image."""
        return os.path.isfile(self.root / "images" / id_ / "json")  # noqa: PTH113 -- also if it cannot be read

    def image(self, id_: str) -> SourceImage:
        """See V1Source."""
        return look_at(self._images, id_)

    @property
    def _images(self) -> str:
        return sys.intern(f"{self.root}/images")  # every image has it

    def ancestry(self, id_: str) -> Sequence[str] | None:
        """See V1Source."""
        listed = small_json(f"{self._images}/{id_}/ancestry")
        return [*map(str, listed)] if isinstance(listed, list) else None

    def homes(self) -> Mapping[str, str]:
        """See V1Source: by the lists of images that old clients sent with each push, even of deleted tags."""
        found: dict[str, str] = {}
        for name, folder in self._repositories():
            if isinstance(folder, Path):
                for file in _LISTS:
                    found |= dict.fromkeys(listed_images(folder / file), name)
        return found

    def _names_an_image(self, text: str) -> bool:
        plain = text.isascii() and text.isalnum()
        return plain and self.has(text)


def is_image_id(text: str) -> bool:
    """Tell whether *text* is of the form of V1 image ids."""
    try:
        ImageId.parse(text)
    except ImageIdInvalid:
        return False
    return True


def _is_tree(path: Path) -> bool:
    # os.path tells of folders that cannot be read that they are none, where pathlib raises.
    return all(os.path.isdir(path / name) for name in ("images", "repositories"))  # noqa: PTH112 -- see above


def _notes(repository: str, files: Iterable[os.DirEntry[str]]) -> Iterator[Finding]:
    """Yield what the repository's folder says beside its tags."""
    for each in files:
        if each.name == "_private":
            text = "was private: grant nobody else before it is opened"
            yield Finding(FindingKind.PRIVATE, repository, text)
        elif not ((each.name.startswith("tag") or each.name in _SIDE_FILES) and is_file(each)):
            yield Finding(FindingKind.FOREIGN, f"{repository}/{each.name}", "not the old registry's")
