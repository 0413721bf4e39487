"""A follower has what the copy says, and shows nothing that cannot be pulled."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dualreg.assembly import accounts_of, open_catalog, open_registry, prepare
from dualreg.catalog.database import Catalog
from dualreg.maintenance.follow.follower import Follower
from dualreg.settings import Settings
from dualreg.storage import open_store
from dualreg.storage.followed import FollowedStore
from tests.apps import client_of
from tests.maintenance.world import administer, fill, known_rows


@contextmanager
def follower(settings: Settings) -> Iterator[Follower]:
    """Open a follower that was prepared."""
    prepare(settings)
    catalog, store = open_catalog(settings), open_store(settings.store_url)
    assert isinstance(store, FollowedStore)
    yield Follower(catalog, store, settings.sparse_indexes, settings.follow_verify)
    catalog.close()


def copy(source: Path, target: Path) -> None:
    """Copy a registry by rsync."""
    subprocess.run(["rsync", "-a", "--delete", "--modify-window=-1", f"{source}/", f"{target}/"], check=True)


def rows_of(catalog: Catalog) -> dict[str, list[dict[str, object]]]:
    """Return the rows that the tree says, but for blobs that nothing links."""
    found = known_rows(catalog)
    linked = {row["digest"] for row in found["repository_blobs"]}
    found["blobs"] = [row for row in found["blobs"] if row["digest"] in linked]
    return found


def test_a_follower_has_every_row(tmp_path: Path) -> None:
    """Of all that was pushed over both APIs, converted, moved and deleted; and accounts."""
    primary = Settings(data=tmp_path / "data", audit="off", sparse_indexes=True)
    prepare(primary)
    registry = open_registry(primary)
    fill(client_of(registry, primary))
    administer(accounts_of(registry))
    copy(primary.data, tmp_path / "copy")
    settings = Settings(
        data=tmp_path / "follower",
        follow=tmp_path / "copy",
        auth="accounts",
        audit="off",
        sparse_indexes=True,
    )
    with follower(settings) as following:
        look = following.look()
        assert look.waiting == []
        expected, found = rows_of(registry.state.catalog), rows_of(following.catalog)
    registry.close()
    for name, rows in expected.items():
        assert found[name] == rows, name
