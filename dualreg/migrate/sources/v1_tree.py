"""The tree of docker-registry 0.5 to 0.9, the Python registry of V1.

    images/<id>/json, layer, ancestry, _checksum, _inprogress
    repositories/<namespace>/<name>/tag_<tag>, tag<tag>_json, _private, _index_images

Read liberally, since its drivers left everything behind that a crash or a disk can do, and never written to.

Source: docker-registry 0.5.1 to 0.9.1, ``registry/`` and ``docker_registry/``: ``storage.py``, ``images.py``,
``tags.py``, ``toolkit.py``.
"""

import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote_plus

from dualreg.errors import ImageIdInvalid, ImageInvalid
from dualreg.image.names import ImageId
from dualreg.image.v1_image import V1Image
from dualreg.migrate.findings import Broken, Finding, Kind
from dualreg.migrate.sources.base import NoSource, SourceImage, SourceTag
from dualreg.migrate.sources.files import file_bytes
from dualreg.migrate.sources.v1_files import (
    decode,
    folders,
    listed_images,
    read_small,
    small_json,
    stated_checksums,
    updated,
)

#: Bytes of an image's JSON that are looked at.
_DOCUMENT_LIMIT = 4 << 20
#: Letters of a file's name.
_NAME_LIMIT = 255
#: Files of a repository that list images, and all that are no tags.
_LISTS = ("_index_images", "_images_list")
_SIDE_FILES = frozenset({*_LISTS, "_private", "json"})


@dataclass(frozen=True, slots=True)
class V1Tree:
    """A tree, by the folder that has ``images`` and ``repositories``."""

    root: Path

    @classmethod
    def open(cls, path: Path) -> "V1Tree":
        """Return the tree at *path*, or in a folder of it.

        Raises:
            NoSource: there is none.
        """
        if not path.is_dir():
            raise NoSource(f"{path}: no such folder")
        for root in (path, *sorted(each for each in path.iterdir() if each.is_dir())):
            if (root / "images").is_dir() and (root / "repositories").is_dir():
                return cls(root)
        raise NoSource(f"{path}: no images/ and repositories/ here or one folder below")

    def tags(self) -> Iterator[SourceTag | Finding]:
        """See V1Source."""
        for name, folder in self._repositories():
            yield from self._repository(name, folder)

    def _repositories(self) -> Iterator[tuple[str, Path]]:
        for namespace in folders(self.root / "repositories"):
            for folder in folders(namespace):
                yield f"{decode(namespace.name)}/{decode(folder.name)}", folder

    def _repository(self, name: str, folder: Path) -> Iterator[SourceTag | Finding]:
        yield from _notes(name, folder)
        empty = True
        for each in self._tags(name, folder):
            empty = empty and isinstance(each, Finding)
            yield each
        if empty:
            yield Finding(Kind.EMPTY, name, "no tags")

    def _tags(self, repository: str, folder: Path) -> Iterator[SourceTag | Finding]:
        """Yield the repository's tags, and what looks like one and is none."""
        for path in sorted(folder.glob("tag_*")):
            if path.is_file():
                yield self._tag(repository, path)

    def _tag(self, repository: str, path: Path) -> SourceTag | Finding:
        text = read_small(path).decode("utf-8", "replace").strip()
        tag = decode(path.name.removeprefix("tag_"))
        if not is_image_id(text) and not self._names_an_image(text):
            return Finding(Kind.PHANTOM, f"{repository}:{tag}", "the file holds no image id")
        return SourceTag(repository, tag, text, updated(path))

    def tag(self, repository: str, tag: str) -> SourceTag | None:
        """See Live."""
        for folder in self.folders_of(repository):
            with suppress(FileNotFoundError):
                found = self._tag(repository, folder / f"tag_{tag}")
                if isinstance(found, SourceTag):
                    return found
        return None

    def names_of(self, repository: str) -> Iterator[str]:
        """See Live."""
        for folder in self.folders_of(repository):
            for each in folder.iterdir():
                if each.name.startswith("tag_"):
                    yield decode(each.name.removeprefix("tag_"))

    def folders_of(self, repository: str) -> Sequence[Path]:
        """See Live: there may be several, since releases encoded slashes once, or twice."""
        namespace, _, name = repository.partition("/")
        names = dict.fromkeys((name, quote_plus(name), quote_plus(quote_plus(name))))
        found = (self.root / "repositories" / namespace / each for each in names if "/" not in each)
        return [folder for folder in found if len(folder.name) <= _NAME_LIMIT and folder.is_dir()]

    def image_ids(self) -> Iterator[str]:
        """See V1Source: the names of all images' folders."""
        for folder in folders(self.root / "images"):
            yield folder.name

    def has(self, id_: str) -> bool:
        """Tell whether there may be such an image."""
        return (self.root / "images" / id_ / "json").is_file()

    def image(self, id_: str) -> SourceImage:
        """See V1Source."""
        folder = self.root / "images" / id_
        layer = folder / "layer"
        marked = (folder / "_inprogress").exists()
        try:
            image = V1Image.parse(read_small(folder / "json", _DOCUMENT_LIMIT))
        except FileNotFoundError:
            text = "a layer without its JSON" if layer.exists() else "no such image"
            raise Broken(Kind.NO_JSON, id_, text) from None
        except (OSError, ImageInvalid) as error:
            raise Broken(Kind.CORRUPT, id_, f"its JSON cannot be read ({error})") from error
        if image.id != id_:
            raise Broken(Kind.WRONG_ID, id_, f"its JSON says that it is {image.id}")
        try:
            found = layer.stat()
        except OSError:
            kind, text = (Kind.PARTIAL, "a push that was given up") if marked else (Kind.NO_LAYER, "no layer")
            raise Broken(kind, id_, text) from None
        if not stat.S_ISREG(found.st_mode):
            raise Broken(Kind.CORRUPT, id_, "its layer is no file")
        return SourceImage(
            image.id,
            image.parent,
            json=partial(_document, folder),
            layer=file_bytes(layer),
            marked=marked,
            checksums=stated_checksums(folder / "_checksum"),
        )

    def ancestry(self, id_: str) -> Sequence[str] | None:
        """See V1Source."""
        listed = small_json(self.root / "images" / id_ / "ancestry")
        return [*map(str, listed)] if isinstance(listed, list) else None

    def homes(self) -> Mapping[str, str]:
        """See V1Source: by the lists of images that old clients sent with each push, even of deleted tags."""
        found: dict[str, str] = {}
        for name, folder in self._repositories():
            for file in _LISTS:
                found |= dict.fromkeys(listed_images(folder / file), name)
        return found

    def _names_an_image(self, text: str) -> bool:
        plain = text.isascii() and text.isalnum()
        return plain and (self.root / "images" / text / "json").is_file()


def is_image_id(text: str) -> bool:
    """Tell whether *text* is of the form of V1 image ids."""
    try:
        ImageId.parse(text)
    except ImageIdInvalid:
        return False
    return True


def _notes(repository: str, folder: Path) -> Iterator[Finding]:
    """Yield what the repository's folder says beside its tags."""
    if (folder / "_private").exists():
        yield Finding(Kind.PRIVATE, repository, "was private: grant nobody else before it is opened")
    for each in sorted(folder.iterdir()):
        known = each.is_file() and (each.name.startswith("tag") or each.name in _SIDE_FILES)
        if not known:
            yield Finding(Kind.FOREIGN, f"{repository}/{each.name}", "not the old registry's")


def _document(folder: Path) -> bytes:
    try:
        return read_small(folder / "json", _DOCUMENT_LIMIT)
    except OSError as error:
        raise Broken(Kind.CORRUPT, folder.name, f"its JSON cannot be read ({error})") from error
