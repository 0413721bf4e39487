"""What a registry knows, as one comparable value: for tests that something changed nothing.

And the rows of a catalog, to be put back later as from a backup, and where the store keeps a blob.
"""

from pathlib import Path
from typing import Any

from sqlalchemy import Table as SqlTable
from sqlalchemy import select

from dualreg.catalog.access import NAMES
from dualreg.catalog.database import Catalog
from dualreg.catalog.tables import Table
from dualreg.registry import Registry


def blob_file(data: Path, digest: object) -> Path:
    """Return the file of a blob below a data folder, in the layout of the reference registry.

    Args:
        digest: Or its wire form.
    """
    algorithm, _, hex_ = str(digest).partition(":")
    return data / "docker/registry/v2/blobs" / algorithm / hex_[:2] / hex_ / "data"


def snapshot(registry: Registry) -> dict[str, Any]:
    """Return every row, every published and staged byte count, and every link file.

    Two registries that compare equal hold the same; leases and instants of uploads count too.
    """
    state = registry.blobs.state
    tree = state.links.tree
    store = state.store
    with state.catalog.engine.connect() as connection:
        rows = {
            name: sorted(map(repr, connection.execute(select(table))))
            for name, table in Table.metadata.tables.items()
        }
    staged = {}
    for upload in store.staged():
        with store.reopen(upload.upload) as reader:
            staged[upload.upload] = reader.read()
    return {
        "rows": rows,
        "blobs": sorted((str(blob.digest), blob.size) for blob in store.walk()),
        "staged": staged,
        "links": [*tree.walk_links()],
    }


Rows = dict[SqlTable, list[dict[str, Any]]]


def copy_rows(catalog: Catalog) -> Rows:
    """Return the content of every table, but for the accounts, which have a copy of their own."""
    with catalog.engine.connect() as connection:
        tables = [table for table in Table.metadata.sorted_tables if table.name not in NAMES]
        rows = {table: [row._asdict() for row in connection.execute(select(table))] for table in tables}
        connection.rollback()
    return rows


def put_back(catalog: Catalog, rows: Rows) -> None:
    """Have the tables contain *rows* again, and nothing else."""
    with catalog.engine.begin() as connection:
        for table in reversed(rows):
            connection.execute(table.delete())
        for table, values in rows.items():
            if values:
                connection.execute(table.insert(), values)
