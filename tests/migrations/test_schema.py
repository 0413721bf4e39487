"""Migrations lead from nothing to exactly the schema that the code speaks of, and back."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import insert, inspect, select

from dualreg.catalog.database import Catalog, Transaction
from dualreg.catalog.name_parts import INDEX
from dualreg.catalog.schema import differences
from dualreg.catalog.tables import (
    Manifests,
    ManifestViews,
    Repositories,
    RepositoryBlobs,
    SigningKeys,
    Table,
    Tags,
    V1Images,
)
from dualreg.catalog.upgrade import revision, upgrade
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.formats import Contents
from dualreg.image.manifest import Manifest
from dualreg.image.names import RepositoryName
from tests.programs import DUALREG, start

MIGRATIONS = Path(__file__).parents[2] / "migrations"
NAME = RepositoryName("x")


@pytest.fixture
def empty(url: str) -> Iterator[Catalog]:
    """A catalog over it, of which nothing exists yet."""
    catalog = Catalog(url)
    yield catalog
    catalog.close()


def _tables(catalog: Catalog) -> set[str]:
    """Return the tables that revisions make."""
    found = inspect(catalog.engine).get_table_names()
    return {each for each in found if not each.startswith(INDEX)} - {"alembic_version"}


def _downgrade(catalog: Catalog, target: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with catalog.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, target)


def _create(tx: Transaction) -> int:
    """Create a repository as older versions did, without what came later; return its ID."""
    tx.blobs.connection.execute(insert(Repositories).values(name=NAME, created_at=datetime.now(UTC)))
    row = tx.repositories.find(NAME)
    assert row
    return row.id


def _link(tx: Transaction, repository_id: int, digest: Digest) -> None:
    """Record a link as older versions did, without the columns that came later."""
    columns = {"repository_id": repository_id, "digest": digest, "linked_at": datetime.now(UTC)}
    tx.blobs.connection.execute(insert(RepositoryBlobs).values(columns))


def test_upgrade_makes_everything_once(empty: Catalog) -> None:
    """From nothing to the head; a repetition finds nothing to do and keeps what was recorded."""
    found, head, *_ = revision(empty)
    assert found is None
    assert upgrade(empty) == (None, head)
    assert revision(empty).is_current
    assert _tables(empty) == set(Table.metadata.tables)
    with empty.begin() as tx:
        made = tx.repositories.ensure(NAME)
    assert upgrade(empty) == (head, head)
    with empty.read() as tx:
        assert tx.repositories.find(NAME) == made


@pytest.mark.slow
def test_migrations_make_what_the_code_speaks_of(empty: Catalog) -> None:
    """Tables, columns, types, indexes, names and rules of keys are those of ``catalog/tables``."""
    upgrade(empty)
    with empty.engine.connect() as connection:
        assert [*differences(connection)] == []


@pytest.mark.parametrize(
    "path", sorted([*MIGRATIONS.rglob("*.py"), *MIGRATIONS.glob("*.mako")]), ids=lambda path: path.name
)
def test_revisions_depend_on_nothing_that_may_change(path: Path) -> None:
    """A revision that imports the package changes with it; the template does not invite that either."""
    imported = re.findall(r"^\s*(?:import|from) +(\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert {*imported} <= {"alembic", "sqlalchemy"}


@pytest.mark.slow
def test_downgrade_and_back(empty: Catalog) -> None:
    """Down to nothing, and up again to the same schema."""
    _, head = upgrade(empty)
    _downgrade(empty, "base")
    assert _tables(empty) == set()
    assert revision(empty).found is None
    assert upgrade(empty) == (None, head)
    assert _tables(empty) == set(Table.metadata.tables)


def test_a_failed_migration_leaves_nothing(empty: Catalog) -> None:
    """A migration that fails half-way is undone whole, so that it can be run again."""
    with empty.engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE manifests (unexpected INTEGER)")
    with pytest.raises(Exception, match="already exists"):
        upgrade(empty)
    assert _tables(empty) == {"manifests"}
    assert revision(empty).found is None


@pytest.mark.slow
def test_processes_that_upgrade_at_once(url: str, tmp_path: Path) -> None:
    """Whoever comes first upgrades, the others find it done; nobody fails."""
    command_line, env = [DUALREG, "db", "upgrade", "--data", tmp_path], {"DUALREG_DATABASE": url}
    logs = [tmp_path / f"log{number}" for number in range(4)]
    processes = [start(command_line, log, env) for log in logs]
    codes = [process.wait(60) for process in processes]
    outputs = [log.read_text() for log in logs]
    assert codes == [0] * 4, outputs
    catalog = Catalog(url)
    head = revision(catalog).newest
    catalog.close()
    upgraded = f"Upgraded None to {head}."
    assert sorted(output.splitlines()[-1] for output in outputs) == sorted(
        [upgraded, *[f"The catalog is up to date ({head})."] * 3]
    )


@pytest.mark.slow
def test_the_oldest_of_several_signing_keys_stays(empty: Catalog) -> None:
    """Two processes could once make a key each; the older is what every process has read ever since."""
    upgrade(empty)
    _downgrade(empty, "0005")
    with empty.engine.begin() as connection:
        for kid, year in (("b", 2020), ("a", 2021), ("c", 2020)):
            made = {"kid": kid, "purpose": "schema1", "private_key": f"key {kid}"}
            connection.execute(
                insert(SigningKeys).values(**made, created_at=datetime(year, 1, 1, tzinfo=UTC))
            )
    upgrade(empty)
    with empty.read() as tx:
        assert tx.keys.find("schema1") == "key b"


@pytest.mark.slow
def test_what_v1_clients_could_not_use_is_looked_at_again(empty: Catalog) -> None:
    """Views that exist stay, and so do those of schema 1, which no config decides."""
    upgrade(empty)
    _downgrade(empty, "0010")
    kinds = {
        "a": (media_types.DOCKER_MANIFEST, None),
        "b": (media_types.DOCKER_MANIFEST, "0" * 64),
        "c": (media_types.SCHEMA1_SIGNED, None),
    }
    with empty.begin() as tx:
        repository = _create(tx)
        for content, (media_type, view) in kinds.items():
            digest = Digest.of(content.encode())
            tx.blobs.record(digest, 1)
            _link(tx, repository, digest)
            tx.manifests.record(repository, Manifest(media_type, content.encode(), digest, Contents()))
            seen = {"repository_id": repository, "manifest": digest, "kind": "v1", "view": view}
            tx.views.connection.execute(insert(ManifestViews).values(seen))
    upgrade(empty)
    with empty.engine.connect() as connection:
        left = {*connection.execute(select(ManifestViews.manifest, ManifestViews.view)).all()}
    assert left == {(Digest.of(b"b"), "0" * 64), (Digest.of(b"c"), None)}


@pytest.mark.slow
def test_types_that_browsers_show_become_json(empty: Catalog) -> None:
    """A former version took manifests of any type, which are JSON all the same; the others keep theirs."""
    upgrade(empty)
    _downgrade(empty, "0013")
    types = ["text/html", "TEXT/html; charset=utf-8", "image/svg+xml", "x", media_types.OCI_MANIFEST]
    types.append("Application/vnd.example+json")
    with empty.begin() as tx:
        repository = _create(tx)
        for media_type in types:
            payload = media_type.encode()
            digest = Digest.of(payload)
            tx.blobs.record(digest, 1)
            _link(tx, repository, digest)
            tx.manifests.record(repository, Manifest(media_type, payload, digest, Contents()))
    upgrade(empty)
    with empty.read() as tx:
        found = [tx.manifests.find(NAME, Digest.of(each.encode())) for each in types]
    assert [row and row.media_type for row in found] == ["application/json"] * 4 + types[4:]


@pytest.mark.slow
def test_older_tags_keep_their_origin(empty: Catalog) -> None:
    """Before tags recorded who pushed them, the images that a V1 client pushed had a checksum."""
    upgrade(empty)
    now = datetime(2020, 1, 1, tzinfo=UTC)
    for name, checksum in (("old", Digest.of(b"checksum")), ("new", None)):
        digest = Digest.of(name.encode())
        with empty.begin() as tx:
            repository = tx.repositories.ensure(RepositoryName(name)).id
            tx.blobs.record(digest, 1)
            tx.blobs.link(repository, digest)
        of, key = {"repository_id": repository}, {"repository_id": repository, "manifest": digest}
        image = {"image_id": "a" * 64, "json": digest, "complete": True, "checksum": checksum}
        with empty.engine.begin() as connection:
            manifest = {"digest": digest, "media_type": "x", "pushed_at": now, "artifact_type": ""}
            connection.execute(insert(Manifests).values(**of, **manifest, annotations={}))
            connection.execute(insert(V1Images).values(**of, **image))
            connection.execute(insert(ManifestViews).values(**key, kind="v1", view="a" * 64))
            connection.execute(insert(Tags).values(**key, name="1", updated_at=now, origin="v2"))
    _downgrade(empty, "0003")
    upgrade(empty)
    with empty.engine.connect() as connection:
        query = select(Repositories.name, Tags.origin).join(Tags, Tags.repository_id == Repositories.id)
        assert {(str(name), origin) for name, origin in connection.execute(query)} == {
            ("old", "v1"),
            ("new", "v2"),
        }


@pytest.mark.slow
def test_tags_that_were_deleted_stay_so(empty: Catalog) -> None:
    """Down to where only tags were remembered, and up again."""
    upgrade(empty)
    with empty.begin() as tx:
        tx.deletions.record_repository(NAME)
        tx.deletions.record(NAME, ["1", "sha256:" + "0" * 64])
    _downgrade(empty, "0009")
    upgrade(empty)
    with empty.read() as tx:
        assert tx.deletions.of(NAME).times.keys() == {"1"}
