"""The catalog as a database: what it is, and what is wrong with it."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text, update

from dualreg.assembly import open_catalog, prepare
from dualreg.catalog.database import Catalog
from dualreg.catalog.notes import UNFINISHED, Note
from dualreg.catalog.tables import ServiceState, Table
from dualreg.maintenance.catalog_check import Flaw
from dualreg.settings import Settings
from tests.contracts.postgresql import DATABASES, database_of
from tests.maintenance.test_backup import make, run
from tests.maintenance.world import ONE


@pytest.fixture(params=DATABASES)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    """A registry with an image, on either database."""
    with database_of(request.param) as url:
        yield make(tmp_path / "data", ONE, database=url)


def kind_of(settings: Settings) -> str:
    """Return the kind of the database."""
    return "postgresql" if settings.database else "sqlite"


def lines(settings: Settings, code: int) -> list[dict[str, Any]]:
    """Run a check, which exits with *code*; return the lines that it prints as JSON, without the sum."""
    done = run("db", "check", "--data", settings.data, "--json", code=code, database=settings.database)
    *found, last = map(json.loads, done.stdout.splitlines())
    assert last == {"findings": len(found)}
    return found


def change(settings: Settings, act: Callable[[Connection], object] | str) -> None:
    """Change the database by statements, or a function; without the foreign keys of SQLite."""
    with closing(Catalog(settings.database_url)) as catalog, catalog.engine.connect() as connection:
        if catalog.engine.dialect.name == "sqlite":
            connection.rollback()
            connection.exec_driver_sql("COMMIT")
            connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        for statement in act.split(";") if isinstance(act, str) else ():
            connection.execute(text(statement))
        if callable(act):
            act(connection)
        connection.commit()


@pytest.mark.slow
def test_a_sound_catalog(settings: Settings) -> None:
    """It is at the newest revision, with the size of its files, and nothing is found."""
    done = run("db", "current", "--data", settings.data, "--json", database=settings.database)
    seen = json.loads(done.stdout)
    assert (seen["kind"], seen["current"], seen["revision"]) == (kind_of(settings), True, seen["newest"])
    assert seen["rows"].keys() == Table.metadata.tables.keys()
    assert (seen["rows"]["blobs"], seen["rows"]["tags"], seen["rows"]["uploads"]) == (
        len(ONE.blobs) + 1,
        1,
        0,
    )
    if not settings.database:
        assert seen["bytes"] >= (settings.data / "catalog.sqlite3").stat().st_size
    shown = run("db", "current", "--data", settings.data, database=settings.database).stdout
    assert f"Revision: {seen['newest']}, the newest of this version\n" in shown
    assert lines(settings, 0) == []
    assert (
        "The catalog is sound."
        in run("db", "check", "--data", settings.data, database=settings.database).output
    )


def test_a_password_is_not_shown(tmp_path: Path) -> None:
    """Neither where the database cannot be reached."""
    url = "postgresql+psycopg://me:hush@127.0.0.1:1/none"
    for command in ("current", "check"):
        done = run("db", command, "--data", tmp_path, code=2, database=url)
        assert "hush" not in done.output
        assert "cannot open the catalog" in done.stderr


#: What a newer version does that removes something.
NEWER = (
    "UPDATE alembic_version SET version_num = '9999';"
    "UPDATE service_state SET value = '9999' WHERE name = 'oldest'"
)
#: What is done to a catalog of either kind, and what is found: kind, where, and part of the text.
FLAWS: dict[str, tuple[str, tuple[Flaw, str, str]]] = {
    "no index": ("DROP INDEX ix_blobs_condemned_at", (Flaw.SCHEMA, "ix_blobs_condemned_at", "missing")),
    "an index": ("CREATE INDEX mine ON tags (agent)", (Flaw.SCHEMA, "mine", "index is unexpected")),
    "no column": (
        "DROP INDEX ix_v1_clients_network; ALTER TABLE v1_clients DROP COLUMN network",
        (Flaw.SCHEMA, "v1_clients.network", "the column is missing"),
    ),
    "a column": (
        "ALTER TABLE tags ADD COLUMN mine INTEGER",
        (Flaw.SCHEMA, "tags.mine", "the column is unexpected"),
    ),
    "no table": ("DROP TABLE v1_sent_layers", (Flaw.SCHEMA, "v1_sent_layers", "the table is missing")),
    "older": (
        "UPDATE alembic_version SET version_num = '0019'",
        (Flaw.REVISION, "database", "the revision is 0019; expected"),
    ),
    "newer": (
        NEWER,
        (Flaw.REVISION, "database", "the revision is 9999; a newer version of dualreg made it"),
    ),
    "links": ("DELETE FROM service_state WHERE name = 'links'", (Flaw.LINKS, "database", "db upgrade")),
    "unfinished": (
        "INSERT INTO service_state (name, value) VALUES ('restore', '')",
        (Flaw.UNFINISHED, "database", "run `dualreg restore` again"),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("flaw", FLAWS)
def test_what_is_wrong_is_found(settings: Settings, flaw: str) -> None:
    """Each flaw is a finding, and the check changes nothing about it."""
    statements, (kind, where, words) = FLAWS[flaw]
    change(settings, statements)
    for _ in range(2):
        found = lines(settings, 1)
        assert [(each["kind"], each["where"]) for each in found if words in each["text"]] == [(kind, where)]
    shown = run("db", "check", "--data", settings.data, code=1, database=settings.database)
    assert f"{kind}: {where}: " in shown.stdout
    code = 1 if kind is Flaw.REVISION else 0
    run("db", "current", "--data", settings.data, code=code, database=settings.database)


def test_a_table_of_others_is_none_of_ours(settings: Settings) -> None:
    """It may be in the same database."""
    change(settings, "CREATE TABLE mine (id INTEGER)")
    assert lines(settings, 0) == []


@pytest.mark.sqlite
def test_rows_that_refer_to_nothing(tmp_path: Path) -> None:
    """SQLite does not prevent them where a program does not ask for it."""
    settings = make(tmp_path / "data", ONE)
    change(settings, "DELETE FROM repositories")
    found = {(each["kind"], each["where"]) for each in lines(settings, 1)}
    assert found == {(Flaw.KEY, "repository_blobs")}


@pytest.mark.sqlite
def test_a_malformed_file(tmp_path: Path) -> None:
    """Nothing else of it is looked at."""
    settings = make(tmp_path / "data", ONE)
    file = settings.data / "catalog.sqlite3"
    content = bytearray(file.read_bytes())
    content[4096:] = bytes(len(content) - 4096)
    file.write_bytes(content)
    assert [each["kind"] for each in lines(settings, 1)] == [Flaw.MALFORMED]


#: What can be wrong with PostgreSQL only.
POSTGRESQL_FLAWS: dict[str, tuple[str, tuple[Flaw, str, str]]] = {
    "index": (
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'ix_blobs_verified_at'::regclass",
        (Flaw.INVALID, "ix_blobs_verified_at", "not valid"),
    ),
    "constraint": (
        "UPDATE pg_constraint SET convalidated = false WHERE conname = 'fk_repository_blobs_digest_blobs'",
        (Flaw.INVALID, "fk_repository_blobs_digest_blobs", "not validated"),
    ),
    "collation": (
        "UPDATE pg_database SET datcollversion = '0' WHERE datname = current_database()",
        (Flaw.INVALID, "test", "run REINDEX DATABASE"),
    ),
    "counter": (
        "SELECT setval(pg_get_serial_sequence('repositories', 'id'), 1, false)",
        (Flaw.COUNTER, "repositories.id", "the next number is 1; 1 exists"),
    ),
}


@pytest.mark.postgres
@pytest.mark.parametrize("flaw", POSTGRESQL_FLAWS)
def test_what_is_wrong_with_postgresql(tmp_path: Path, flaw: str) -> None:
    """Indexes and constraints that it does not rely on, or must not, and a counter that is behind."""
    with database_of("postgresql") as url:
        settings = make(tmp_path / "data", ONE, database=url)
        statements, (kind, where, words) = POSTGRESQL_FLAWS[flaw]
        change(settings, statements)
        (found,) = lines(settings, 1)
        assert (found["kind"], found["where"].startswith(where), words in found["text"]) == (kind, True, True)


@pytest.mark.sqlite
def test_an_empty_database(tmp_path: Path) -> None:
    """It has no revision, and no tables to count."""
    settings = Settings(data=tmp_path / "data")
    with closing(Catalog(settings.database_url)) as catalog, catalog.engine.connect():
        pass
    seen = json.loads(run("db", "current", "--data", settings.data, "--json", code=1).stdout)
    assert (seen["revision"], seen["current"], seen["rows"]) == (None, False, {})
    assert [each["kind"] for each in lines(settings, 1)] == [Flaw.REVISION]


@pytest.mark.parametrize("note", UNFINISHED)
def test_an_unfinished_catalog_names_the_command_that_goes_on(tmp_path: Path, note: Note) -> None:
    """Also at the next start."""
    settings = Settings(data=tmp_path / "data", audit="off")
    prepare(settings)
    with closing(open_catalog(settings)) as catalog, catalog.engine.begin() as connection:
        connection.execute(update(ServiceState).where(ServiceState.name == Note.LINKS).values(name=note))
    texts = [each["text"] for each in lines(settings, 1)]
    assert texts == [f"run `dualreg {UNFINISHED[note]}` again"]
    assert f"dualreg {UNFINISHED[note]}" in run("account", "list", "--data", settings.data, code=1).stderr
