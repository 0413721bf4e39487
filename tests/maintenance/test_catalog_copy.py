"""Catalogs that are copied to another database, of the same kind or the other."""

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from sqlalchemy import insert, select, text, update

from dualreg.assembly import accounts_of, open_catalog, open_registry, prepare, writes_of
from dualreg.auth.keyring import Keyring
from dualreg.catalog import copying
from dualreg.catalog.database import Catalog
from dualreg.catalog.notes import Note
from dualreg.catalog.rows import QuotaRow
from dualreg.catalog.tables import Blobs, Repositories, Table, Tags
from dualreg.catalog.upgrade import revision, upgrade
from dualreg.errors import CatalogUnreachable
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.maintenance.catalog_copy import CatalogCopy, CopyDiffers
from dualreg.settings import Settings
from tests import builders
from tests.apps import client_of
from tests.contracts.postgresql import DATABASES, migrated_postgresql, postgresql_database
from tests.maintenance.test_backup import POSTGRES, make, run
from tests.maintenance.test_catalog_check import NEWER
from tests.maintenance.world import ONE, TWO, administer, fill
from tests.programs import DUALREG, memory, start, until
from tests.properties.registries import push_v1
from tests.protocol.exchange import push_image
from tests.soak import short_or_long

PAIRS = [
    pytest.param("sqlite", "sqlite", marks=pytest.mark.sqlite),
    pytest.param("postgresql", "postgresql", marks=POSTGRES),
    pytest.param("sqlite", "postgresql", marks=POSTGRES),
    pytest.param("postgresql", "sqlite", marks=POSTGRES),
]
OTHER = builders.image(builders.layer({"other": b"1"}))


class Databases:
    """New databases."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        """Make files in *folder*."""
        self._folder, self._stack, self._number = folder, stack, 0

    def empty(self, kind: str) -> str:
        """Return the URL of a database without tables."""
        if kind == "postgresql":
            return self._stack.enter_context(postgresql_database())
        self._number += 1
        return f"sqlite:///{self._folder}/databases/{self._number}.sqlite3"

    def migrated(self, kind: str) -> str:
        """Return the URL of a database with tables; nothing for SQLite, where the registry makes them."""
        return self._stack.enter_context(migrated_postgresql()) if kind == "postgresql" else ""


@pytest.fixture
def databases(tmp_path: Path) -> Iterator[Databases]:
    """New databases."""
    with ExitStack() as stack:
        yield Databases(tmp_path, stack)


def all_rows(url: str) -> dict[str, list[dict[str, Any]]]:
    """Return all rows of a database."""
    with closing(Catalog(url)) as catalog, catalog.engine.connect() as connection:
        return {
            name: sorted((dict(row) for row in connection.execute(select(table)).mappings()), key=repr)
            for name, table in Table.metadata.tables.items()
        }


def filled(folder: Path, url: str) -> Settings:
    """Return a registry with rows in nearly every table, which is read-only."""
    settings = Settings(data=folder, audit="off", sparse_indexes=True, database=url)
    prepare(settings)
    with closing(open_registry(settings)) as registry:
        client = client_of(registry, settings)
        fill(client)
        administer(accounts_of(registry))
        assert client.post("/v2/team/app/blobs/uploads/").status_code == 202
        registry.quotas.set(QuotaRow("team/*", 1 << 30))
        gone = RepositoryName("team/gone")
        push_v1(registry, gone, Tag("1"), builders.v1_chain(builders.layer({"a": b"gone"})))
        registry.repositories.delete(gone)
    make_readonly(settings)
    return settings


def make_readonly(settings: Settings) -> None:
    """Have the registry refuse changes."""
    writes_of(settings).set_mark("moving", datetime.now(UTC))


def copy(settings: Settings, url: str, *options: str, code: int = 0) -> Any:
    """Copy the catalog, and return what the command prints as JSON; if it fails, its error."""
    line = ("db", "copy", url, "--data", settings.data, "--json", *options)
    done = run(*line, code=code, database=settings.database)
    return json.loads(done.stdout) if not code else done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_a_catalog_moves(databases: Databases, tmp_path: Path, before: str, after: str) -> None:
    """All rows are the same, uploads in progress too; the registry goes on with the other database."""
    settings, url = filled(tmp_path / "data", databases.migrated(before)), databases.empty(after)
    expected = all_rows(settings.database_url)
    assert {name for name, rows in expected.items() if not rows} <= {
        "v1_clients",
        "forgotten",
    } | {
        "account_subjects",
        "claimed_groups",
        "daily_figures",
        "deleted_images",
        "login_failures",
        "login_successes",
        "immutable_tags",
        "key_uses",
        "switches",
        "tasks",
        "upstream_counters",
        "v1_sent_layers",
    }
    planned = copy(settings, url, "--dry-run")
    copied = copy(settings, url)
    assert {name: each["rows"] for name, each in copied["tables"].items()} == {
        name: each["rows"] for name, each in planned["tables"].items()
    }
    assert copied["rows"] == planned["rows"] == sum(map(len, expected.values()))
    assert all_rows(url) == expected
    moved = settings.model_copy(update={"database": url})
    run("readonly", "off", "--data", moved.data, database=url)
    run("db", "check", "--data", moved.data, database=url)
    prepare(moved)
    with closing(open_registry(moved)) as registry:
        push_image(client_of(registry, moved), "a/new/one", OTHER, "latest")
    run("fsck", "--read", "--data", moved.data, database=url)


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_digests_do_not_depend_on_the_database(
    databases: Databases, tmp_path: Path, before: str, after: str
) -> None:
    """Those of each table are the same in both, and change with any value of any row."""
    settings, url = filled(tmp_path / "data", databases.migrated(before)), databases.empty(after)
    tables = copy(settings, url)["tables"]
    with closing(Catalog(url)) as catalog, catalog.engine.begin() as connection:
        assert {name: asdict(each) for name, each in copying.summarize(connection).items()} == tables
        connection.execute(update(Tags).values(agent="other").where(Tags.name == "one"))
        found = copying.summarize(connection)
    assert {name for name, each in found.items() if asdict(each) != tables[name]} == {"tags"}


def change_everything(settings: Settings) -> None:
    """Push, move, delete, administer and pull, and reuse what is unique."""
    writes_of(settings).remove_mark()
    with closing(open_registry(settings)) as registry:
        client = client_of(registry, settings)
        push_image(client, "team/app", OTHER, "one", "fresh")
        push_image(client, "team/new", TWO, "one")
        assert client.delete("/v2/team/app-extra/_dualreg/repository").status_code == 202
        push_image(client, "team/app-extra", ONE, "again")
        assert client.delete("/v2/team/art/manifests/bare").status_code == 202
        accounts = accounts_of(registry)
        accounts.remove("bob")
        accounts.join("team", "alice")
        Keyring(accounts.catalog).rotate(timedelta(hours=2))
    with closing(open_catalog(settings)) as catalog, catalog.engine.begin() as connection:
        connection.execute(update(Tags).values(pulled_at=datetime.now(UTC)))
        for name in ("0", "team/art"):  # as if other repositories had their names before
            row = connection.execute(select(Repositories).where(Repositories.name == name)).mappings().one()
            connection.execute(
                update(Repositories).values(name=f"{name}-old").where(Repositories.id == row["id"])
            )
            connection.execute(insert(Repositories).values(dict(row) | {"id": row["id"] + 1000}))
    make_readonly(settings)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kinds", "at"),
    [
        pytest.param(("sqlite", "sqlite"), 0, marks=pytest.mark.sqlite),
        pytest.param(("sqlite", "sqlite"), 30, marks=pytest.mark.sqlite),
        pytest.param(("postgresql", "postgresql"), 30, marks=POSTGRES),
        pytest.param(("sqlite", "postgresql"), 1, marks=POSTGRES),
        pytest.param(("sqlite", "postgresql"), 50, marks=POSTGRES),
        pytest.param(("postgresql", "sqlite"), 7, marks=POSTGRES),
    ],
)
def test_an_interrupted_copy_goes_on(
    databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kinds: tuple[str, str], at: int
) -> None:
    """Whatever was written until then, and whatever has changed meanwhile; until then, it is not served."""
    monkeypatch.setattr(copying, "_BATCH", 3)
    settings, url = filled(tmp_path / "data", databases.migrated(kinds[0])), databases.empty(kinds[1])
    with closing(open_catalog(settings)) as source, closing(Catalog(url)) as target:
        stop, calls = Event(), []

        def advance(count: int, _: int) -> None:
            calls.append(count)
            if len(calls) > at:
                stop.set()

        assert not CatalogCopy(source, target).copy(advance, stop)
    assert max(calls) <= 3
    moved = settings.model_copy(update={"database": url})
    with pytest.raises(CatalogUnreachable, match="run the same `dualreg db copy` again"):
        prepare(moved)
    assert "unfinished" in run("db", "check", "--data", moved.data, code=1, database=url).stdout
    change_everything(settings)
    copy(settings, url)
    assert all_rows(url) == all_rows(settings.database_url)
    prepare(moved)


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_what_is_written_meanwhile_is_copied(
    databases: Databases, tmp_path: Path, before: str, after: str
) -> None:
    """Such as times of pulls, which a read-only registry records, and requests that had begun before."""
    settings, url = filled(tmp_path / "data", databases.migrated(before)), databases.empty(after)
    with closing(open_catalog(settings)) as source, closing(Catalog(url)) as target:
        made = CatalogCopy(source, target)

        def write(*_: int) -> None:
            with source.engine.begin() as connection:
                connection.execute(update(Tags).values(pulled_at=datetime.now(UTC)))

        assert made.copy(write, Event())
        assert all_rows(url)["tags"] != all_rows(settings.database_url)["tags"]
        made.verify(lambda *_: None)
    assert all_rows(url) == all_rows(settings.database_url)


@pytest.mark.slow
@pytest.mark.parametrize("kind", DATABASES)
def test_a_copy_that_differs_is_found(databases: Databases, tmp_path: Path, kind: str) -> None:
    """A database that stores something else than it is given; it is not served either."""
    settings, url = make(tmp_path / "data", ONE), databases.empty(kind)
    make_readonly(settings)
    with closing(Catalog(url)) as target, closing(open_catalog(settings)) as source:
        upgrade(target)
        with target.engine.begin() as connection:
            if kind == "sqlite":
                connection.execute(
                    text("CREATE TRIGGER t AFTER INSERT ON tags BEGIN UPDATE tags SET agent = 'x'; END")
                )
            else:
                function = "BEGIN NEW.agent := 'x'; RETURN NEW; END"
                connection.execute(
                    text(f"CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $${function}$$")
                )
                connection.execute(
                    text("CREATE TRIGGER t BEFORE INSERT ON tags FOR EACH ROW EXECUTE FUNCTION f()")
                )
        made = CatalogCopy(source, target)
        assert made.copy(lambda *_: None, Event())
        with pytest.raises(CopyDiffers, match=r"differs from the catalog in tags$"):
            made.verify(lambda *_: None)
    assert "the copy differs from the catalog in tags" in copy(settings, url, code=2)
    with pytest.raises(CatalogUnreachable, match="db copy"):
        prepare(settings.model_copy(update={"database": url}))


@pytest.mark.slow
@pytest.mark.parametrize("kind", DATABASES)
def test_nothing_is_overwritten(databases: Databases, tmp_path: Path, kind: str) -> None:
    """Neither another registry, nor the same one, nor a database of a newer version."""
    settings = make(tmp_path / "data", ONE, database=databases.migrated(kind))
    make_readonly(settings)
    other = make(tmp_path / "other", TWO, database=databases.migrated(kind))
    before = all_rows(other.database_url)
    for url in (other.database_url, settings.database_url):
        for options in ((), ("--dry-run",)):
            assert "the database is not empty" in copy(settings, url, *options, code=2)
    assert all_rows(other.database_url) == before
    newer = databases.empty(kind)
    with closing(Catalog(newer)) as catalog:
        upgrade(catalog)
        with catalog.engine.begin() as connection:
            for statement in NEWER.split(";"):
                connection.execute(text(statement))
    assert "a newer version of dualreg made it" in copy(settings, newer, code=2)


def test_a_registry_must_be_read_only(databases: Databases, tmp_path: Path) -> None:
    """From the beginning to the end; a dry run may be made before, and makes nothing."""
    settings, url = make(tmp_path / "data", ONE), databases.empty("sqlite")
    assert "Run `dualreg readonly on --reason TEXT` first." in copy(settings, url, code=2)
    copy(settings, url, "--dry-run")
    assert not (tmp_path / "databases").exists()
    make_readonly(settings)
    with pytest.MonkeyPatch.context() as patch:
        verify = CatalogCopy.verify

        def interfere(self: CatalogCopy, advance: Callable[[int, int], object]) -> Any:
            writes_of(settings).remove_mark()
            return verify(self, advance)

        patch.setattr(CatalogCopy, "verify", interfere)
        assert "was not read-only all the time" in copy(settings, url, code=2)


def test_what_to_do_next_is_printed(databases: Databases, tmp_path: Path) -> None:
    """And no password."""
    settings, url = make(tmp_path / "data", ONE), databases.empty("sqlite")
    make_readonly(settings)
    done = run("db", "copy", url, "--data", settings.data)
    assert "rows compared" in done.stderr
    assert "then run `dualreg readonly off`" in done.stdout
    refused = run("db", "copy", "postgresql+psycopg://me:hush@127.0.0.1:1/x", "--data", settings.data, code=2)
    assert "cannot open the catalog" in refused.stderr
    assert "hush" not in refused.output


def many(settings: Settings, count: int) -> None:
    """Add rows of blobs."""
    now = datetime.now(UTC)
    with closing(Catalog(settings.database_url)) as catalog, catalog.engine.begin() as connection:
        for batch in copying.batches(range(count), 10_000):
            rows = [
                {"digest": Digest.of(b"%d" % each), "size": each, "created_at": now, "verified_at": now}
                for each in batch
            ]
            connection.execute(insert(Blobs), rows)


#: How a copy is ended.
_ENDS = (signal.SIGKILL, signal.SIGTERM)


def process(settings: Settings, url: str, log: Path) -> Any:
    """Start a copy in the background."""
    env = {"DUALREG_DATABASE": settings.database, "DUALREG_AUDIT": "off"}
    return start([DUALREG, "db", "copy", url, "--data", settings.data], log, env, fresh=True)


@pytest.mark.sqlite
@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after", "number"),
    [
        pytest.param(*pair.values, number, marks=pair.marks)
        for place, pair in enumerate(PAIRS)
        for number in short_or_long(_ENDS[place % 2 :][:1], _ENDS)
    ],
)
def test_a_process_that_is_ended(
    databases: Databases, tmp_path: Path, before: str, after: str, number: signal.Signals
) -> None:
    """In the middle of it; the next one keeps what it has written, and completes it."""
    settings, url = make(tmp_path / "data", ONE, database=databases.migrated(before)), databases.empty(after)
    many(settings, 60_000)
    make_readonly(settings)
    log = tmp_path / "log"
    running = process(settings, url, log)
    with closing(Catalog(url)) as target:

        def written() -> int:
            with target.read() as tx:
                return tx.connection.execute(select(Blobs.digest).limit(2001)).fetchall().__len__()

        # Stopped while it is looked at: a slow test sees it in the middle, too. Before, it has locks.
        assert until(lambda: revision(target).is_current, 60), log.read_text()
        while written() <= 2000:
            running.send_signal(signal.SIGCONT)
            assert running.poll() is None, log.read_text()
            time.sleep(0.01)
            running.send_signal(signal.SIGSTOP)
        running.send_signal(number)
        running.send_signal(signal.SIGCONT)
        assert running.wait(60) == (2 if number == signal.SIGTERM else -number)
        with target.read() as tx:
            assert tx.notes.read(Note.COPY) is not None
            kept = len(tx.connection.execute(select(Blobs.digest)).all())
    assert 2000 < kept < 60_000
    assert copy(settings, url)["tables"]["blobs"]["rows"] == 60_000 + len(ONE.blobs) + 1
    assert all_rows(url) == all_rows(settings.database_url)


@pytest.mark.sqlite
@pytest.mark.slow
def test_memory_does_not_grow_with_the_catalog(databases: Databases, tmp_path: Path) -> None:
    """A hundred thousand rows take no more than what SQLite keeps of two files, twice 16 MiB."""
    peaks = []
    for count in (100, 100_000):
        settings, url = make(tmp_path / f"data{count}", ONE), databases.empty("sqlite")
        many(settings, count)
        make_readonly(settings)
        running = process(settings, url, tmp_path / f"log{count}")
        peak = 0
        while running.poll() is None:
            peak = max(peak, memory(running.pid))
            until(lambda: running.poll() is not None, 0.05)  # noqa: B023 -- called at once
        assert running.wait(1) == 0
        peaks.append(peak)
    assert peaks[1] - peaks[0] < 50 << 20
