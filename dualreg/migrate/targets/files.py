"""Files of targets, written atomically and durably."""

import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISREG
from typing import IO

from dualreg.image.digest import Digest
from dualreg.migrate.sources.base import SourceBytes
from dualreg.migrate.transfer import DigestVerifier, has_digest
from dualreg.ownership import make_folders
from dualreg.storage import durable
from dualreg.storage.base import read_chunks, tee

#: How many characters of a name its temporary name keeps, so that it is not too long even in UTF-8.
_KEPT = 50


def temporary_name(path: Path) -> Path:
    """Return a unique name in the folder of *path*, to write to before it is renamed to *path*."""
    return path.with_name(f".{path.name[:_KEPT]}.{uuid.uuid4()}")


def replace_durably(file: IO[bytes], path: Path) -> None:
    """Close a complete file and rename it to *path*; its content is on disk before the name is.

    Raises:
        OSError: it failed.
    """
    with file:
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).replace(path)
    durable.sync(path.parent)


def write(path: Path, chunks: Iterable[bytes]) -> None:
    """Write a file, and its folders; if *chunks* raises, an existing file is left as it was."""
    with _temporary(path) as temporary, temporary.open("xb") as file:
        file.writelines(chunks)
        replace_durably(file, path)


def write_if_changed(path: Path, content: bytes) -> bool:
    """Write a small file unless it has that content already; return whether it was written."""
    if has_content(path, [content]):
        return False
    write(path, [content])
    return True


def has_content(path: Path, chunks: Iterable[bytes]) -> bool:
    """Return whether a file consists of *chunks*."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return all(file.read(len(chunk)) == chunk for chunk in chunks) and not file.read(1)


def has_blob(path: Path, digest: Digest, size: int, *, deep: bool) -> bool:
    """Return whether *path* has a blob, according to its size or, if *deep*, its content."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    if not S_ISREG(found.st_mode) or found.st_size != size:
        return False
    if not deep:
        return True
    with path.open("rb") as file:
        return has_digest(file, digest)


def write_blob(
    path: Path, digest: Digest, source: SourceBytes, *, deep: bool = False, duplicate: Path | None = None
) -> int:
    """Write a blob unless it exists; return how many bytes were written.

    Args:
        deep: Read an existing file, instead of comparing its size.
        duplicate: A file with the same content, which may be linked.

    Raises:
        Broken: its content has another digest.
    """
    if has_blob(path, digest, source.size, deep=deep and not is_same_file(path, duplicate)):
        return 0
    if duplicate and link_file(path, duplicate):
        return 0
    write(path, verified(source, digest))
    return source.size


def verified(source: SourceBytes, digest: Digest) -> Iterator[bytes]:
    """Yield the bytes of a blob.

    Raises:
        Broken: they have another digest.
    """
    verifier = DigestVerifier(digest)
    with source.open() as reader:
        yield from tee(read_chunks(reader), verifier.update)
    verifier.check()


def read_all(path: Path) -> Iterator[bytes]:
    """Yield the bytes of a file."""
    with path.open("rb") as file:
        yield from read_chunks(file)


def is_same_file(path: Path, duplicate: Path | None) -> bool:
    """Return whether both are there, and one file."""
    return duplicate is not None and path.exists() and duplicate.exists() and path.samefile(duplicate)


def link_file(path: Path, duplicate: Path) -> bool:
    """Make *path* a hard link to *duplicate* if the file system can; return whether it is one."""
    with _temporary(path) as temporary, suppress(OSError):  # not supported, or too many links
        temporary.hardlink_to(duplicate)
        temporary.replace(path)
    if not is_same_file(path, duplicate):
        return False
    durable.sync(path.parent)
    return True


def replace_link(path: Path, target: str) -> None:
    """Make *path* a symbolic link to *target*, or have it lead there, atomically."""
    with _temporary(path) as temporary:
        temporary.symlink_to(target)
        temporary.replace(path)
    durable.sync(path.parent)


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """Create the folder of *path*, and yield a ``temporary_name``; remove that file after the block."""
    make_folders(path.parent, 0o777)  # the operator's own, by the umask
    temporary = temporary_name(path)
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)  # renaming a link to the same file leaves it in place
