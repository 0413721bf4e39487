"""Durable: file operations whose results survive a power cut."""

import os
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dualreg.ownership import create_folder, inherit_owner

#: The beginning of the time of file systems.
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def nanoseconds(at: datetime) -> int:
    """Return an instant as file systems have it, in nanoseconds."""
    return (at - _EPOCH) // timedelta(microseconds=1) * 1000


def instant(nanoseconds: int) -> datetime:
    """Return the time of a file as an instant (aware, UTC), to the microsecond."""
    return _EPOCH + timedelta(microseconds=nanoseconds // 1000)


def create(path: Path, mode: int = 0o644) -> int:
    """Create a file and return its descriptor; create its folder, even if others remove it as empty."""
    while True:
        make_folder(path.parent)
        with suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            inherit_owner(path)
            return descriptor


def move(path: Path, target: Path) -> None:
    """Rename a file; create its new folder, even if others remove it as empty."""
    while path.exists():
        make_folder(target.parent)
        with suppress(FileNotFoundError):
            path.rename(target)


def link(descriptor: int, staged: Path) -> None:
    """Make *staged* a hard link to the regular file that is open as *descriptor*, and sync its bytes.

    Raises:
        OSError: the link cannot be made.
    """
    # Python only calls linkat(2), which can follow links, if a folder's descriptor is passed, here unused.
    os.link(f"/proc/self/fd/{descriptor}", staged, src_dir_fd=descriptor, follow_symlinks=True)
    os.fsync(descriptor)


def write(descriptor: int, data: bytes) -> None:
    """Write all of *data*."""
    # On a full disk, a write may be short; only the next one fails.
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def make_folder(folder: Path, mode: int = 0o775) -> None:
    """Create *folder* and its parents where they are missing, each durable before anything is created in it.

    Args:
        mode: Of each, before the umask; by default, nobody but owner and group may write to it.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent, mode)
    with suppress(FileNotFoundError):  # the parent was removed as empty; callers try again
        create_folder(folder, mode)
    sync(folder.parent)


def sync(folder: Path) -> None:
    """Make the creation, renaming and removal of files in *folder* durable."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:  # it was removed as empty meanwhile
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
