"""Filling: rows and files of large registries, written without waiting for the disk."""

import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert

from dualreg.catalog.tables import Table
from dualreg.image.digest import Digest
from dualreg.storage.filesystem import FilesystemStore

#: When everything was pushed.
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def blob_row(digest: Digest, size: int) -> dict[str, Any]:
    """Return the row of a blob."""
    return {"digest": digest, "size": size, "created_at": LONG_AGO, "verified_at": LONG_AGO}


def record(connection: Connection, rows: Mapping[type[Table], Iterable[Mapping[str, Any]]]) -> None:
    """Insert rows, by table; those first that others refer to."""
    for table, values in rows.items():
        if given := [*values]:
            connection.execute(insert(table), given)


def write_blob(store: FilesystemStore, content: bytes) -> Digest:
    """Write the file of a blob; return its digest."""
    digest = Digest.of(content)
    write_file(store.path(digest), content)
    return digest


def write_file(path: Path, content: bytes) -> None:
    """Write a file, and the folders that it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
