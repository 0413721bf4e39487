"""Files and folders of a source, which may be hostile; and blobs and manifests that are files.

Each is read within a *root*, the folder of the source: symbolic links may lead to anything below it, and what
they lead to elsewhere is not read. What was opened is compared, so that no link can change in between.
"""

import errno
import os
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

from dualreg.migrate.findings import Broken, FindingKind
from dualreg.migrate.sources.base import SourceBytes

#: Bytes of the largest manifest that is read; registries accept at most 4 MiB.
DOCUMENT_LIMIT = 8 << 20
#: Bytes that are read of a file that is known to be small, such as a tag.
SMALL = 1 << 20

_T = TypeVar("_T")


def open_file(path: str | Path, root: str | Path) -> BinaryIO:
    """Return an unbuffered reader of a file, which the kernel can copy from.

    Raises:
        OSError: it is outside *root*, not a regular file, or cannot be read. A pipe would make the reader
            wait for ever, and a device may have no end.
    """
    descriptor, _ = _open(path, root)
    return os.fdopen(descriptor, "rb", buffering=0)


def blob_file(path: str | Path, root: str | Path, where: str) -> SourceBytes:
    """Return the blob *where*, stored as a file.

    Raises:
        Broken: it is missing, outside *root*, or not a regular file.
    """
    try:
        descriptor, found = _open(path, root)
        os.close(descriptor)
        return SourceBytes(found.st_size, partial(open_file, path, root), path, found.st_mtime_ns)
    except FileNotFoundError as error:
        raise Broken(FindingKind.MISSING_BLOB, where, "no such blob") from error
    except OSError as error:
        raise Broken(FindingKind.UNREADABLE, where, f"cannot be read: {error}") from error


def read_document(path: str | Path, root: str | Path, where: str) -> bytes:
    """Return the manifest *where*, stored as a file.

    Raises:
        Broken: it is missing, outside *root*, empty or too large, or cannot be read.
    """
    try:
        content, _ = read_file(path, root, DOCUMENT_LIMIT)
    except FileNotFoundError as error:
        raise Broken(FindingKind.MISSING_MANIFEST, where, "no such manifest") from error
    except OSError as error:
        raise Broken(FindingKind.UNREADABLE, where, f"cannot be read: {error}") from error
    if not content:
        raise Broken(FindingKind.CORRUPT, where, "the file is empty")
    return content


def entries(folder: str | Path, root: str | Path) -> list[os.DirEntry[str]]:
    """Return the entries of a folder, sorted by name.

    Raises:
        OSError: it is outside *root*, or cannot be read.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _require_within(descriptor, folder, root)
    finally:
        os.close(descriptor)
    with os.scandir(folder) as found:
        return sorted(found, key=lambda entry: entry.name)


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # circular links
        return False


def may_be_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder, or a link that may lead to one: also a dead one."""
    return is_folder(entry) or (entry.is_symlink() and not is_file(entry))


def was_deleted(path: str | Path, error: OSError) -> bool:
    """Return whether *error* means that *path*, which was listed, is gone; not if a dead link led to it."""
    if not isinstance(error, FileNotFoundError):
        return False
    nearest = str(path)
    while nearest and not os.path.lexists(nearest):
        nearest = os.path.dirname(nearest)  # noqa: PTH120 -- text
    return not nearest or os.path.exists(nearest)  # noqa: PTH110 -- it is the dead link, if there is one


def is_file(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a regular file, or a link to one."""
    try:
        return entry.is_file()
    except OSError:
        return False


def retry_missing(attempt: Callable[[], _T]) -> _T:
    """Return the result of *attempt*, which is repeated once if a file is missing.

    A network file system may not find a file that it has just listed.
    """
    try:
        return attempt()
    except FileNotFoundError:
        return attempt()


def read_file(path: str | Path, root: str | Path, limit: int = SMALL) -> tuple[bytes, os.stat_result]:
    """Return the content of a file of at most *limit* bytes, and its status.

    Raises:
        OSError: as of ``open_file``, or it is larger.
    """
    descriptor, found = _open(path, root)
    try:
        if found.st_size > limit:
            raise OSError(f"it has {found.st_size} bytes, more than the limit of {limit}")
        return os.read(descriptor, found.st_size), found
    finally:
        os.close(descriptor)


def _open(path: str | Path, root: str | Path) -> tuple[int, os.stat_result]:
    """Return the descriptor of a file, which the caller closes, and its status; raise as ``open_file``."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)  # opening a pipe would block
    try:
        found = os.fstat(descriptor)
        _require_regular(found, path)
        _require_within(descriptor, path, root)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor, found


def _require_within(descriptor: int, path: str | Path, root: str | Path) -> None:
    """Raise OSError if what was opened as *path* is not *root* or below it."""
    opened = os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115 -- text
    if opened != str(path):  # there are links, perhaps only above the root
        folder = os.path.realpath(root)
        if opened != folder and not opened.startswith(f"{folder.rstrip('/')}/"):
            raise OSError(errno.EXDEV, "links to a place outside of the source", str(path))


def _require_regular(found: os.stat_result, path: str | Path) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
