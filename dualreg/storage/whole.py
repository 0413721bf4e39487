"""Whole: waits for a whole file system at once, where that is as good as waiting for each of many files."""

import ctypes
import os
import platform
import re
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

#: Since this release of Linux, syncfs(2) reports that something could not be written.  Source: its manual.
_REPORTING = (5, 8)
#: File systems on disks, whose syncfs(2) waits for the disk: ext4, XFS, Btrfs and F2FS, by statfs(2).
_ON_DISK = frozenset({0xEF53, 0x58465342, 0x9123683E, 0xF2F52010})
#: More bytes than a ``struct statfs`` has; the type of the file system comes first.
_STATFS = 512


class WholeFileSystem:
    """The file system of a folder, from the beginning of a block on, whose errors are reported."""

    def __init__(self, folder: Path) -> None:
        """Take the file system of *folder*, which must exist when the block begins."""
        self._folder = folder
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        if (libc := _libc()) and _is_new_enough():
            descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
            if _type_of(libc, descriptor) in _ON_DISK:
                self._descriptor = descriptor
            else:
                os.close(descriptor)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)

    def sync(self) -> bool:
        """Wait until everything on the file system is durable; return False if that cannot be had.

        Raises:
            OSError: something could not be written since the block began, by whatever process.
        """
        if self._descriptor is None:
            return False
        if _libc().syncfs(self._descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(self._folder))
        return True


@cache
def _libc() -> Any:  # noqa: ANN401 -- what ctypes loads
    """Return the C library; None if it has no syncfs(2)."""
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None, use_errno=True)
        return libc if libc.syncfs and libc.fstatfs else None
    return None


@cache
def _is_new_enough() -> bool:
    found = re.match(r"(\d+)\.(\d+)", platform.release()) if platform.system() == "Linux" else None
    return found is not None and (int(found[1]), int(found[2])) >= _REPORTING


def _type_of(libc: Any, descriptor: int) -> int:  # noqa: ANN401 -- what ctypes loads
    """Return the magic number of the file system of an open file; 0 if it is not known."""
    buffer = ctypes.create_string_buffer(_STATFS)
    if libc.fstatfs(descriptor, buffer):
        return 0
    return ctypes.c_long.from_buffer(buffer).value & 0xFFFFFFFF
