"""Space: what an import takes of the disk, in bytes and inodes, and whether the file system has that."""

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

#: Inodes: a blob is a file in a folder of its own, and so is a link; a tag is a link in two folders. A tag of
#: V1 has its origin, and the view of its manifest in a folder, besides. A repository has eight folders, and
#: the store one for each first byte of a digest.
#: Source: ``storage/filesystem.py``, ``storage/links.py``.
_LINK, _TAG, _V1_TAG, _REPOSITORY, _STORE = 2, 3, 3, 8, 256
#: Bytes of the rows and journal lines about a V1 image or a link, indexes included.
_ROWS = 1280
_MIB = 1 << 20


class Content(NamedTuple):
    """What an import stores.

    Attributes:
        blobs: The bytes of each; those that several repositories share are stored once.
        repositories: How many there are.
        links: How many blobs and manifests the repositories name, all together.
        tags: How many there are.
        v1_images: How many there are in the repositories, all together.
    """

    blobs: Collection[int]
    repositories: int
    links: int
    tags: int
    v1_images: int = 0

    def linked(self) -> "Content":
        """Return the same content if its blobs are hard links to files of the source."""
        return self._replace(blobs=[0] * len(self.blobs))


class Need(NamedTuple):
    """How much of a file system something takes."""

    bytes: int
    inodes: int


@dataclass(frozen=True, slots=True)
class Volume:
    """The file system of a folder.

    Attributes:
        folder: The folder, which need not exist yet.
        block: Bytes of the smallest piece that it allocates.
        free_bytes: Of which users other than root may use.
        free_inodes: None if it makes them as needed, as XFS and btrfs do.
    """

    folder: Path
    block: int
    free_bytes: int
    free_inodes: int | None

    @classmethod
    def of(cls, folder: Path) -> Self:
        """Return the file system that *folder* is in, or will be in.

        Raises:
            OSError: it cannot be determined.
        """
        folder = folder.absolute()
        found = os.statvfs(next(each for each in (folder, *folder.parents) if each.exists()))
        inodes = found.f_favail if found.f_files else None
        return cls(folder, found.f_frsize, found.f_bavail * found.f_frsize, inodes)

    def need(self, content: Content) -> Need:
        """Return what *content* takes at most: of every file, and of every folder, whole blocks."""
        count, blocks = len(content.blobs), sum(-(-size // self.block) for size in content.blobs)
        small = count + min(count, _STORE) + _LINK * content.links + _TAG * content.tags
        small += content.v1_images + _REPOSITORY * content.repositories
        small += _V1_TAG * content.tags if content.v1_images else 0
        rows = _ROWS * (content.links + content.v1_images)
        return Need((blocks + small) * self.block + rows, small + count)

    def shortages(self, need: Need) -> Iterator[str]:
        """Yield what the file system has too little of."""
        if need.bytes > self.free_bytes:
            yield (
                f"a copy needs {_mib(need.bytes)}, and {self.folder} has {_mib(self.free_bytes)} free;"
                " free some space, or choose another place (--data, or store in the configuration)"
            )
        if self.free_inodes is not None and need.inodes > self.free_inodes:
            yield (
                f"a copy needs {need.inodes:,} inodes, and {self.folder} has {self.free_inodes:,} free;"
                " choose a file system with more inodes (mkfs.ext4 -N)"
            )


def _mib(size: int) -> str:
    return f"{size / _MIB:,.1f} MiB"
