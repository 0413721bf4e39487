"""A follower has what the copy says, and shows nothing that cannot be pulled."""

import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dualreg.assembly import accounts_of, open_catalog, open_registry, prepare
from dualreg.catalog.access import NAMES as ACCESS
from dualreg.catalog.database import Catalog
from dualreg.maintenance.follow.follower import Follower
from dualreg.settings import Settings
from dualreg.storage import open_store
from dualreg.storage.followed import FollowedStore
from tests.apps import client_of
from tests.cuts.client import InProcess
from tests.maintenance.pulls import pull_everything
from tests.maintenance.world import administer, fill, known_rows
from tests.soak import short_or_long

Rows = dict[str, list[dict[str, Any]]]


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


def rows_of(catalog: Catalog) -> Rows:
    """Return the rows that the tree says, but for blobs that nothing links."""
    found = known_rows(catalog)
    linked = {row["digest"] for row in found["repository_blobs"]}
    found["blobs"] = [row for row in found["blobs"] if row["digest"] in linked]
    return found


@pytest.fixture(scope="module")
def primary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a registry with content of every kind."""
    settings = Settings(data=tmp_path_factory.mktemp("primary") / "data", audit="off", sparse_indexes=True)
    prepare(settings)
    registry = open_registry(settings)
    fill(client_of(registry, settings))
    administer(accounts_of(registry))
    registry.close()
    return settings.data


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A follower of a copy that is not there yet."""
    follow = tmp_path / "copy"
    follow.mkdir()
    return Settings(data=tmp_path / "follower", follow=follow, audit="off", sparse_indexes=True)


def expected_rows(data: Path, follow: Path | None = None) -> Rows:
    """Return the rows of a registry, or of a follower, that the tree says."""
    catalog = open_catalog(Settings(data=data, follow=follow))
    found = rows_of(catalog)
    catalog.close()
    return found


def test_a_follower_has_every_row(primary: Path, settings: Settings) -> None:
    """Of all that was pushed over both APIs, converted, moved and deleted; and accounts."""
    settings = settings.model_copy(update={"auth": "accounts"})
    copy(primary, settings.follow)
    with follower(settings) as following:
        assert following.look().waiting == []
        found = rows_of(following.catalog)
    for name, rows in expected_rows(primary).items():
        assert found[name] == rows, name


def require_same(expected: Rows, found: Rows) -> None:
    """Require that all rows are found; what reads over V1 have added may be there, too."""
    for name, rows in expected.items():
        if name in ("tags", "repositories"):
            assert found[name] == rows
        elif name not in ACCESS:
            assert [row for row in rows if row not in found[name]] == [], name


def _files(folder: Path) -> list[Path]:
    """Return the files of a store below its folder."""
    return sorted(each.relative_to(folder) for each in (folder / "docker").rglob("*") if each.is_file())


def _may_lack(name: str, digest: str) -> bool:
    """Return whether an index may lack what it names: one is sparse."""
    del digest
    return name == "team/app"


@pytest.mark.parametrize("seed", range(short_or_long(3, 200)))
def test_whatever_has_arrived(primary: Path, settings: Settings, seed: int) -> None:
    """In any order of files, each tag that is shown can be pulled; in the end, all are; so when they go."""
    order, chance = _files(primary), random.Random(seed)  # noqa: S311 -- an order is no secret
    chance.shuffle(order)
    with follower(settings) as following:
        registry = open_registry(settings)
        wire = InProcess(client_of(registry, settings))
        shown = []
        for step in (order[number::6] for number in range(6)):
            for each in step:
                (settings.follow / each).parent.mkdir(parents=True, exist_ok=True)
                (settings.follow / each).with_name(f".{each.name}.aB3xYz").write_bytes(b"half")
                shutil.copy2(primary / each, settings.follow / each)
            following.look()
            shown.append(len(pull_everything(wire, _may_lack)))
        assert shown == sorted(shown)
        require_same(expected_rows(primary), rows_of(following.catalog))
        chance.shuffle(order)
        for step in (order[number::4] for number in range(4)):
            for each in step:
                (settings.follow / each).unlink()
            following.look()
            pull_everything(wire, _may_lack)
        assert rows_of(following.catalog)["repositories"] == []
        registry.close()
