"""Files of targets, each written whole or not at all."""

import os
import uuid
from collections.abc import Iterable
from pathlib import Path

from dualreg.image.digest import Digest
from dualreg.migrate.sources.base import SourceBytes
from dualreg.migrate.transfer import Checked
from dualreg.storage.base import read_chunks, tap


def write(path: Path, chunks: Iterable[bytes]) -> None:
    """Write a file durably; if *chunks* raise, there is none, or the one that was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name[:100]}.{uuid.uuid4()}")
    try:
        with fresh.open("xb") as file:
            file.writelines(chunks)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def write_if_changed(path: Path, content: bytes) -> bool:
    """Write a small file, unless it is so already; tell whether it was not."""
    if path.is_file() and path.read_bytes() == content:
        return False
    write(path, [content])
    return True


def write_blob(path: Path, digest: Digest, source: SourceBytes) -> int:
    """Write a blob, unless it is there; return how many bytes were written.

    Raises:
        Broken: its bytes are not what its digest says.
    """
    if path.is_file() and path.stat().st_size == source.size:
        return 0
    checked = Checked(digest)

    def checked_chunks() -> Iterable[bytes]:
        with source.open() as reader:
            yield from tap(read_chunks(reader), checked.update)
        checked.check()

    write(path, checked_chunks())
    return checked.size
