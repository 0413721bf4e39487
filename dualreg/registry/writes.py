"""Writes: whether content may be added or changed now, by the room on the disks and by the operator."""

import errno
import math
import os
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from dualreg.errors import DiskReserved, ReadOnly
from dualreg.registry.marks import FileMark, Mark, Marker

#: Seconds for which the free room that was found counts.
_FRESH = 1.0
#: More bytes than any disk has.
_UNLIMITED = 1 << 63


@dataclass
class Writes:
    """What all that adds content asks first. By default, nothing stands in its way.

    Attributes:
        folders: On the disks that have to keep room: those of the store and of an SQLite catalog.
        least: Returns how many bytes of a disk of so many stay free.
        mark: Says whether the registry is read-only.
        clock: In seconds.
    """

    folders: Collection[Path] = ()
    least: Callable[[int], int] = lambda _: 0
    mark: Marker = field(default_factory=lambda: FileMark(Path("/nonexistent")))
    clock: Callable[[], float] = time.monotonic
    _seen: tuple[float, int] = field(default=(-math.inf, 0))

    def require(self) -> None:
        """Check that content may be added.

        Raises:
            ReadOnly, DiskReserved.
        """
        self.require_allowed()
        self.require_room()

    def require_allowed(self) -> None:
        """Check that content may be changed.

        Raises:
            ReadOnly: the operator has forbidden it.
        """
        if marked := self.marked():
            raise ReadOnly(reason=marked.reason)

    def require_room(self, size: int = 0, *, received: int = 0) -> None:
        """Check that the disks have room for *size* bytes beyond what stays free.

        Args:
            received: Bytes of the body so far, which then ends here.

        Raises:
            DiskReserved: they do not.
        """
        if self.room() < size:
            raise DiskReserved(received=received)

    def require_import(self) -> None:
        """Check that content may be added that no client pushes.

        Raises:
            OSError: as if the disk were read-only or full: the client that waits for it did not ask to write.
        """
        try:
            self.require()
        except ReadOnly as error:
            raise OSError(errno.EROFS, str(error)) from error
        except DiskReserved as error:
            raise OSError(errno.ENOSPC, str(error)) from error

    def marked(self) -> Mark | None:
        """Return why the registry is read-only; None: it is not."""
        return self.mark.read()

    def set_mark(self, reason: str, now: datetime) -> None:
        """Make the registry read-only, durably, or change why it is."""
        self.mark.write(Mark(reason, now.isoformat()))

    def remove_mark(self) -> bool:
        """Let the registry be written again; return whether it was read-only."""
        return self.mark.remove()

    def room(self) -> int:
        """Return how many bytes can be added before the reserve is reached, as of at most a second ago.

        A negative number if it is reached, be it that of bytes or that of inodes.
        """
        now = self.clock()
        if now - self._seen[0] >= _FRESH:
            self._seen = now, min(map(self._room, self.folders), default=_UNLIMITED)
        return self._seen[1]

    def free(self) -> int | None:
        """Return how many bytes are free on the disk that has least; None: there is none to look at."""
        disks = map(disk_of, self.folders)
        return min((disk.f_bavail * disk.f_frsize for disk in disks), default=None)

    def limited_room(self) -> int | None:
        """Return how many bytes can be added, as ``room``; None: nothing has to stay free."""
        room = self.room()
        return None if room == _UNLIMITED else max(room, 0)

    def _room(self, folder: Path) -> int:
        disk = disk_of(folder)
        size = disk.f_blocks * disk.f_frsize
        least = self.least(size)
        if not least:
            return _UNLIMITED
        # The same share of inodes stays free; file systems that make them as needed say that there are 0.
        if disk.f_favail * size < disk.f_files * least:
            return -1
        return disk.f_bavail * disk.f_frsize - least


def disk_of(folder: Path) -> os.statvfs_result:
    """Return the disk that *folder* is on, or would be if it existed."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return os.statvfs(folder)
