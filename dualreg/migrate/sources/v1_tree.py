"""The tree of docker-registry 0.5 to 0.9, the Python registry of V1.

    images/<id>/json, layer, ancestry, _checksum, _inprogress
    repositories/<namespace>/<name>/tag_<tag>, tag<tag>_json, _private, _index_images

Read liberally, since its drivers left everything behind that a crash or a disk can do, and never written to.

Source: docker-registry 0.5.1 to 0.9.1, ``registry/`` and ``docker_registry/``: ``storage.py``, ``images.py``,
``tags.py``, ``toolkit.py``.
"""

import json
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from urllib.parse import quote_plus, unquote_plus

from dualreg.errors import ImageIdInvalid, ImageInvalid
from dualreg.image.names import ImageId
from dualreg.image.v1_image import V1Image
from dualreg.migrate.findings import Broken, Finding, Kind
from dualreg.migrate.sources.base import NoSource, SourceImage, SourceTag
from dualreg.migrate.sources.files import file_bytes

_ENCODED = re.compile(r"%[0-9A-Fa-f]{2}")
#: Bytes of a list of ancestors, a checksum or a tag that are looked at; and of an image's JSON.
_SMALL = 1 << 20
DOCUMENT_LIMIT = 4 << 20
#: Files of a repository that are no tags.
_SIDE_FILES = frozenset({"_index_images", "_images_list", "_private", "json"})
#: How often a name can have been encoded: each release of 0.8 and later did it once more.
_ENCODINGS = 4


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
        for namespace in _folders(self.root / "repositories"):
            for folder in _folders(namespace):
                yield from self._repository(f"{decode(namespace.name)}/{decode(folder.name)}", folder)

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
        text = _read(path).decode("utf-8", "replace").strip()
        tag = decode(path.name.removeprefix("tag_"))
        if not is_image_id(text) and not self._names_an_image(text):
            return Finding(Kind.PHANTOM, f"{repository}:{tag}", "the file holds no image id")
        return SourceTag(repository, tag, text, _updated(path))

    def tag(self, repository: str, tag: str) -> SourceTag | None:
        """See Live."""
        for folder in self._folders_of(repository):
            with suppress(OSError):
                found = self._tag(repository, folder / f"tag_{tag}")
                if isinstance(found, SourceTag):
                    return found
        return None

    def tags_of(self, repository: str) -> Iterator[SourceTag]:
        """See Live."""
        for folder in self._folders_of(repository):
            with suppress(OSError):
                yield from (each for each in self._tags(repository, folder) if isinstance(each, SourceTag))

    def _folders_of(self, repository: str) -> Iterator[Path]:
        """Yield the folders that a repository may be in: releases encoded slashes once, or twice."""
        namespace, _, name = repository.partition("/")
        for each in dict.fromkeys((name, quote_plus(name), quote_plus(quote_plus(name)))):
            folder = self.root / "repositories" / namespace / each
            if "/" not in each and folder.is_dir():
                yield folder

    def image_ids(self) -> Iterator[str]:
        """See V1Source: the names of all images' folders."""
        for folder in _folders(self.root / "images"):
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
            image = V1Image.parse(_read(folder / "json", DOCUMENT_LIMIT))
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
        listed = _small_json(self.root / "images" / id_ / "ancestry")
        return [*map(str, listed)] if isinstance(listed, list) else None

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


def decode(name: str) -> str:
    """Return a name as clients wrote it: several releases each encoded it once more.

    Bytes that are no text are replaced, so that it can be told.
    """
    name = os.fsencode(name).decode("utf-8", "replace")
    for _ in range(_ENCODINGS):
        if _ENCODED.search(name) is None:
            break
        name = unquote_plus(name)
    return name


def stated_checksums(path: Path) -> tuple[str, ...]:
    """Return what a ``_checksum`` file states: a JSON list, a JSON text, or bare text, as releases had it."""
    try:
        text = _read(path).decode("utf-8", "replace").strip()
    except OSError:
        return ()
    value = _small_json(path)
    values = value if isinstance(value, list) else [text if value is None else value]
    return tuple(each for each in values if isinstance(each, str) and each)


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
        return _read(folder / "json", DOCUMENT_LIMIT)
    except OSError as error:
        raise Broken(Kind.CORRUPT, folder.name, f"its JSON cannot be read ({error})") from error


def _updated(path: Path) -> datetime:
    """Return when a tag was pushed: as its side file says, else as its file's date does."""
    side = path.with_name(f"tag{path.name.removeprefix('tag_')}_json")
    told = _small_json(side)
    if isinstance(told, dict):
        with suppress(ValueError, TypeError, OSError, OverflowError):
            return datetime.fromtimestamp(int(str(told.get("last_update"))), UTC)
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


def _folders(folder: Path) -> list[Path]:
    return sorted(each for each in folder.iterdir() if each.is_dir())


def _read(path: Path, limit: int = _SMALL) -> bytes:
    """Return a small file, or as much of it as is looked at.

    Raises:
        OSError: it is no file, or cannot be read.
    """
    if not path.is_file():
        raise FileNotFoundError(path)
    with path.open("rb") as file:
        return file.read(limit)


def _small_json(path: Path) -> object:
    """Return what a small file says; None if it says nothing that is JSON."""
    try:
        return json.loads(_read(path))
    except (OSError, ValueError, RecursionError):
        return None
