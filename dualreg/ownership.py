"""Ownership: what is created in the directory of a service belongs to that service, and to nobody else.

Otherwise a command that is run as root would leave files that a server under another account cannot write.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from threading import RLock

#: Mode of directories that hold what is not for everybody on the machine: for owner and group.
PRIVATE = 0o750
#: Directories that are remembered to be durable.
_REMEMBERED = 1 << 14
#: Held while a directory exists without its owner, so that no thread takes root's for what it creates there.
_lock = RLock()
_durable: dict[str, None] = {}


def inherit_owner(path: str | Path) -> None:
    """Give a new file or directory the owner and group of its directory, if this process is root."""
    if os.geteuid() != 0:
        return
    with _lock, suppress(FileNotFoundError):  # it was removed meanwhile
        above, own = os.stat(os.path.dirname(path) or "."), os.lstat(path)
        if (above.st_uid, above.st_gid) != (own.st_uid, own.st_gid):
            os.chown(path, above.st_uid, above.st_gid, follow_symlinks=False)


def owner_within(folder: Path) -> tuple[int, int] | None:
    """Return the owner and group to give to many new files below *folder*; None: they have them anyway."""
    found = folder.stat()
    own = found.st_uid, found.st_gid
    return None if os.geteuid() != 0 or own == (0, os.getegid()) else own


def create_folder(folder: str | Path, mode: int = 0o777) -> None:
    """Create a directory in an existing one unless it exists, with ``inherit_owner``.

    Raises:
        OSError: it cannot be created, or is a file.
    """
    with _lock:
        try:
            os.mkdir(folder, mode)
        except FileExistsError:
            if not os.path.isdir(folder):
                raise
        inherit_owner(folder)


def make_folders(folder: str | Path, mode: int = PRIVATE) -> None:
    """Create a directory and its parents where they are missing, with ``inherit_owner``.

    Each is durable before anything is created in it, so that a power cut cannot remove what it contains. That
    goes for those that another process or thread created, too, and may not have synced yet; once is enough.

    Args:
        mode: Of each, before the umask; by default, for owner and group.

    Raises:
        OSError: one cannot be created.
    """
    path = os.fspath(folder)
    if not os.path.isdir(path):
        make_folders(os.path.dirname(path) or ".", mode)
        create_folder(path, mode)
        sync(os.path.dirname(path) or ".")
    elif not is_durable(path):
        with suppress(PermissionError):  # of a directory above the service's own
            sync(os.path.dirname(path) or ".")
    note_durable([path])


def is_durable(folder: str) -> bool:
    """Return whether this process has seen a directory to be durable. It may have been removed since."""
    return folder in _durable


def note_durable(folders: Iterable[str]) -> None:
    """Note that directories are durable, with those above them."""
    if len(_durable) > _REMEMBERED:
        _durable.clear()
    _durable.update(dict.fromkeys(folders))


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
