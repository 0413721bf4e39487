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
from pathlib import Path
from urllib.parse import unquote_plus

from dualreg.errors import ImageInvalid
from dualreg.image.names import ImageId
from dualreg.image.v1_image import V1Image
from dualreg.migrate.findings import Broken, Finding, Kind

_ID = re.compile(r"[0-9a-f]{64}|[0-9a-f]{16}", re.ASCII)
_ENCODED = re.compile(r"%[0-9A-Fa-f]{2}")
#: Bytes of a list of ancestors, a checksum or a tag that are looked at; and of an image's JSON.
_SMALL = 1 << 20
DOCUMENT_LIMIT = 4 << 20
#: Files of a repository that are no tags.
_SIDE_FILES = frozenset({"_index_images", "_images_list", "_private", "json"})
#: How often a name can have been encoded: each release of 0.8 and later did it once more.
_ENCODINGS = 4


class NoSource(Exception):
    """There is no such source, or it cannot be read; the text says what was looked for."""


@dataclass(frozen=True, slots=True)
class SourceTag:
    """A tag of the old registry, under the names that its clients knew.

    Attributes:
        image: What the tag's file says, which need be no image's id.
        updated: When it was pushed, as far as anything says so.
    """

    repository: str
    tag: str
    image: str
    updated: datetime


@dataclass(frozen=True, slots=True)
class SourceImage:
    """An image of the old registry; its JSON is read when it is asked for, as there may be millions.

    Attributes:
        size: Bytes of its layer.
        marked: Whether a push of it seems to be under way.
        checksums: What was stated of it, whichever sort; empty if nothing was.
    """

    id: ImageId
    parent: ImageId | None
    folder: Path
    size: int
    marked: bool
    checksums: tuple[str, ...]

    @property
    def layer(self) -> Path:
        """Where its layer is."""
        return self.folder / "layer"

    @property
    def json(self) -> bytes:
        """Its JSON, byte for byte.

        Raises:
            Broken: it cannot be read any more.
        """
        try:
            return _read(self.folder / "json", DOCUMENT_LIMIT)
        except OSError as error:
            raise Broken(Kind.CORRUPT, self.id, f"its JSON cannot be read ({error})") from error


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

    def repositories(self) -> Iterator[tuple[str, Path]]:
        """Yield every repository, by the name that clients knew, with its folder."""
        for namespace in _folders(self.root / "repositories"):
            for folder in _folders(namespace):
                yield f"{decode(namespace.name)}/{decode(folder.name)}", folder

    def tags(self, repository: str, folder: Path) -> Iterator[SourceTag | Finding]:
        """Yield the repository's tags, and what looks like one and is none."""
        names = sorted(each.name for each in folder.iterdir() if each.is_file())
        for name in names:
            if not name.startswith("tag_"):
                continue
            text = _read(folder / name).decode("utf-8", "replace").strip()
            tag = decode(name.removeprefix("tag_"))
            if _ID.fullmatch(text) is None and not self._names_an_image(text):
                yield Finding(Kind.PHANTOM, f"{repository}:{tag}", "the file holds no image id")
                continue
            yield SourceTag(repository, tag, text, _updated(folder, name))

    def notes(self, repository: str, folder: Path) -> Iterator[Finding]:
        """Yield what the repository's folder says beside its tags."""
        if (folder / "_private").exists():
            text = "was private: grant nobody else before it is opened"
            yield Finding(Kind.PRIVATE, repository, text)
        for each in sorted(folder.iterdir()):
            known = each.is_file() and (each.name.startswith("tag") or each.name in _SIDE_FILES)
            if not known:
                yield Finding(Kind.FOREIGN, f"{repository}/{each.name}", "not the old registry's")

    def image_ids(self) -> Iterator[str]:
        """Yield the names of all images' folders."""
        for folder in _folders(self.root / "images"):
            yield folder.name

    def image(self, id_: str) -> SourceImage:
        """Return an image, as far as files say without being read through.

        Raises:
            Broken: it lacks something, or is not what its folder is called.
        """
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
            image.id, image.parent, folder, found.st_size, marked, stated_checksums(folder / "_checksum")
        )

    def ancestry(self, id_: str) -> Sequence[str] | None:
        """Return what the image's own list of ancestors says; None if there is none that can be read."""
        listed = _small_json(self.root / "images" / id_ / "ancestry")
        return [*map(str, listed)] if isinstance(listed, list) else None

    def _names_an_image(self, text: str) -> bool:
        plain = text.isascii() and text.isalnum()
        return plain and (self.root / "images" / text / "json").is_file()


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


def _updated(folder: Path, name: str) -> datetime:
    """Return when a tag was pushed: as its side file says, else as its file's date does."""
    side = folder / f"tag{name.removeprefix('tag_')}_json"
    told = _small_json(side)
    if isinstance(told, dict):
        with suppress(ValueError, TypeError, OSError, OverflowError):
            return datetime.fromtimestamp(int(str(told.get("last_update"))), UTC)
    return datetime.fromtimestamp((folder / name).stat().st_mtime, UTC)


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
