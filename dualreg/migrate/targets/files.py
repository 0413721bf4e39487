"""Files of targets, each written whole or not at all."""

import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from dualreg.image.digest import Digest
from dualreg.migrate.sources.base import SourceBytes
from dualreg.migrate.transfer import DigestVerifier
from dualreg.storage import durable
from dualreg.storage.base import read_chunks, tee

#: Characters of a name that one beside it begins with: even if each is four bytes, all of it is a name yet.
_KEPT = 50


def beside(path: Path) -> Path:
    """Return where to write what shall come to *path*: a name in the same folder that nobody else has."""
    return path.with_name(f".{path.name[:_KEPT]}.{uuid.uuid4()}")


def settle(file: IO[bytes], path: Path) -> None:
    """Close a new file that is whole, and put it in the place of *path*, durably: its bytes come first.

    Raises:
        OSError: that cannot be.
    """
    with file:
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).replace(path)
    durable.sync(path.parent)


def write(path: Path, chunks: Iterable[bytes]) -> None:
    """Write a file durably, and its folders; if *chunks* raise, there is none, or the one that was."""
    with _replacing(path) as fresh, fresh.open("xb") as file:
        file.writelines(chunks)
        settle(file, path)


def write_if_changed(path: Path, content: bytes) -> bool:
    """Write a small file, unless it is so already; tell whether it was not."""
    if path.is_file() and path.read_bytes() == content:
        return False
    write(path, [content])
    return True


def holds(path: Path, digest: Digest, size: int, *, deep: bool) -> bool:
    """Tell whether a blob is at *path*: by its size, and by its bytes if *deep*."""
    if not path.is_file() or path.stat().st_size != size:
        return False
    if not deep:
        return True
    checked = DigestVerifier(digest)
    with path.open("rb") as file:
        for chunk in read_chunks(file):
            checked.update(chunk)
    return checked.holds


def write_blob(
    path: Path, digest: Digest, source: SourceBytes, *, deep: bool = False, twin: Path | None = None
) -> int:
    """Write a blob, unless it is there; return how many bytes were written.

    Args:
        deep: Read what is there already, instead of going by its size.
        twin: A file of the same bytes, that may get another name.

    Raises:
        Broken: its bytes are not what its digest says.
    """
    if holds(path, digest, source.size, deep=deep and not _is_one(path, twin)):
        return 0
    if twin and _is_linked(path, twin):
        return 0
    checked = DigestVerifier(digest)

    def checked_chunks() -> Iterable[bytes]:
        with source.open() as reader:
            yield from tee(read_chunks(reader), checked.update)
        checked.check()

    write(path, checked_chunks())
    return checked.size


def _is_one(path: Path, twin: Path | None) -> bool:
    return twin is not None and path.exists() and twin.exists() and path.samefile(twin)


def _is_linked(path: Path, twin: Path) -> bool:
    """Make *path* another name of *twin*, if the file system can; tell whether it is."""
    with _replacing(path) as fresh, suppress(OSError):  # no such thing there, or too many names
        fresh.hardlink_to(twin)
        fresh.replace(path)
    if not _is_one(path, twin):
        return False
    durable.sync(path.parent)
    return True


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Make the folder of *path*, durably; give a name beside it, and remove what the block leaves there."""
    durable.make_folder(path.parent)
    fresh = beside(path)
    try:
        yield fresh
    finally:
        fresh.unlink(missing_ok=True)  # also where one file has both names: renaming is nothing then
