"""Durable: file operations whose results survive a power cut."""

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dualreg.ownership import create_folder, inherit_owner, make_folders, noted_durable, sync
from dualreg.storage import parallel

__all__ = [
    "SHARED",
    "TAKEN",
    "Wait",
    "above",
    "clone",
    "create",
    "instant",
    "link",
    "make_folder",
    "move",
    "nanoseconds",
    "remove",
    "sync",
    "sync_all",
    "wait_for_all",
    "write",
]

#: Mode of the folders of a store, before the umask: nobody but owner and group may write to them.
SHARED = 0o775
#: Errors of renaming a folder to a place where one is.
TAKEN = (errno.ENOTEMPTY, errno.EEXIST)
#: Bytes of one write. For more at once, Linux looks for memory in larger blocks. In a virtual machine,
#: that may take four times as long, because the host has to find them.
_WRITE_SIZE = 256 << 10
#: Linux's ioctl that makes a file a clone of another.  Source: ``linux/fs.h``.
_FICLONE = 0x40049409
#: The beginning of the time of file systems.
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def nanoseconds(at: datetime) -> int:
    """Return an instant as file systems have it, in nanoseconds."""
    return (at - _EPOCH) // timedelta(microseconds=1) * 1000


def instant(nanoseconds: int) -> datetime:
    """Return the time of a file as an instant (aware, UTC), to the microsecond."""
    return _EPOCH + timedelta(microseconds=nanoseconds // 1000)


def create(path: str | Path, mode: int = 0o644) -> int:
    """Create a file and return its descriptor; create its folder, even if others remove it as empty.

    A folder that exists need not be durable yet.
    """
    while True:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        except FileNotFoundError:
            make_folders(above(path), SHARED)
        else:
            inherit_owner(path)
            return descriptor


def make_folder(path: str) -> None:
    """Create a folder unless it exists; create the one that it is in, even if others remove that as empty."""
    while True:
        try:
            create_folder(path, SHARED)
        except FileNotFoundError:
            make_folders(above(path), SHARED)
        else:
            return


def move(path: str | Path, target: str | Path) -> bool:
    """Rename a file or folder; create its new folder, even if others remove it as empty.

    If it is gone, nothing is done, and False is returned.
    """
    while os.path.lexists(path):
        make_folders(above(target), SHARED)
        with suppress(FileNotFoundError):
            os.rename(path, target)
            return True
    return False


def remove(path: str | Path) -> None:
    """Remove a file, or a folder with all that is in it, without syncing; it may be gone."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except IsADirectoryError:
        shutil.rmtree(path, ignore_errors=True)


def sync_all(*files: str | Path | int) -> None:
    """Make files and changes of folders durable as ``sync``, by path or descriptor, with one wait for all."""
    opened = list[int]()
    try:
        for file in files:
            if not isinstance(file, int):
                with suppress(FileNotFoundError):  # it may be gone
                    opened.append(os.open(file, os.O_RDONLY))
        parallel.sync(*(file for file in files if isinstance(file, int)), *opened)
    finally:
        for descriptor in opened:
            os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Wait:
    """What is called to wait until files and changes of folders are durable.

    Attributes:
        new: Folders of which it is known then, as ``noted_durable`` notes it.
    """

    files: Sequence[str]
    new: Sequence[str] = ()

    def with_files(self, *files: str) -> "Wait":
        """Return what waits for other *files*, too."""
        return Wait((*files, *self.files), self.new)

    def __call__(self) -> None:
        """Wait."""
        wait_for_all([self])


def wait_for_all(waits: Sequence[Callable[[], None]], *files: int | str) -> None:
    """Call each of *waits*, and make *files* durable as ``sync_all``: all that is on this disk together."""
    ours = [wait for wait in waits if isinstance(wait, Wait)]
    with noted_durable(folder for wait in ours for folder in wait.new):
        sync_all(*files, *(file for wait in ours for file in wait.files))
    for wait in waits:
        if not isinstance(wait, Wait):
            wait()


def above(path: str | Path) -> str:
    """Return the folder of a file or folder, whose path does not end in a slash."""
    folder, slash, _ = os.fspath(path).rpartition("/")
    return folder or slash


def clone(descriptor: int, target: int) -> None:
    """Make the file that is open as *target* share the bytes of another one; they are not synced.

    Raises:
        OSError: the file system cannot.
    """
    fcntl.ioctl(target, _FICLONE, descriptor)


def link(descriptor: int, staged: str | Path) -> None:
    """Make *staged* a hard link to the regular file that is open as *descriptor*; it is not synced.

    Raises:
        OSError: the link cannot be made.
    """
    # Python only calls linkat(2), which can follow links, if a folder's descriptor is passed, here unused.
    os.link(f"/proc/self/fd/{descriptor}", staged, src_dir_fd=descriptor, follow_symlinks=True)


def write(descriptor: int, data: bytes, at: datetime | None = None) -> None:
    """Write all of *data*; date the file *at* that time, if there is one."""
    # On a full disk, a write may be short; only the next one fails.
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view[:_WRITE_SIZE]) :]
    if at:
        os.utime(descriptor, ns=(nanoseconds(at),) * 2)
