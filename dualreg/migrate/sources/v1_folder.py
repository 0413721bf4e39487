"""The folder of a V1 image in the storage of docker-registry."""

import os
import stat
from functools import partial
from pathlib import Path

from dualreg.errors import ImageInvalid
from dualreg.image.v1_image import V1Image
from dualreg.migrate.findings import Broken, FindingKind
from dualreg.migrate.sources.base import SourceBytes, SourceImage, likeness_of
from dualreg.migrate.sources.files import open_file, read_file, retry_missing
from dualreg.migrate.sources.v1_files import stated_checksums

#: How many bytes of an image's JSON are read.
_DOCUMENT_LIMIT = 4 << 20


class TreeImage(SourceImage):
    """A SourceImage that keeps little in memory, as there may be millions; its JSON is read on request."""

    __slots__ = ("_changed", "_images", "_likeness", "_size", "_stated")
    _changed: int
    _images: str
    _likeness: int
    _size: int
    _stated: bool

    def __init__(
        self, images: str, image: V1Image, layer: os.stat_result, *, marked: bool, stated: bool
    ) -> None:
        """Keep what a survey needs of an *image* in the folder *images*."""
        likeness = likeness_of(image.json, image.id, image.parent)
        kept = {"id": image.id, "parent": image.parent, "marked": marked, "_stated": stated,
                "_images": images, "_size": layer.st_size, "_changed": layer.st_mtime_ns,
                "_likeness": likeness, "recorded": None, "left_out": False}  # fmt: skip
        for name, value in kept.items():
            object.__setattr__(self, name, value)

    def json(self) -> bytes:
        try:
            return read_file(f"{self._images}/{self.id}/json", _root(self._images), _DOCUMENT_LIMIT)[0]
        except OSError as error:
            raise Broken(FindingKind.UNREADABLE, self.id, f"its JSON cannot be read: {error}") from error

    @property
    def layer(self) -> SourceBytes:
        path = Path(self._images, self.id, "layer")
        opener = partial(open_file, path, _root(self._images))
        return SourceBytes(self._size, opener, path, self._changed)

    @property
    def size(self) -> int:
        return self._size

    @property
    def checksums(self) -> tuple[str, ...]:
        path = f"{self._images}/{self.id}/_checksum"
        return stated_checksums(path, _root(self._images), marked=self.marked) if self._stated else ()

    @property
    def has_checksum(self) -> bool:
        return self._stated

    @property
    def likeness(self) -> int:
        return self._likeness


def read_image(images: str, id_: str) -> TreeImage:
    """Return the image *id_* of the folder *images*.

    Raises:
        Broken: a part of it is missing or damaged, or it has another id.
    """
    folder, root = f"{images}/{id_}", _root(images)
    image = _parsed(folder, root, id_)
    marked = _is_there(f"{folder}/_inprogress")
    try:
        layer = retry_missing(partial(_status, f"{folder}/layer", root))
    except FileNotFoundError:
        kind, text = (
            (FindingKind.PARTIAL, "an unfinished push") if marked else (FindingKind.NO_LAYER, "no layer")
        )
        raise Broken(kind, id_, text) from None
    except OSError as error:
        raise Broken(FindingKind.UNREADABLE, id_, f"its layer cannot be read: {error}") from error
    if not stat.S_ISREG(layer.st_mode):
        raise Broken(FindingKind.CORRUPT, id_, "its layer is not a regular file")
    checksums = f"{folder}/_checksum"
    if marked and not stated_checksums(checksums, root):
        raise Broken(FindingKind.PARTIAL, id_, "marked as being pushed, and no checksum proves it complete")
    if marked and not layer.st_size:
        raise Broken(FindingKind.PARTIAL, id_, "marked as being pushed, and its layer is empty")
    stated = bool(stated_checksums(checksums, root, marked=marked))
    return TreeImage(images, image, layer, marked=marked, stated=stated)


def _root(images: str) -> str:
    """Return the root of the tree whose images are in the folder *images*."""
    return os.path.dirname(images)  # noqa: PTH120 -- text


def _status(layer: str, root: str) -> os.stat_result:
    """Return the status of a layer; one that is a link must lead to a file of the tree.

    Raises:
        OSError: it does not, or is missing.
    """
    found = os.lstat(layer)
    if not stat.S_ISLNK(found.st_mode):
        return found
    with open_file(layer, root) as file:
        return os.fstat(file.fileno())


def _parsed(folder: str, root: str, id_: str) -> V1Image:
    """Return the V1 image in a folder.

    Raises:
        Broken: its JSON is missing, invalid, or has another id.
    """
    try:
        content, _ = retry_missing(partial(read_file, f"{folder}/json", root, _DOCUMENT_LIMIT))
        if not content:
            raise Broken(FindingKind.CORRUPT, id_, "the file of its JSON is empty")
        image = V1Image.parse(content)
    except FileNotFoundError:
        text = "a layer without its JSON" if _is_there(f"{folder}/layer") else "no such image"
        raise Broken(FindingKind.NO_JSON, id_, text) from None
    except OSError as error:
        raise Broken(FindingKind.UNREADABLE, id_, f"its JSON cannot be read: {error}") from error
    except ImageInvalid as error:
        raise Broken(FindingKind.CORRUPT, id_, f"its JSON cannot be read: {error.reason}") from error
    if image.id != id_:
        raise Broken(FindingKind.WRONG_ID, id_, f"its JSON has the id {image.id}")
    return image


def _is_there(path: str) -> bool:
    return os.access(path, os.F_OK)  # which raises nothing: of most images, it is not
