"""Listing: the files of a layer, and how it changes the layers below, in the form of the V1 API.

Source: docker-registry 0.9, ``lib/layers.py``, which recognised whiteouts only in the root folder of some
archives; this module recognises them everywhere.
"""

import json
import tarfile
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from dualreg.errors import ImageInvalid
from dualreg.image.entries import WHITEOUT, is_internal
from dualreg.image.tar import Member, members

_KINDS = {
    tarfile.REGTYPE: "f",
    tarfile.AREGTYPE: "f",
    tarfile.LNKTYPE: "l",
    tarfile.SYMTYPE: "s",
    tarfile.CHRTYPE: "c",
    tarfile.BLKTYPE: "b",
    tarfile.DIRTYPE: "d",
    tarfile.FIFOTYPE: "i",
    tarfile.CONTTYPE: "t",
    tarfile.GNUTYPE_SPARSE: "S",
}
#: Layers with more files are not listed.
_FILES_LIMIT = 500_000
#: Nor are those whose list is longer, in bytes of JSON, which may write one character of a name as twelve.
TEXT_LIMIT = 48 << 20


class File(NamedTuple):
    """A file of a layer; fields are in the order of the lists that V1 clients get.

    Attributes:
        kind: One letter: ``f`` file, ``d`` folder, ``l`` hard link, ``s`` symbolic link, ``c`` and ``b``
            devices, ``i`` fifo, ``t`` contiguous, ``S`` sparse, ``u`` unknown.
        deleted: Whether the layer deletes it from the layers below.
        size: In bytes.
        mtime: Seconds since 1970.
    """

    name: str
    kind: str
    deleted: bool
    size: int
    mtime: int
    mode: int
    uid: int
    gid: int

    @property
    def path(self) -> str:
        """The name without the slashes around it, which archives write or leave out."""
        return self.name.strip("/")


def files(layer: Iterable[bytes], check: Callable[[], None] = lambda: None) -> Iterator[File]:
    """Yield the files of a layer of any compression.

    Args:
        check: Called for each piece that is uncompressed; what it raises is passed on.

    Raises:
        ImageInvalid: it is not a tar, or has more files, or longer names, than are listed.
    """
    count = text = 0
    for part in members(layer, lambda _: check(), zstd=True):
        if isinstance(part, Member) and (file := _file(part.header)):
            count, text = count + 1, text + len(json.dumps(file))
            if count > _FILES_LIMIT or text > TEXT_LIMIT:
                raise ImageInvalid(reason="too many files to list")
            yield file


def dump_files(listed: Iterable[File]) -> bytes:
    """Return the files as a JSON list, without keeping more of them than their text."""
    text = bytearray(b"[")
    for file in listed:
        text += (b", " if len(text) > 1 else b"") + json.dumps(file).encode()
    return bytes(text + b"]")


def dump_changes(sorted_: Mapping[str, Mapping[str, list[object]]]) -> bytes:
    """Return what ``changes`` returns as JSON."""
    return json.dumps(sorted_, sort_keys=True).encode()


def changes(layer: Iterable[File], below: Iterable[Iterable[File]]) -> dict[str, dict[str, list[object]]]:
    """Return the files of *layer* by name, under ``deleted``, ``changed`` and ``created``.

    Args:
        below: The layers below it, nearest first; read only as far as needed.
    """
    sorted_: dict[str, dict[str, list[object]]] = {"deleted": {}, "changed": {}, "created": {}}
    new: dict[str, File] = {}
    for file in layer:
        if file.deleted:
            sorted_["deleted"][file.name] = [*file[1:]]
        else:
            new[file.path] = file
    order = _Order(new)
    for lower in below:
        if not new:
            break
        gone = set()
        for known in lower:
            if known.deleted:
                gone.add(known.path)
            elif found := new.pop(known.path, None):
                sorted_["changed"][found.name] = [*found[1:]]
        for path in order.take(gone):
            if created := new.pop(path, None):
                sorted_["created"][created.name] = [*created[1:]]
    sorted_["created"] |= {file.name: [*file[1:]] for file in new.values()}
    return sorted_


class _Order:
    """Paths, sorted so that what lies below a folder follows it and is found at once."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._keys = sorted(map(self._key, paths))

    def take(self, paths: Iterable[str]) -> Iterator[str]:
        """Remove and yield *paths* and what lies below them; nothing of the root."""
        kept, taken, end = list[str](), list[str](), 0
        for key in filter(None, sorted(map(self._key, paths))):
            start, begun = bisect_left(self._keys, key), end
            if start >= begun:  # else it lies below the one before
                end = bisect_left(self._keys, key + "\1")
                kept += self._keys[begun:start]
                taken += self._keys[start:end]
        self._keys = kept + self._keys[end:]
        return (each.replace("\0", "/") for each in taken)

    @staticmethod
    def _key(path: str) -> str:
        return path.replace("/", "\0")


def _file(header: tarfile.TarInfo) -> File | None:
    """Return the file that *header* describes; None if it is internal to AUFS."""
    name = (
        "/"
        if header.name == "."
        else header.name.removeprefix(".")
        if header.name[:2] == "./"
        else header.name
    )
    folder, slash, base = name.rpartition("/")
    if is_internal(name):
        return None
    deleted = base.startswith(WHITEOUT)
    if deleted:
        name = folder + slash + base.removeprefix(WHITEOUT)
    kind = _KINDS.get(header.type, "u")
    numbers = (header.size, int(header.mtime), header.mode, header.uid, header.gid)
    return File(name, kind, deleted, *numbers)
