"""Blobs and manifests that are files."""

from functools import partial
from pathlib import Path
from typing import BinaryIO

from dualreg.migrate.findings import Broken, FindingKind
from dualreg.migrate.sources.base import SourceBytes

#: Bytes of the largest manifest that is read; registries accept at most 4 MiB.
_DOCUMENT_LIMIT = 8 << 20


def open_file(path: Path) -> BinaryIO:
    """Return an unbuffered reader of a file, which the kernel can copy from."""
    return path.open("rb", buffering=0)


def file_bytes(path: Path) -> SourceBytes:
    """Return the content of a file, not read yet.

    Raises:
        OSError: it is missing.
    """
    found = path.stat()
    return SourceBytes(found.st_size, partial(open_file, path), path, found.st_mtime_ns)


def blob_file(path: Path, where: str) -> SourceBytes:
    """Return the blob *where*, stored as a file.

    Raises:
        Broken: it is missing.
    """
    try:
        return file_bytes(path)
    except OSError as error:
        raise Broken(FindingKind.MISSING_BLOB, where, "no such blob") from error


def read_document(path: Path, where: str) -> bytes:
    """Return the manifest *where*, stored as a file.

    Raises:
        Broken: it is missing, cannot be read, or is too large.
    """
    try:
        if path.stat().st_size > _DOCUMENT_LIMIT:
            raise Broken(FindingKind.CORRUPT, where, "too large for a manifest")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise Broken(FindingKind.MISSING_MANIFEST, where, "no such manifest") from error
    except OSError as error:
        raise Broken(FindingKind.CORRUPT, where, f"cannot be read: {error}") from error
