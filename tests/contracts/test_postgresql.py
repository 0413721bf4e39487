"""The catalog over a real PostgreSQL keeps the contract."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from datetime import timedelta
from threading import Event

import pytest
from sqlalchemy import event, update

from dualreg.assembly import build_registry
from dualreg.catalog.candidates import note
from dualreg.catalog.database import Catalog, Transaction
from dualreg.catalog.rows import BlobRow, Origin, QuotaRow, RepositoryRow
from dualreg.catalog.tables import RepositoryBlobs
from dualreg.catalog.upgrade import upgrade
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry import Registry
from dualreg.registry.counting import count_all_links
from dualreg.registry.outbox import Outbox
from dualreg.registry.policies import Policies
from dualreg.registry.state import State
from dualreg.registry.upstream import NoUpstream
from dualreg.storage.link_tree import StagedLink
from dualreg.storage.links import Links, manifest_link, tag_link
from dualreg.storage.memory import MemoryStore
from tests import builders
from tests.conftest import Clock
from tests.contracts.catalog import CatalogContract
from tests.contracts.catalog.rows import LOWER, MANIFEST, NAME, link, push
from tests.contracts.catalog.webhooks import ALL, waiting
from tests.contracts.postgresql import migrated_postgresql, postgresql_database
from tests.programs import until
from tests.properties.registries import push_v2

OLD, HELD, NEW = (builders.image(author=author) for author in ("old", "held", "new"))


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The URL of a server for this module, with the tables that the migrations make."""
    with migrated_postgresql() as url:
        yield url


@pytest.mark.postgres
class TestPostgresql(CatalogContract):
    """The contract, over a server whose own collation is English."""

    @pytest.fixture
    def catalog(self, server: str, clock: Clock) -> Iterator[Catalog]:
        """An empty catalog."""
        catalog = Catalog(server, now=clock)
        with catalog.engine.begin() as connection:
            connection.exec_driver_sql(
                "TRUNCATE repositories, blobs, signing_keys, v1_clients, accounts, group_members, "
                "account_subjects, claimed_groups, "
                "permissions, secrets, key_uses, login_failures, login_successes, forgotten, service_state, "
                "upstream_counters, immutable_tags, retention_rules, switches, tasks, quotas, quota_usage, "
                "daily_figures, tag_history, webhooks, webhook_states, webhook_queues, webhook_events, "
                "deleted_repositories, deleted_manifests, deleted_images, deleted_blobs CASCADE"
            )
        yield catalog
        catalog.close()

    @pytest.mark.parametrize(
        ("function", "pretended"),
        [
            ("pg_is_in_recovery() RETURNS boolean", "true"),  # a standby's snapshots say not what it sees
            ("pg_postmaster_start_time() RETURNS timestamptz", "clock_timestamp()"),
        ],
    )
    def test_no_version_is_that_of_a_standby_or_of_another_server(
        self, catalog: Catalog, server: str, function: str, pretended: str
    ) -> None:
        """One that took over, or was restored, counts transactions from an earlier one on."""
        with catalog.engine.begin() as connection:
            connection.exec_driver_sql("CREATE SCHEMA pretended")
            connection.exec_driver_sql(
                f"CREATE FUNCTION pretended.{function} LANGUAGE sql AS 'SELECT {pretended}'"
            )
        with closing(Catalog(f"{server}?options=-csearch_path%3Dpretended,pg_catalog")) as pretending:
            assert catalog.version() == catalog.version()
            assert pretending.version() != pretending.version()
        with catalog.engine.begin() as connection:
            connection.exec_driver_sql("DROP SCHEMA pretended CASCADE")

    @pytest.mark.slow
    def test_a_look_at_the_version_leaves_its_connection_as_it_was(
        self, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Transactions over it commit together; one on which a look has failed is not used again."""
        seen, look = list[str](), lambda *given: seen.append(given[2])
        version = catalog.version()
        event.listen(catalog.engine, "before_cursor_execute", look)
        assert catalog.version() == version
        event.remove(catalog.engine, "before_cursor_execute", look)
        assert catalog.version() == version
        assert len(seen) == 1
        with suppress(RuntimeError), catalog.begin() as tx:
            push(tx, RepositoryName("undone"))
            raise RuntimeError
        with monkeypatch.context() as patched:
            patched.setattr("dualreg.catalog.versions._SNAPSHOT", "SELECT 1 / 0")
            assert len({catalog.version() for _ in range(50)}) == 50
        assert catalog.version() == catalog.version()
        with catalog.read() as reading:
            assert reading.repositories.find(RepositoryName("undone")) is None

    def test_events_wait_for_earlier_ones_that_are_not_committed(self, catalog: Catalog) -> None:
        """A move with a lower number may appear later: those above it count when it can no longer.

        Transactions that begin meanwhile, or only read, keep nothing waiting; nor does one that fails.
        """
        with catalog.begin() as tx:
            ids = [push(tx, RepositoryName(name)) for name in "abcd"]
            tx.webhooks.add(ALL)
        outbox = Outbox(catalog)

        def seen() -> list[str]:
            outbox.collect()
            return [each.repository for each in waiting(catalog, "all")]

        def move(tx: Transaction, number: int) -> None:
            tx.tags.point(ids[number], [Tag("t")], MANIFEST.digest)

        with ExitStack() as slow, ExitStack() as later:
            move(slow.enter_context(catalog.begin()), 0)
            with suppress(RuntimeError), catalog.begin() as failing:
                move(failing, 1)
                with catalog.begin() as fast:
                    move(fast, 2)
                assert seen() == []
                raise RuntimeError
            assert (seen(), outbox.is_settling) == ([], True)
            with catalog.read() as reading:
                assert reading.tags.count()
                move(later.enter_context(catalog.begin()), 3)
                assert seen() == []
                slow.close()  # which commits
                assert seen() == ["a", "c"]
                later.close()
                assert seen() == ["a", "c", "d"]

    def test_moves_that_are_made_during_a_wait_are_waited_for_next(self, catalog: Catalog) -> None:
        """Whoever collects until nothing is settling has all that was committed before."""
        with catalog.begin() as tx:
            ids = [push(tx, RepositoryName(name)) for name in "ab"]
            tx.webhooks.add(ALL)
        outbox = Outbox(catalog)
        with catalog.begin() as slow:
            slow.tags.point(ids[0], [Tag("t")], MANIFEST.digest)
            outbox.collect()
            with catalog.begin() as fast:
                fast.tags.point(ids[1], [Tag("t")], MANIFEST.digest)
        while outbox.collect() or outbox.is_settling:
            pass
        assert [each.repository for each in waiting(catalog, "all")] == ["a", "b"]

    def test_notes_do_not_wait_in_a_circle_with_a_collection(self, catalog: Catalog, clock: Clock) -> None:
        """What notes a link twice takes no lock of the blob, which others lock before the link."""
        repository_id = _linked(catalog, LOWER)
        clock.advance(timedelta(seconds=1))

        def lock() -> bool:
            with catalog.begin() as tx:
                return tx.blobs.lock(repository_id, LOWER)

        with ThreadPoolExecutor(1) as pool:
            with catalog.begin() as tx:
                note(tx.blobs.connection, tx.now, repository_id, LOWER)
                locking = pool.submit(lock)
                _wait_for_a_waiter(catalog)
                note(tx.blobs.connection, tx.now, repository_id, LOWER)
            assert locking.result(10)

    @pytest.mark.slow
    def test_notes_of_the_same_links_do_not_wait_in_a_circle(self, catalog: Catalog, clock: Clock) -> None:
        """Transactions that note some links of a repository at the same time lock them in one order."""
        digests = [Digest.of(b"%d" % number) for number in range(60)]
        repository_id = _linked(catalog, *digests)

        def work(seed: int) -> None:
            choice = random.Random(seed)  # noqa: S311 -- not a secret
            for _ in range(25):
                clock.advance(timedelta(seconds=1))
                with catalog.begin() as tx:
                    some = choice.sample(digests, 30)
                    note(tx.blobs.connection, tx.now, repository_id, *some)
                    time.sleep(0.001)

        with ThreadPoolExecutor(6) as pool:
            for each in [pool.submit(work, seed) for seed in range(6)]:
                each.result()

    def test_documents_that_are_stored_again_do_not_wait_in_a_circle(self, catalog: Catalog) -> None:
        """They lock the blobs before the links, as a deletion of one of them does."""
        rows = _Rows(catalog, known=True)
        blob = rows.blobs[0]
        with ThreadPoolExecutor(1) as pool:
            with catalog.begin() as tx:
                tx.blobs.record(blob.digest, blob.size)
                storing = pool.submit(rows.store_documents, again=True)
                _wait_for_a_waiter(catalog)
                assert tx.blobs.lock(rows.repository.id, blob.digest)
            assert storing.result(10) == {each.digest for each in rows.blobs}

    @pytest.mark.parametrize("work", ["verify", "adopt", "admit", "sweep", "point", "remove", "pull"])
    def test_rows_are_locked_in_one_order(self, catalog: Catalog, work: str) -> None:
        """Work on several rows locks those with lower keys first, in whatever order it gets or finds them."""
        rows = _Rows(catalog, known=work != "adopt")
        with ThreadPoolExecutor(1) as pool:
            with catalog.begin() as tx:
                rows.lock(tx, work, -1)
                working = pool.submit(rows.change, work)
                _wait_for_a_waiter(catalog)
                rows.lock(tx, work, 0)
            working.result(10)

    def test_quotas_of_several_repositories_are_locked_in_one_order(self, catalog: Catalog) -> None:
        """An import locks those with lower patterns first, whichever repositories it begins with."""
        patterns = ["*/a", "*/b"]
        for pattern in patterns:
            build_registry(catalog, MemoryStore()).quotas.set(QuotaRow(pattern, 1 << 30))

        def count() -> None:
            with catalog.begin() as tx:
                rows = [tx.repositories.ensure(RepositoryName(name)) for name in ("p/b", "q/a")]
                count_all_links(Policies(), tx, [(row, [BlobRow(MANIFEST.digest, 3)]) for row in rows])

        with ThreadPoolExecutor(1) as pool:
            with catalog.begin() as tx:
                tx.quotas.lock(patterns[:1])
                counting = pool.submit(count)
                _wait_for_a_waiter(catalog)
                tx.quotas.lock(patterns[1:])
            counting.result(10)

    @pytest.mark.parametrize("first", [True, False])
    @pytest.mark.parametrize("what", ["tag", "manifest", "repository"])
    def test_deletes_of_available_content_wait_for_pushes(
        self, catalog: Catalog, what: str, *, first: bool
    ) -> None:
        """What upstream has needs no row; rows and link files of a push that is under way stay equal."""
        registry = build_registry(catalog, store := MemoryStore(), upstream=_Everything())
        links, tag = Links(store), Tag("t")
        if not first:
            with catalog.begin() as tx:
                tx.repositories.ensure(NAME)

        def delete() -> None:
            match what:
                case "tag":
                    registry.tags.delete(NAME, tag)
                case "manifest":
                    registry.manifests.delete(NAME, MANIFEST.digest)
                case _:
                    registry.repositories.delete(NAME)

        with ThreadPoolExecutor(1) as pool:
            with catalog.begin() as tx:
                tx.repositories.ensure(NAME)
                push(tx, NAME, tag)
                links.add_manifest(NAME, MANIFEST.digest)
                links.point_tag(NAME, tag, MANIFEST.digest)
                deleting = pool.submit(delete)
                _wait_for_a_waiter(catalog)
            deleting.result(10)
        with catalog.read() as tx:
            kept = [tx.manifests.find(NAME, each) is not None for each in (tag, MANIFEST.digest)]
        files = (tag_link(NAME, tag), manifest_link(NAME, MANIFEST.digest))
        assert [store.read_link(each) is not None for each in files] == kept == [False, what == "tag"]

    def test_an_absent_repository_is_not_created_meanwhile(self, catalog: Catalog) -> None:
        """One that was locked although it does not exist; it is as absent afterwards."""

        def create() -> RepositoryRow:
            with catalog.begin() as tx:
                return tx.repositories.ensure(NAME)

        with ThreadPoolExecutor(1) as pool:
            with catalog.begin() as tx:
                assert tx.repositories.lock(NAME, absent=True) is None
                assert not tx.repositories.any()
                creating = pool.submit(create)
                _wait_for_a_waiter(catalog)
            assert creating.result(10).name == NAME

    @pytest.mark.parametrize(
        ("act", "waits"),
        [
            (lambda registry: _put(registry, "other", NEW), False),
            (lambda registry: _put(registry, "moved", NEW), False),
            (lambda registry: registry.manifests.retag(NAME, Tag("other"), OLD.digest, Origin.V2), False),
            (lambda registry: registry.uploads.start(NAME), False),
            (lambda registry: registry.uploads.ingest(NAME, [b"another layer"]), False),
            (lambda registry: registry.bridge.prepare(NAME), False),
            (lambda registry: _put(registry, "t", NEW), True),
            (lambda registry: registry.manifests.retag(NAME, Tag("t"), OLD.digest, Origin.V2), True),
            (lambda registry: _put(registry, "other", HELD), True),
            (lambda registry: registry.tags.delete(NAME, Tag("moved")), True),
        ],
    )
    def test_pushes_wait_for_what_they_share(
        self, catalog: Catalog, act: Callable[[Registry], object], *, waits: bool
    ) -> None:
        """A push that has not ended delays pushes of its tag and of its manifest, and deletes: no others."""
        store = _Held()
        registry = build_registry(catalog, store)
        for image in (OLD, HELD, NEW):
            registry.uploads.ingest(NAME, [image.config])
        for tag in ("t", "moved"):
            _put(registry, tag, OLD)
        with ThreadPoolExecutor(2) as pool:
            holding = pool.submit(_put, registry, "t", HELD)
            try:
                assert store.reached.wait(10)
                acting = pool.submit(act, registry)
                if waits:
                    _wait_for_a_waiter(catalog)
                else:
                    acting.result(10)
            finally:
                store.go_on.set()
            holding.result(10)
            acting.result(10)


def _put(registry: Registry, tag: str, image: builders.Image) -> object:
    """Push a manifest whose blobs are there."""
    return registry.manifests.put(NAME, Tag(tag), image.media_type, image.manifest)


class _Held(MemoryStore):
    """A store that is slow to place the link file of HELD.

    Attributes:
        reached: It has come to that.
        go_on: Whether it may be done.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.go_on = Event(), Event()

    def place_links(self, links: Sequence[StagedLink]) -> None:
        """Place link files."""
        if manifest_link(NAME, HELD.digest) in {each.path for each in links}:
            self.reached.set()
            self.go_on.wait(20)
        super().place_links(links)


class _Everything(NoUpstream):
    """An upstream that has everything, and loads nothing."""

    def has(self, repository: RepositoryName, reference: Tag | Digest) -> bool:
        """Return True."""
        del repository, reference
        return True

    def available_tags(
        self, repository: RepositoryName, *, last: str = "", limit: int | None = None
    ) -> Sequence[Tag]:
        """Return a tag."""
        del repository, last, limit
        return [Tag("t")]


class _Rows:
    """Rows that are stored with the highest key first, and work on all of them."""

    def __init__(self, catalog: Catalog, *, known: bool) -> None:
        """Record tags and, if they are to be *known*, blobs."""
        self.catalog = catalog
        documents = (b"%d" % number for number in range(9))
        self.documents = sorted(documents, key=lambda each: str(Digest.of(each)), reverse=True)
        self.blobs = [BlobRow(Digest.of(each), len(each)) for each in self.documents]
        self.tags = [Tag(f"t{number}") for number in range(9, 0, -1)]
        with catalog.begin() as tx:
            self.repository = RepositoryRow(push(tx, NAME), NAME)
            for tag in self.tags:
                tx.tags.point(self.repository.id, [tag], MANIFEST.digest)
            link(tx, self.repository.id, *(self.documents if known else ()))
            tx.blobs.connection.execute(update(RepositoryBlobs).values(candidate_since=None))
            tx.blobs.connection.exec_driver_sql("ANALYZE")  # so that it scans such small tables

    def lock(self, tx: Transaction, work: str, place: int) -> None:
        """Lock one of the rows that some work is on."""
        match work:
            case "point" | "remove" | "pull":
                tx.tags.point(self.repository.id, [self.tags[place]], MANIFEST.digest)
            case "sweep":
                note(tx.blobs.connection, tx.now, self.repository.id, self.blobs[place].digest)
            case _:
                tx.blobs.record(self.blobs[place].digest, self.blobs[place].size)

    def store_documents(self, *, again: bool = False) -> frozenset[Digest]:
        """Store the documents whose blobs they are."""
        state = State(self.catalog, store := MemoryStore(), Links(store))
        return state.store_documents(self.repository, self.documents, again=again)

    def change(self, work: str) -> None:
        """Change all rows in one transaction."""
        if work == "admit":
            self.store_documents()
            return
        with self.catalog.begin() as tx:
            match work:
                case "verify":
                    tx.blobs.mark_verified([each.digest for each in self.blobs])
                case "adopt":
                    tx.garbage.adopt(self.blobs)
                case "sweep":
                    tx.garbage.note_unused(None, 100)
                case "point":
                    tx.tags.point(self.repository.id, self.tags, MANIFEST.digest)
                case "remove":
                    tx.tags.remove(self.repository.id, *self.tags)
                case "pull":
                    tx.tags.record_pulls({(NAME, tag): tx.now for tag in self.tags})


def _linked(catalog: Catalog, *digests: Digest) -> int:
    """Link a repository to blobs, and return its ID."""
    with catalog.begin() as tx:
        repository_id = tx.repositories.ensure(NAME).id
        for digest in digests:
            tx.blobs.record(digest, 3)
            tx.blobs.link(repository_id, digest)
    return repository_id


def _wait_for_a_waiter(catalog: Catalog) -> None:
    """Wait until one transaction waits for a lock."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"

    def waits() -> bool:
        with catalog.engine.connect() as connection:
            return connection.exec_driver_sql(query).scalar() == 1

    assert until(waits), "nothing waits for a lock"


@pytest.mark.slow
@pytest.mark.postgres
def test_a_database_without_an_encoding() -> None:
    """Is used like another one; that is what ``initdb`` makes where the locale is C."""
    with (
        postgresql_database("LOCALE_PROVIDER libc ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'") as url,
        closing(Catalog(url)) as catalog,
    ):
        upgrade(catalog)
        registry = build_registry(catalog, MemoryStore())
        push_v2(registry, NAME, Tag("1"), NEW)
        assert [*registry.tags.list(NAME).rows] == [Tag("1")]
