"""Ownership: what is created in the directory of a service belongs to that service, and to nobody else.

Otherwise a command that is run as root would leave files that a server under another account cannot write.
"""

import os
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from threading import RLock

#: Mode of directories that hold what is not for everybody on the machine: for owner and group.
PRIVATE = 0o750
#: Held while a directory exists without its owner, so that no thread takes root's for what it creates there.
_lock = RLock()


def inherit_owner(path: Path) -> None:
    """Give a new file or directory the owner and group of its directory, if this process is root."""
    if os.geteuid() != 0:
        return
    with _lock, suppress(FileNotFoundError):  # it was removed meanwhile
        above, own = path.parent.stat(), path.lstat()
        if (above.st_uid, above.st_gid) != (own.st_uid, own.st_gid):
            os.chown(path, above.st_uid, above.st_gid, follow_symlinks=False)


def owner_within(folder: Path) -> tuple[int, int] | None:
    """Return the owner and group to give to many new files below *folder*; None: they have them anyway."""
    found = folder.stat()
    own = found.st_uid, found.st_gid
    return None if os.geteuid() != 0 or own == (0, os.getegid()) else own


def create_folder(folder: Path, mode: int = 0o777) -> None:
    """Create a directory in an existing one unless it exists, with ``inherit_owner``.

    Raises:
        OSError: it cannot be created, or is a file.
    """
    with _lock:
        folder.mkdir(mode, exist_ok=True)
        inherit_owner(folder)


def make_folders(folder: Path, mode: int = PRIVATE) -> None:
    """Create a directory and its parents where they are missing, with ``inherit_owner``.

    Each is durable before anything is created in it, so that a power cut cannot remove what it contains.

    Args:
        mode: Of each, before the umask; by default, for owner and group.

    Raises:
        OSError: one cannot be created.
    """
    if folder.is_dir():
        _sync_found(folder)
        return
    make_folders(folder.parent, mode)
    create_folder(folder, mode)
    sync(folder.parent)


@lru_cache(maxsize=1 << 14)
def _sync_found(folder: Path) -> None:
    """Make a directory durable that another process or thread created, and may not have synced yet.

    Once is enough: this process has seen it then. What was created above it was synced before it.
    """
    with suppress(PermissionError):  # of a directory above the service's own
        sync(folder.parent)


def sync(path: str | Path) -> None:
    """Make a file durable or, of a folder, the creation, renaming and removal of files; it may be gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
