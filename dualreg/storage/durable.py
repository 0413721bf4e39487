"""Durable: what it takes that files and folders survive a power cut."""

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path


def create(path: Path) -> int:
    """Open a new file; make its folder as often as somebody who found it empty removes it again."""
    while True:
        make_folder(path.parent)
        with suppress(FileNotFoundError):
            return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)


def move(path: Path, target: Path) -> None:
    """Rename a file; make its new folder as often as somebody who found it empty removes it again."""
    while path.exists():
        make_folder(target.parent)
        with suppress(FileNotFoundError):
            path.rename(target)


def link(path: Path, staged: Path) -> None:
    """Give the file at *path*, or what links there lead to, another name: a link would say nothing here.

    Its bytes are on the disk then, whoever wrote them.

    Raises:
        OSError: it cannot be, or is no file.
    """
    os.link(os.path.realpath(path, strict=True), staged)
    if not stat.S_ISREG(staged.lstat().st_mode):
        staged.unlink()
        raise OSError(errno.EINVAL, "it is no file", str(path))
    descriptor = os.open(staged, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write(descriptor: int, data: bytes) -> None:
    """Write all of *data*; a full disk shows as a short write first, as an error on the next."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def make_folder(folder: Path) -> None:
    """Make *folder* and its parents, each durable in its own parent before anything is put into it."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with suppress(FileNotFoundError):  # the parent was removed as empty: whoever needs the folder tries again
        folder.mkdir(exist_ok=True)
    sync(folder.parent)


def sync(folder: Path) -> None:
    """Make what was added to, renamed in or removed from *folder* durable."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:  # somebody else emptied and removed it meanwhile: nothing left to keep
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
