"""What a registry knows, as one comparable value: for tests that something changed nothing."""

from typing import Any

from sqlalchemy import select

from dualreg.catalog.tables import Table
from dualreg.registry import Registry


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
