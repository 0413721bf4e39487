"""A catalog that is lost, malformed or not complete is not served, nor one that goes while it is served."""

import shlex
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from dualreg.assembly import accounts_of, open_catalog, open_registry, prepare
from dualreg.catalog.notes import Note
from dualreg.cli import main
from dualreg.errors import CatalogUnreachable
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName
from dualreg.maintenance.gc import Collection
from dualreg.settings import Settings
from tests import builders
from tests.apps import client_of
from tests.maintenance.test_rebuild import database, lose, rebuild, settings, with_tables
from tests.protocol.exchange import push_image, v1_text, v2_codes
from tests.state import copy_rows, put_back

__all__ = ["database", "settings"]

IMAGE = builders.image(builders.layer({"a": b"1"}))


@pytest.fixture
def full(settings: Settings) -> Settings:
    """A registry with an image and an account."""
    registry = open_registry(settings)
    push_image(client_of(registry, settings), "team/app", IMAGE, "one")
    accounts_of(registry).add("alice", "a password")
    registry.close()
    return settings


def is_refused(settings: Settings, text: str) -> bool:
    """Return whether the registry does not start for this reason, but does after the command in it."""
    with pytest.raises(CatalogUnreachable, match=text) as error:
        prepare(settings)
    command = str(error.value).rpartition("  dualreg ")[2]
    done = CliRunner().invoke(main, shlex.split(command), env={"DUALREG_CONFIG": None})
    assert done.exit_code == 0, done.output
    prepare(settings)
    registry = open_registry(settings)
    names = [row.name for row in accounts_of(registry).list()]
    pulled = client_of(registry, settings).get("/v2/team/app/manifests/one")
    registry.close()
    return (names, pulled.data) == (["alice"], IMAGE.manifest)


@pytest.mark.slow
def test_an_empty_catalog(full: Settings) -> None:
    """With its tables, or without them."""
    lose(full)
    assert is_refused(full, "the catalog is empty, but the store is not")
    lose(full)
    with_tables(full)
    assert is_refused(full, "the catalog is empty, but the store is not")


def test_a_first_push_that_died_before_it_committed(settings: Settings) -> None:
    """The store has its blob and a link file, and the catalog nothing: no answer was given yet."""
    prepare(settings)
    registry = open_registry(settings)
    registry.state.links.add_blob(RepositoryName("team/app"), Digest.of(b"layer"))
    registry.close()
    prepare(settings)


@pytest.mark.slow
@pytest.mark.parametrize("is_rebuilt", [True, False])
def test_a_catalog_that_is_older_than_the_store(settings: Settings, *, is_rebuilt: bool) -> None:
    """It does not know what was pushed since, which a collection would delete.

    It may be of a time when no garbage had been collected yet, or none since a rebuild.
    """
    prepare(settings)
    with closing(open_registry(settings)) as registry, closing(open_catalog(settings)) as catalog:
        client = client_of(registry, settings)
        accounts_of(registry).add("alice", "a password")
        push_image(client, "team/app", builders.image(builders.layer({"b": b"2"})), "zero")
        if is_rebuilt:
            Collection(registry).run()
            rebuild(settings, "--replace")
        rows = copy_rows(catalog)
        push_image(client, "team/app", IMAGE, "one")
        put_back(catalog, rows)
        prepare(settings)  # nothing was collected since, so it does no harm
        push_image(client, "team/app", IMAGE, "one")
        Collection(registry).run()
        prepare(settings)
        put_back(catalog, rows)
    assert is_refused(settings, "the catalog is older than the store")


def test_an_interrupted_rebuild(full: Settings) -> None:
    """Whatever it had recorded."""
    catalog = open_catalog(full)
    with catalog.begin() as tx:
        tx.notes.write(Note.REBUILD, "")
    catalog.close()
    assert is_refused(full, "the last rebuild of the catalog was interrupted")


def _overwrite(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for page in range(8192, len(content), 8192):
        content[page : page + 300] = b"\xa5" * 300
    path.write_bytes(content)


@pytest.mark.sqlite
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:8192]),
        lambda path: path.write_bytes(b"\0" * 100_000),
        lambda path: path.write_text("nonsense"),
        _overwrite,
    ],
    ids=["cut", "zeros", "another file", "pages"],
)
def test_a_malformed_catalog(full: Settings, damage: Callable[[Path], object]) -> None:
    """It is kept under another name when the catalog is made again."""
    path = full.data / "catalog.sqlite3"
    damage(path)
    content = path.read_bytes()
    assert is_refused(full, "the catalog is malformed")
    (kept,) = full.data.glob("catalog.sqlite3.damaged-*")
    assert kept.read_bytes() == content


@pytest.mark.sqlite
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_catalog_of_pages_of_different_instants(full: Settings) -> None:
    """Its indexes do not agree with its tables; a rebuild sees that, and makes it anew from the store."""
    with closing(sqlite3.connect(full.data / "catalog.sqlite3")) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        change = "UPDATE sqlite_master SET sql = replace(sql, 'verified_at)', 'size)') WHERE name = ?"
        assert connection.execute(change, ["ix_blobs_verified_at"]).rowcount == 1
        connection.commit()
    prepare(full)
    assert rebuild(full)["tags"] == 1
    assert [*full.data.glob("catalog.sqlite3.damaged-*")]


@pytest.mark.slow
@pytest.mark.sqlite
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_catalog_that_goes_while_it_is_served(full: Settings, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is taken that would be lost; another file in its place does not count."""
    registry = open_registry(full)
    client = client_of(registry, full)
    path, aside = full.data / "catalog.sqlite3", full.data / "aside"
    path.rename(aside)
    for _ in range(2):
        caplog.clear()
        pushed = client.post("/v2/team/app/blobs/uploads/")
        assert (pushed.status_code, v2_codes(pushed), pushed.headers["Retry-After"]) == (
            503,
            ["UNKNOWN"],
            "5",
        )
        assert len(caplog.records) == 1
        assert "catalog.sqlite3 was deleted or replaced; put it back, or restart dualreg" in caplog.text
        old = client.put("/v1/repositories/team/app/", json=[])
        assert (old.status_code, v1_text(old)) == (
            503,
            "service unavailable: the database of the registry does not answer",
        )
        assert client.get("/v2/team/app/manifests/one").status_code == 503
        assert client.get("/_status").status_code == 503
        path.write_bytes(b"")
    aside.rename(path)
    assert client.post("/v2/team/app/blobs/uploads/").status_code == 202
    registry.close()


def test_rebuilding_what_is_not_lost(full: Settings) -> None:
    """It is refused unless it is asked for; accounts stay, and content is that of the store."""
    done = CliRunner().invoke(main, ["db", "rebuild", "--data", str(full.data)], env={"DUALREG_CONFIG": None})
    assert (done.exit_code, "--replace" in done.output) == (2, True)
    (full.data / "docker/registry/v2/repositories/team/app/_manifests/tags/one/current/link").unlink()
    assert rebuild(full, "--dry-run")["tags"] == 0
    assert rebuild(full, "--replace")["tags"] == 0
    registry = open_registry(full)
    assert [row.name for row in accounts_of(registry).list()] == ["alice"]
    assert client_of(registry, full).get("/v2/team/app/tags/list").json["tags"] == []
    registry.close()
