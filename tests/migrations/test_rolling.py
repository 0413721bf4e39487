"""Upgrades while the registry serves: by this version and the next one at once, over one catalog.

The next version is this one with another migration, and a column that it writes.
"""

import ast
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import inspect, select, text

from dualreg.assembly import prepare
from dualreg.catalog import upgrade as upgrading
from dualreg.catalog.database import Catalog
from dualreg.catalog.tables import Table
from dualreg.catalog.upgrade import revision, upgrade
from dualreg.errors import CatalogUnreachable
from dualreg.settings import Settings
from tests import builders
from tests.contracts.postgresql import migrated_postgresql
from tests.migrations.test_schema import MIGRATIONS, _downgrade
from tests.programs import dualreg_process, environment, free_port, running, until, wait_until_up
from tests.protocol.clients.v1 import V1Client
from tests.protocol.clients.v2 import V2Client

PACKAGE = MIGRATIONS.parent / "dualreg"
HEAD = max(path.name[:4] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))
#: What the migrations of newer versions do.
ADD = 'op.add_column("tags", sa.Column("note", sa.String(8), nullable=False, server_default=""))'
REMOVE = 'op.drop_column("tags", "note")'
INDEX = """op.drop_index("ix_tags_agent", if_exists=True, postgresql_concurrently=True)
    op.create_index("ix_tags_agent", "tags", ["agent"], postgresql_concurrently=True)"""
POSTGRES = pytest.mark.postgres
#: Seconds between two images of a client: servers need the processor to start meanwhile.
_PAUSE = 0.1


def write_revision(folder: Path, number: str, down: str, act: str, *marks: str) -> None:
    """Write a migration."""
    lines = ["import sqlalchemy as sa", "from alembic import op", "", f'revision = "{number}"']
    lines += [f'down_revision = "{down}"', *marks, "", "", "def upgrade() -> None:", f"    {act}"]
    (folder / "versions" / f"{number}_x.py").write_text("\n".join(lines) + "\n")


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """A folder of migrations, which is a copy of ours."""
    folder = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@contextmanager
def version_of(folder: Path) -> Iterator[None]:
    """Be the version that has these migrations, for the block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upgrading, "_migrations", lambda: folder)
        yield


@pytest.mark.slow
def test_a_newer_catalog_is_used_where_that_is_right(url: str, newer: Path, tmp_path: Path) -> None:
    """Whatever was added, by several releases; not if something was removed that this version uses."""
    settings = Settings(data=tmp_path / "data", database=url, audit="off")
    with closing(Catalog(url)) as catalog:
        assert upgrade(catalog) == (None, HEAD)
        write_revision(newer, "9001", HEAD, ADD)
        write_revision(newer, "9002", "9001", INDEX, "transactional = False")
        with version_of(newer):
            assert upgrade(catalog) == (HEAD, "9002")
        assert upgrade(catalog) == ("9002", "9002")
        prepare(settings)
        write_revision(newer, "9003", "9002", REMOVE, 'oldest = "9001"')
        with version_of(newer):
            assert upgrade(catalog) == ("9002", "9003")
        for use in (lambda: prepare(settings), lambda: upgrade(catalog)):
            with pytest.raises(CatalogUnreachable, match=f"only knows revisions up to {HEAD}"):
                use()
        (newer / "versions" / "9003_x.py").unlink()
        with version_of(newer):
            assert revision(catalog).is_compatible


@POSTGRES
def test_an_index_is_made_without_a_transaction(newer: Path) -> None:
    """Once more after a failure, which leaves it invalid; nothing else has to wait for it."""
    write_revision(newer, "9001", HEAD, INDEX, "transactional = False")
    with migrated_postgresql() as url, closing(Catalog(url)) as catalog, version_of(newer):
        with catalog.engine.begin() as connection:
            connection.execute(text("CREATE INDEX ix_tags_agent ON tags (name)"))
        assert upgrade(catalog) == (HEAD, "9001")
        (index,) = (
            each for each in inspect(catalog.engine).get_indexes("tags") if each["name"] == "ix_tags_agent"
        )
        assert index["column_names"] == ["agent"]


@contextmanager
def used(catalog: Catalog, table: str) -> Iterator[None]:
    """Have a transaction that has read a table, as a backup does, for the block."""
    with catalog.engine.connect() as connection:
        connection.execute(select(1).select_from(Table.metadata.tables[table])).all()
        yield


@pytest.mark.slow
@POSTGRES
def test_nothing_waits_behind_a_migration(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """While a long transaction uses the table that it changes; it goes on once that ends."""
    monkeypatch.setattr(upgrading, "_PAUSE", 0.3)
    with migrated_postgresql() as url, closing(Catalog(url)) as catalog, ThreadPoolExecutor(1) as pool:
        _downgrade(catalog, "0018")
        with used(catalog, "uploads"):
            upgraded = pool.submit(upgrade, catalog)
            waits, end = [], time.monotonic() + 6
            while time.monotonic() < end:
                began = time.monotonic()
                with catalog.engine.connect() as connection:
                    connection.execute(text("SELECT 1 FROM uploads")).all()
                waits.append(time.monotonic() - began)
            assert not upgraded.done()
            assert revision(catalog).found == "0018"
        assert upgraded.result(60) == ("0018", HEAD)
    assert max(waits) < 3
    assert "another transaction is using a table; trying again" in caplog.text


@pytest.mark.slow
@POSTGRES
def test_a_migration_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a table is used for too long; those before it stay."""
    monkeypatch.setattr(upgrading, "_PAUSE", 0.1)
    monkeypatch.setattr(upgrading, "_LOCK_PATIENCE", 0)
    with migrated_postgresql() as url, closing(Catalog(url)) as catalog:
        _downgrade(catalog, "0018")
        with (
            used(catalog, "v1_clients"),
            pytest.raises(
                CatalogUnreachable, match="another transaction has been using a table for too long"
            ),
        ):
            upgrade(catalog)
        assert revision(catalog).found == "0019"
        assert upgrade(catalog) == ("0019", HEAD)


class Load:
    """Clients that push and pull at servers that come and go; none of their requests may fail."""

    def __init__(self, *hosts: str) -> None:
        """Begin with these servers."""
        self.hosts = [*hosts]
        self.v2: list[builders.Image] = []
        self.v1: list[list[builders.V1Image]] = []
        self._stop = threading.Event()

    @contextmanager
    def working(self) -> Iterator[None]:
        """Push and pull during the block; then pull everything again."""
        with ThreadPoolExecutor(2) as pool:
            done = [pool.submit(self._repeat, act) for act in (self._push_v2, self._push_v1)]
            try:
                self.advance()
                yield
                self.advance()
            finally:
                self._stop.set()
            for each in done:
                each.result()
        for host in self.hosts:
            for number, image in enumerate(self.v2):
                assert [*V2Client(host).pull("team/v2", f"t{number}").layers] == [*image.layers]
            for number, chain in enumerate(self.v1):
                pulled = V1Client(host).pull("team/v1", f"t{number}")
                assert [image.layer for image in pulled] == [image.layer for image in chain]

    def advance(self) -> None:
        """Wait until each client has pushed and pulled two images more."""
        before = len(self.v2), len(self.v1)
        assert until(lambda: len(self.v2) > before[0] + 1 and len(self.v1) > before[1] + 1, 60)

    def only(self, *hosts: str) -> None:
        """Use these servers from now on; no request to others is in progress afterwards."""
        self.hosts = [*hosts]
        self.advance()

    def _repeat(self, act: Callable[[str, str, int], None]) -> None:
        number = 0
        while not self._stop.wait(_PAUSE):
            hosts = self.hosts
            act(hosts[number % len(hosts)], hosts[(number + 1) % len(hosts)], number)
            number += 1

    def _push_v2(self, host: str, other: str, number: int) -> None:
        image = builders.image(builders.layer({"v2": b"%d" % number}))
        V2Client(host).push("team/v2", f"t{number}", image)
        assert [*V2Client(other).pull("team/v2", f"t{number}").layers] == [*image.layers]
        self.v2.append(image)

    def _push_v1(self, host: str, other: str, number: int) -> None:
        chain = builders.v1_chain(builders.layer({"v1": b"%d" % number}), seed=f"{number}")
        V1Client(host).push("team/v1", f"t{number}", chain)
        pulled = V1Client(other).pull("team/v1", f"t{number}")
        assert [image.layer for image in pulled] == [image.layer for image in chain]
        self.v1.append(chain)


def next_version(folder: Path) -> list[str | Path]:
    """Make the next version in a folder, and return the command that runs it.

    Its modules are compiled as ours are, but for those that another process of tests is writing.
    """
    ignored = shutil.ignore_patterns("*.pyc.*")
    shutil.copytree(PACKAGE, folder / "dualreg", ignore=ignored)
    shutil.copytree(MIGRATIONS, folder / "dualreg" / "migrations", ignore=ignored)
    write_revision(folder / "dualreg" / "migrations", "9001", HEAD, ADD)
    tables = folder / "dualreg" / "catalog" / "tables" / "content.py"
    origin = '    origin: Mapped[str] = mapped_column(String(8), server_default="v2")\n'
    text = tables.read_text()
    assert origin in text
    tables.write_text(
        text.replace(origin, origin + '    note: Mapped[str] = mapped_column(String(8), default="next")\n')
    )
    program = f"import sys; sys.path.insert(0, {str(folder)!r}); from dualreg.cli import main; main()"
    return [sys.executable, "-P", "-c", program]


@POSTGRES
@pytest.mark.slow
def test_versions_are_replaced_one_by_one(tmp_path: Path) -> None:
    """The catalog is upgraded while the old version serves, which may start again; then both serve, then one.

    No request fails, and each version serves what the other one stored.
    """
    command = next_version(tmp_path / "next")
    data, serving = tmp_path / "data", {"audit": "off", "workers": 2}
    with ExitStack() as stack:
        url = stack.enter_context(migrated_postgresql())
        env = {"DUALREG_DATABASE": url, "DUALREG_DATA": str(data), "DUALREG_AUDIT": "off"}
        old = ExitStack()
        stack.callback(old.close)
        first = old.enter_context(dualreg_process(data, database=url, **serving)).host
        load = Load(first)
        with load.working():
            line = [*map(str, command), "db", "upgrade"]
            done = subprocess.run(line, env=environment() | env, check=False, capture_output=True, text=True)
            assert done.stdout.endswith(f"Upgraded {HEAD} to 9001.\n"), done.stderr
            load.advance()
            second = f"127.0.0.1:{free_port()}"
            log = tmp_path / "next.log"
            process = stack.enter_context(running([*command, "serve"], log, env | {"DUALREG_BIND": second}))
            wait_until_up(f"http://{second}/v2/", process, log)
            load.only(first, second)
            load.only(second)
            old.close()
            third = old.enter_context(dualreg_process(data, database=url, **serving))
            load.only(second, third.host)
            load.only(second)
            old.close()
            load.advance()
        with closing(Catalog(url)) as catalog, catalog.engine.connect() as connection:
            notes = {*connection.execute(text("SELECT note FROM tags")).scalars()}
    assert notes == {"", "next"}
    assert "Traceback" not in log.read_text() + third.log.read_text()


def removals(source: str) -> list[str]:
    """Return what an upgrade does that an older version may not expect."""
    tree = ast.parse(source)
    (function,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "upgrade")
    calls = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
    made = {ast.unparse(call.args[0]) for call in calls if ast.unparse(call.func) == "op.create_index"}
    return [ast.unparse(call) for call in calls if _removes(call, made)]


_REMOVING = {"drop_table", "drop_column", "drop_constraint", "rename_table", "alter_column"}
_RESTRICTING = {"create_unique_constraint", "create_check_constraint", "create_foreign_key"}


def _removes(call: ast.Call, made: set[str]) -> bool:
    name = ast.unparse(call.func).removeprefix("op.")
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    if name == "drop_index":
        return ast.unparse(call.args[0]) not in made
    if name == "add_column":
        column = ast.unparse(call)
        return "nullable=False" in column and "server_default" not in column
    if name == "execute":
        return any(word in ast.unparse(call).upper() for word in ("DROP ", "RENAME ", "ALTER ", "DELETE "))
    return name in _REMOVING | _RESTRICTING or given.get("unique") == "True"


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (ADD, 0),
        (INDEX, 0),
        ('op.create_table("x", sa.Column("id", sa.Integer))', 0),
        ('op.execute("UPDATE tags SET note = 1")', 0),
        (REMOVE, 1),
        ('op.drop_index("ix_tags_agent")', 1),
        ('op.add_column("tags", sa.Column("note", sa.String(8), nullable=False))', 1),
        ('op.alter_column("tags", "note", new_column_name="text")', 1),
        ('op.rename_table("tags", "labels")', 1),
        ('op.create_index("uq", "tags", ["agent"], unique=True)', 1),
        ('op.execute("ALTER TABLE tags DROP COLUMN note")', 1),
    ],
)
def test_what_older_versions_may_not_expect(act: str, expected: int) -> None:
    """The rule below finds it."""
    assert len(removals(f"def upgrade():\n    {act}")) == expected


def test_revisions_only_add() -> None:
    """Or say which versions can use the database afterwards, which are never older than before."""
    scripts = upgrading._scripts(upgrading._config())
    numbers = [script.revision for script in scripts]
    oldest = numbers.index(upgrading._FIRST)
    for script in scripts[oldest + 1 :]:
        named = getattr(script.module, "oldest", None)
        removed = removals(Path(script.path).read_text())
        assert not removed or named, f"{script.path} sets no `oldest`, but does {removed}"
        if named:
            assert oldest <= numbers.index(named) <= numbers.index(script.revision)
            oldest = numbers.index(named)
