"""Files of sources that keep a blob in each."""

from functools import partial
from pathlib import Path
from typing import BinaryIO

from dualreg.migrate.findings import Broken, FindingKind
from dualreg.migrate.sources.base import SourceBytes

#: Bytes of the largest manifest that is read; registries take none beyond 4 MiB.
_DOCUMENT_LIMIT = 8 << 20


def open_file(path: Path) -> BinaryIO:
    """Return a reader of a file that can be handed to the system whole."""
    return path.open("rb", buffering=0)


def file_bytes(path: Path) -> SourceBytes:
    """Return what is in a file, not read yet.

    Raises:
        OSError: there is none.
    """
    found = path.stat()
    return SourceBytes(found.st_size, partial(open_file, path), path, found.st_mtime_ns)


def blob_file(path: Path, where: str) -> SourceBytes:
    """Return the blob *where*, which is in a file.

    Raises:
        Broken: it is not there.
    """
    try:
        return file_bytes(path)
    except OSError as error:
        raise Broken(FindingKind.MISSING_BLOB, where, "no such blob") from error


def read_document(path: Path, where: str) -> bytes:
    """Return the manifest *where*, which is in a file.

    Raises:
        Broken: it is not there, or cannot be read, or is too large for one.
    """
    try:
        if path.stat().st_size > _DOCUMENT_LIMIT:
            raise Broken(FindingKind.CORRUPT, where, "too large for a manifest")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise Broken(FindingKind.MISSING_MANIFEST, where, "no such manifest") from error
    except OSError as error:
        raise Broken(FindingKind.CORRUPT, where, f"it cannot be read ({error})") from error
