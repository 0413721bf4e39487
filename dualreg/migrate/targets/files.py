"""Files of targets, each written whole or not at all."""

import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dualreg.image.digest import Digest
from dualreg.migrate.sources.base import SourceBytes
from dualreg.migrate.transfer import Checked
from dualreg.storage.base import read_chunks, tap


def write(path: Path, chunks: Iterable[bytes]) -> None:
    """Write a file durably; if *chunks* raise, there is none, or the one that was."""
    with _replacing(path) as fresh, fresh.open("xb") as file:
        file.writelines(chunks)
        file.flush()
        os.fsync(file.fileno())


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
    checked = Checked(digest)
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
    checked = Checked(digest)

    def checked_chunks() -> Iterable[bytes]:
        with source.open() as reader:
            yield from tap(read_chunks(reader), checked.update)
        checked.check()

    write(path, checked_chunks())
    return checked.size


def _is_one(path: Path, twin: Path | None) -> bool:
    return twin is not None and path.exists() and twin.exists() and path.samefile(twin)


def _is_linked(path: Path, twin: Path) -> bool:
    """Make *path* another name of *twin*, if the file system can; tell whether it is."""
    with _replacing(path) as fresh, suppress(OSError):  # no such thing there, or too many names
        fresh.hardlink_to(twin)
    return _is_one(path, twin)


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Put what the block makes in the place of *path*, if it makes something and ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name[:100]}.{uuid.uuid4()}")
    try:
        yield fresh
        if fresh.exists():
            fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)  # which two names of one file leave there
