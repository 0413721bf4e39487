"""Listing: the files of a layer, and what it changes of the layers below, as V1 tells them.

Source: docker-registry 0.9, ``lib/layers.py``; whiteouts are recognised wherever they are, of which that one
saw only those in the root of some archives.
"""

import tarfile
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from dualreg.errors import ImageInvalid
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
_WHITEOUT = ".wh."
#: What AUFS keeps for itself.
_AUFS = ".wh..wh."
#: Files of the largest layer that is listed.
_FILES_LIMIT = 500_000


class File(NamedTuple):
    """A file of a layer, in the order of V1's lists.

    Attributes:
        kind: One letter: ``f`` file, ``d`` folder, ``l`` hard link, ``s`` symbolic link, ``c`` and ``b``
            devices, ``i`` fifo, ``t`` contiguous, ``S`` sparse, ``u`` unknown.
        deleted: The layer takes it away.
        size: Bytes.
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
        """Where it lies, however the archive spells that."""
        return self.name.strip("/")


def files(layer: Iterable[bytes]) -> Iterator[File]:
    """Yield the files of a layer, of whatever compression.

    Raises:
        ImageInvalid: it holds no tar, or too many files.
    """
    count = 0
    for part in members(layer):
        if isinstance(part, Member) and (file := _file(part.header)):
            count += 1
            if count > _FILES_LIMIT:
                raise ImageInvalid(reason="too many files to list")
            yield file


def changes(layer: Iterable[File], below: Iterable[Iterable[File]]) -> dict[str, dict[str, list[object]]]:
    """Sort the files of a layer into ``deleted``, ``changed`` and ``created``, each by name.

    Args:
        below: The layers that it lies on, the next one first; read only as far as needed.
    """
    sorted_: dict[str, dict[str, list[object]]] = {"deleted": {}, "changed": {}, "created": {}}
    new: dict[str, File] = {}
    for file in layer:
        if file.deleted:
            sorted_["deleted"][file.name] = [*file[1:]]
        else:
            new[file.path] = file
    for lower in below:
        if not new:
            break
        gone = set()
        for known in lower:
            if known.deleted:
                gone.add(known.path)
            elif found := new.pop(known.path, None):
                sorted_["changed"][found.name] = [*found[1:]]
        for path in [path for path in new if gone and not gone.isdisjoint(_above(path))]:
            created = new.pop(path)
            sorted_["created"][created.name] = [*created[1:]]
    sorted_["created"] |= {file.name: [*file[1:]] for file in new.values()}
    return sorted_


def _above(path: str) -> Iterator[str]:
    """Yield the path and every folder that it lies in."""
    while path:
        yield path
        path = path.rpartition("/")[0]


def _file(header: tarfile.TarInfo) -> File | None:
    """Return the file that an entry is; None for what AUFS keeps for itself."""
    name = (
        "/"
        if header.name == "."
        else header.name.removeprefix(".")
        if header.name[:2] == "./"
        else header.name
    )
    folder, slash, base = name.rpartition("/")
    if any(part.startswith(_AUFS) for part in name.split("/")):
        return None
    deleted = base.startswith(_WHITEOUT)
    if deleted:
        name = folder + slash + base.removeprefix(_WHITEOUT)
    kind = _KINDS.get(header.type, "u")
    numbers = (header.size, int(header.mtime), header.mode, header.uid, header.gid)
    return File(name, kind, deleted, *numbers)
