"""Ownership: what is created in the directory of a service belongs to that service, and to nobody else.

Otherwise a command that is run as root would leave files that a server under another account cannot write.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import RLock

#: Mode of directories that hold what is not for everybody on the machine: for owner and group.
PRIVATE = 0o750
#: Directories that are remembered to be durable.
_REMEMBERED = 1 << 14
#: Held while a directory exists without its owner, so that no thread takes root's for what it creates there.
_lock = RLock()
#: Those, with the last change of what is above each before it was synced.
_durable: dict[str, int | None] = {}


def inherit_owner(path: str | Path) -> None:
    """Give a new file or directory the owner and group of its directory, if this process is root."""
    if os.geteuid() != 0:
        return
    with _lock, suppress(FileNotFoundError):  # it was removed meanwhile
        above = os.stat(_above(path))
        if (above.st_uid, above.st_gid) == (0, os.getegid()):
            return  # as root's own files have it
        own = os.lstat(path)
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
        while True:
            try:
                os.mkdir(folder, mode)
                break
            except FileExistsError:
                if os.path.isdir(folder):
                    break
                if os.path.lexists(folder):
                    raise
        inherit_owner(folder)


def make_folders(folder: str | Path, mode: int = PRIVATE) -> None:
    """Create a directory and its parents where they are missing, with ``inherit_owner``.

    Each is durable before anything is created in it, so that a power cut cannot remove what it contains. That
    goes for those that another process or thread created, too, and may not have synced yet; once is enough
    while nothing changes above.

    Args:
        mode: Of each, before the umask; by default, for owner and group.

    Raises:
        OSError: one cannot be created.
    """
    path = os.fspath(folder)
    if is_durable(path):
        return
    above = os.path.dirname(path) or "."
    if os.path.isdir(path):
        with suppress(PermissionError), noted_durable([path]):  # of a directory above the service's own
            sync(above)
        return
    while True:
        make_folders(above, mode)
        with suppress(FileNotFoundError):  # others have removed what is above, as empty
            create_folder(path, mode)
            break
    with noted_durable([path]):
        sync(above)


def is_durable(folder: str) -> bool:
    """Return whether a directory exists, and this process has seen that it is durable.

    Others remove empty directories and create them again. They change what is above it, and that shows.
    """
    noted = _durable.get(folder)
    return noted is not None and noted == _last_change(_above(folder)) and os.path.isdir(folder)


@contextmanager
def noted_durable(folders: Iterable[str]) -> Iterator[None]:
    """Note that directories are durable when the block, which syncs what is above each, has succeeded."""
    seen = {folder: _last_change(_above(folder)) for folder in folders}
    yield
    if len(_durable) > _REMEMBERED:
        _durable.clear()
    _durable.update(seen)


def _above(path: str | Path) -> str:
    """Return the directory of a file or directory, whose path does not end in a slash."""
    folder, slash, _ = os.fspath(path).rpartition("/")
    return folder or slash or "."


def _last_change(folder: str) -> int | None:
    """Return when something was created, renamed or removed in a directory; None if it is gone.

    It is the time that no program can set.
    """
    try:
        return os.stat(folder).st_ctime_ns
    except FileNotFoundError:
        return None


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
