"""Work that one instance does for all, and what one that has lost the lead, or its locks, may still do."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from sqlalchemy import text

from dualreg.assembly import build_registry, prepare
from dualreg.auth.accounts import Accounts
from dualreg.auth.passwords import Passwords
from dualreg.auth.sealed import Sealed
from dualreg.catalog.database import Catalog, DatabaseFailure, Transaction
from dualreg.catalog.leading import Duty, LeadLost, is_held, lead, lead_when_free
from dualreg.catalog.notes import Note
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName
from dualreg.maintenance.gc import Collection
from dualreg.registry import Registry
from dualreg.settings import Settings
from dualreg.storage import open_store
from tests.conftest import Clock
from tests.contracts.pgbouncer import pgbouncer
from tests.contracts.postgresql import DATABASES, database_of, migrated_postgresql, postgresql_cluster
from tests.contracts.radosgw import s3_bucket
from tests.databases import empty_file
from tests.instances.conftest import STORAGES
from tests.programs import DUALREG, Process, start, until
from tests.properties.registries import read_blob

pytestmark = pytest.mark.slow

NAME, DATA = RepositoryName("team/app"), b"nothing uses this"
DIGEST = Digest.of(DATA)
DAY = timedelta(days=1)
POSTGRES = pytest.mark.postgres


#: Ends the connections of all others to the database, as the server does after a while.
CUT = text(
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database with tables."""
    with database_of(request.param) as url:
        yield url or empty_file(tmp_path)


def cut(catalog: Catalog) -> None:
    """End the connections of all others."""
    with catalog.engine.connect() as connection:
        connection.execute(CUT)


def test_one_process_leads(url: str) -> None:
    """Each duty by itself; the next one leads when it has ended."""
    with closing(Catalog(url)) as first, closing(Catalog(url)) as second:
        with lead(first, Duty.COLLECTION) as led:
            assert led
            with lead(second, Duty.COLLECTION) as other, lead(second, Duty.IMPORT) as another:
                assert (other, bool(another)) == (None, True)
        with lead(second, Duty.COLLECTION) as led:
            assert led


def test_others_see_that_a_process_leads(url: str) -> None:
    """Without taking the lead themselves, of any duty or database; looks keep nobody from it."""
    with closing(Catalog(url)) as first, closing(Catalog(url)) as second:
        assert not is_held(second, Duty.COLLECTION)
        with lead(first, Duty.COLLECTION) as led:
            assert led
            assert is_held(second, Duty.COLLECTION)
            assert is_held(first, Duty.COLLECTION)
            assert not is_held(second, Duty.IMPORT)
        assert not is_held(second, Duty.COLLECTION)
        done = Event()

        def look() -> int:
            count = 0
            while not done.is_set():
                is_held(second, Duty.IMPORT)
                count += 1
            return count

        with ThreadPoolExecutor(1) as pool:
            looks = pool.submit(look)
            for _ in range(50):
                with lead(first, Duty.IMPORT) as led:
                    assert led
            done.set()
            assert looks.result(60)


def test_a_leader_is_waited_for(url: str) -> None:
    """Until the caller gives up, or the lead is free."""
    with closing(Catalog(url)) as first, closing(Catalog(url)) as second, ExitStack() as held:
        held.enter_context(lead(first, Duty.IMPORT))
        waits = iter([True, False])
        with lead_when_free(second, Duty.IMPORT, lambda: next(waits)) as led:
            assert led is None
        with lead_when_free(second, Duty.IMPORT, lambda: held.close() is None) as led:
            assert led


@POSTGRES
def test_a_leader_takes_no_connection_from_requests() -> None:
    """All of the catalog can be in use; and who waits for the lead has none."""
    with migrated_postgresql() as url, closing(Catalog(url, pool_size=2)) as first:
        with lead(first, Duty.SCRUBBING) as led, first.begin() as tx, first.read() as other:
            assert led
            tx.confirm()
            other.confirm()
            with closing(Catalog(url)) as second, lead_when_free(second, Duty.SCRUBBING, lambda: False) as no:
                assert (no, second.engine.pool.status()) == (None, "1 of 8 connections are open, 1 idle")
        with lead(first, Duty.SCRUBBING) as led:
            assert led


@POSTGRES
def test_a_former_leader_changes_nothing() -> None:
    """Whose connection was lost without its knowledge: each of its transactions fails from then on."""
    with (
        migrated_postgresql() as url,
        closing(Catalog(url)) as first,
        closing(Catalog(url)) as second,
        lead(first, Duty.COLLECTION) as led,
    ):
        assert led
        with led.fenced():
            with first.begin() as tx:
                tx.notes.write(Note.COLLECTED, "first")
            cut(second)
            with first.begin() as tx:
                tx.notes.write(Note.COLLECTED, "no other one has begun")
            with lead(second, Duty.COLLECTION) as taken:
                assert taken
                with taken.fenced():
                    with pytest.raises(LeadLost, match="another process has taken over"), first.begin() as tx:
                        tx.notes.write(Note.COLLECTED, "late")
                    with second.begin() as tx:
                        assert tx.notes.read(Note.COLLECTED) == "no other one has begun"
                        tx.notes.write(Note.COLLECTED, "second")
        with first.begin() as tx:  # what is no part of that work
            assert tx.notes.read(Note.COLLECTED) == "second"


@POSTGRES
def test_a_leader_that_stops_within_a_transaction_does_not_keep_the_next_one_waiting() -> None:
    """The server ends the transaction, with its lock of the term, as it ends the one that holds the lead."""
    limit = text("SELECT current_setting('idle_in_transaction_session_timeout')")
    with (
        migrated_postgresql() as url,
        closing(Catalog(url)) as catalog,
        lead(catalog, Duty.COLLECTION) as led,
    ):
        assert led
        with led.fenced(), catalog.begin() as tx:
            assert tx.connection.scalar(limit) == "1min"
        with catalog.begin() as tx:
            assert tx.connection.scalar(limit) == "1h"


class Pair:
    """Two instances over one database and one store: the first collects garbage, the second serves."""

    def __init__(self, stack: ExitStack, kind: str, folder: Path) -> None:
        """Begin with a blob that is about to be deleted."""
        url, self.clock = stack.enter_context(migrated_postgresql()), Clock()
        where = stack.enter_context(s3_bucket()) if kind == "bucket" else (folder / "store").as_uri()
        catalogs = [stack.enter_context(closing(Catalog(url, now=self.clock))) for _ in range(2)]
        self.first, self.second = (build_registry(each, open_store(where)) for each in catalogs)
        self.second.uploads.ingest(NAME, [DATA])
        for _ in range(2):
            self.clock.advance(2 * DAY)
            if not _:
                Collection(self.first).run()

    def lose(self) -> None:
        """Have the first instance lose its locks, and somebody push the blob."""
        cut(self.second.state.catalog)
        self.second.uploads.ingest(NAME, [DATA])


@pytest.fixture(params=STORAGES)
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    """Two instances."""
    with ExitStack() as stack:
        yield Pair(stack, request.param, tmp_path)


def once(before: Callable[[], None], act: Callable[..., Any]) -> Callable[..., Any]:
    """Return *act*, with something that happens *before* its first call."""
    left = [before]

    def call(*given: Any) -> Any:
        if left:
            left.pop()()
        return act(*given)

    return call


@POSTGRES
def test_a_collection_without_its_locks_deletes_nothing(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """It lost them while it was stopped, or its connection was cut; the blob was pushed again meanwhile."""
    monkeypatch.setattr(Transaction, "confirm", once(pair.lose, Transaction.confirm))
    with pytest.raises(DatabaseFailure):
        Collection(pair.first).run()
    assert read_blob(pair.second, NAME, DIGEST) == DATA
    pair.clock.advance(DAY / 2)
    Collection(pair.first).run()
    assert read_blob(pair.second, NAME, DIGEST) == DATA


@POSTGRES
@pytest.mark.parametrize("pushed", [True, False])
def test_bytes_are_deleted_after_the_commit(tmp_path: Path, *, pushed: bool) -> None:
    """Whatever is lost before it: they are back if it fails, also those of a blob that was pushed again."""
    with ExitStack() as stack:
        pair = Pair(stack, "folder", tmp_path)
        store = pair.first.state.store
        lose = pair.lose if pushed else lambda: cut(pair.second.state.catalog)
        stack.enter_context(pytest.MonkeyPatch.context()).setattr(store, "remove", once(lose, store.remove))
        with suppress(DatabaseFailure):
            Collection(pair.first).run()
        found = pair.second.state.store.stat(DIGEST)
        assert (found and found.size, [*store.staged()]) == (len(DATA), [])
        if pushed:
            assert read_blob(pair.second, NAME, DIGEST) == DATA
            return
        Collection(pair.first).run()
        assert pair.second.state.store.stat(DIGEST) is None


@POSTGRES
def test_a_late_copy_of_accounts_replaces_no_newer_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of an instance which was stopped while it wrote, after another one had changed them."""
    with migrated_postgresql() as url, closing(Catalog(url)) as first, closing(Catalog(url)) as second:
        store, other = (open_store((tmp_path / "store").as_uri()) for _ in range(2))
        first.on_access_change, second.on_access_change = (
            Sealed(first, store).write,
            Sealed(second, other).write,
        )

        def overtake() -> None:
            cut(second)
            Accounts(second, Passwords(rounds=4)).add("bob", "a password")

        monkeypatch.setattr(store, "write_private", once(overtake, store.write_private))
        Accounts(first, Passwords(rounds=4)).add("alice", "a password")
        copy = json.loads(store.read_private("access.json") or b"")
        assert [each["name"] for each in copy["tables"]["accounts"]] == ["alice", "bob"]
        assert Sealed(second, other).revision() == copy["revision"] == 2


@POSTGRES
def test_one_process_leads_through_a_pooler() -> None:
    """That gives each transaction another session."""
    with ExitStack() as stack:
        cluster = stack.enter_context(postgresql_cluster())
        stack.enter_context(cluster.running())
        url = stack.enter_context(pgbouncer(cluster, default_pool_size=3))
        first, second = (stack.enter_context(closing(Catalog(url))) for _ in range(2))
        with lead(first, Duty.COLLECTION) as led, lead(second, Duty.COLLECTION) as other:
            assert (bool(led), other) == (True, None)
        with lead(second, Duty.COLLECTION) as led:
            assert led


def collect(env: dict[str, str], log: Path) -> Process:
    """Start a collection like that of a server."""
    return start([DUALREG, "gc", "--scheduled"], log, env)


@POSTGRES
def test_a_stopped_collection_ends_when_it_wakes_up(tmp_path: Path) -> None:
    """It was stopped between two steps, another one has taken over; and a third does the rest."""
    with migrated_postgresql() as url, closing(Catalog(url)) as catalog:
        settings = Settings(data=tmp_path / "data", database=url, audit="off")
        prepare(settings)
        registry = build_registry(catalog, open_store(settings.store_url))
        names = [RepositoryName(f"team/{number}") for number in range(5)]
        for name in names:
            registry.uploads.ingest(name, [name.encode()])
        env = {"DATABASE": url, "DATA": str(tmp_path / "data"), "AUDIT": "off", "GC_GRACE": "0s"}
        env |= {"GC_RATE": "1", "GC_INTERVAL": "1h"}
        env = {f"DUALREG_{name}": value for name, value in env.items()}
        slow = collect(env, tmp_path / "slow")
        assert until(lambda: len(_linked(registry, names)) < len(names))
        os.kill(slow.pid, signal.SIGSTOP)
        try:
            kept = _linked(registry, names)
            assert kept
            assert collect(env, tmp_path / "other").wait(30) == 0  # another one leads
            assert _linked(registry, names) == kept
            cut(catalog)  # as the server does after a minute
            with lead(catalog, Duty.COLLECTION) as led:
                assert led
                with led.fenced():
                    assert registry.collections.is_due(timedelta(hours=1))
        finally:
            os.kill(slow.pid, signal.SIGCONT)
        assert slow.wait(30) == 1
        assert "another process has taken over the collection" in (tmp_path / "slow").read_text()
        assert _linked(registry, names) == kept
        for _ in range(2):  # the latter finds that there was one within the hour
            assert collect(env, tmp_path / "other").wait(30) == 0
            assert _linked(registry, names) == []
            assert not registry.collections.is_due(timedelta(hours=1))
        assert (tmp_path / "other").read_text() == ""


def _linked(registry: Registry, names: list[RepositoryName]) -> list[RepositoryName]:
    """Return which repositories have their blob."""
    with registry.state.catalog.read() as tx:
        return [name for name in names if tx.blobs.find(name, Digest.of(name.encode()))]
