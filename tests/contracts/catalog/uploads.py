"""Uploads, and the lease that one writer at a time has."""

from datetime import timedelta

from dualreg.catalog.database import Catalog
from dualreg.catalog.rows import Lease, OtherUploads, UploadRow
from dualreg.catalog.tables import Uploads
from dualreg.image.names import UploadId
from tests.conftest import Clock
from tests.contracts.catalog.rows import CONFIG, LEASE, NAME, OTHER, count


class UploadsContract:
    """Uploads, and the lease that one writer at a time has."""

    def _start(self, catalog: Catalog) -> UploadId:
        upload = UploadId.new()
        with catalog.begin() as tx:
            tx.uploads.start(tx.repositories.ensure(NAME).id, upload)
            tx.repositories.ensure(OTHER)
        return upload

    def _lease(
        self, catalog: Catalog, upload: UploadId, lease: str, offset: int | None = None
    ) -> UploadRow | None:
        with catalog.begin() as tx:
            return tx.uploads.lease(
                NAME, upload, Lease(lease, f"process of {lease}"), duration=LEASE, offset=offset
            )

    def test_an_upload_belongs_to_its_repository(self, catalog: Catalog, clock: Clock) -> None:
        """Another repository neither finds nor leases it."""
        upload = self._start(catalog)
        with catalog.begin() as tx:
            row = tx.uploads.find(NAME, upload)
            assert row is not None
            assert row == UploadRow(upload, row.repository_id, 0, None, clock.instant, upload, "", None)
            assert tx.uploads.find(OTHER, upload) is None
            assert tx.uploads.find(NAME, UploadId.new()) is None
            assert tx.uploads.lease(OTHER, upload, Lease("x", ""), duration=LEASE) is None
            assert tx.uploads.lease(NAME, UploadId.new(), Lease("x", ""), duration=LEASE) is None

    def test_one_lease_at_a_time(self, catalog: Catalog) -> None:
        """While one holds the lease another gets none; the holder may renew it; giving it back frees it."""
        upload = self._start(catalog)
        assert self._lease(catalog, upload, "mine") is not None
        assert self._lease(catalog, upload, "other") is None
        assert self._lease(catalog, upload, "mine") is not None
        with catalog.begin() as tx:
            tx.uploads.release(upload, "other")
        assert self._lease(catalog, upload, "other") is None
        with catalog.begin() as tx:
            tx.uploads.release(upload, "mine")
        assert self._lease(catalog, upload, "other") is not None

    def test_a_lease_ends_with_its_time(self, catalog: Catalog, clock: Clock) -> None:
        """A writer that fell silent loses its lease to the next one, and cannot move the offset any more."""
        upload = self._start(catalog)
        assert self._lease(catalog, upload, "mine") is not None
        clock.advance(LEASE)
        assert self._lease(catalog, upload, "other") is None
        clock.advance(timedelta(microseconds=1))
        assert self._lease(catalog, upload, "other") is not None
        assert self._lease(catalog, upload, "mine") is None
        with catalog.begin() as tx:
            assert tx.uploads.advance(upload, "mine", offset=5, layout="", digest_so_far=None) is False
            assert tx.uploads.remove(upload, "mine") is False
            tx.uploads.release(upload, "mine")
            assert tx.uploads.advance(upload, "other", offset=7, layout="", digest_so_far=None) is True

    def test_renewing_makes_a_lease_last(self, catalog: Catalog, clock: Clock) -> None:
        """A writer that renews in time keeps its lease beyond its first end."""
        upload = self._start(catalog)
        for _ in range(4):
            assert self._lease(catalog, upload, "mine") is not None
            clock.advance(LEASE * 0.9)
            assert self._lease(catalog, upload, "other") is None

    def test_a_lease_can_ask_for_an_offset(self, catalog: Catalog) -> None:
        """The lease is had only by who knows where the upload ends; None asks for no offset."""
        upload = self._start(catalog)
        assert self._lease(catalog, upload, "a", 1) is None
        assert self._lease(catalog, upload, "a", 0) is not None
        with catalog.begin() as tx:
            assert (
                tx.uploads.advance(upload, "a", offset=3_000_000_000, layout="a:1:1", digest_so_far=CONFIG)
                is True
            )
        assert self._lease(catalog, upload, "b", 0) is None
        row = self._lease(catalog, upload, "b", 3_000_000_000)
        assert row is not None
        assert (row.offset, row.layout, row.digest_so_far) == (3_000_000_000, "a:1:1", CONFIG)

    def test_advancing_gives_the_lease_back(self, catalog: Catalog, clock: Clock) -> None:
        """After its bytes are recorded a writer is done; the upload is dated by that."""
        upload = self._start(catalog)
        self._lease(catalog, upload, "a")
        clock.advance(timedelta(seconds=1))
        with catalog.begin() as tx:
            assert tx.uploads.advance(upload, "a", offset=3, layout="", digest_so_far=None) is True
            assert tx.uploads.advance(upload, "a", offset=4, layout="", digest_so_far=None) is False
            row = tx.uploads.find(NAME, upload)
            assert row is not None
            assert (row.offset, row.touched_at) == (3, clock.instant)

    def test_only_the_leaseholder_removes_an_upload(self, catalog: Catalog) -> None:
        """An upload goes once, by whom may write it."""
        upload = self._start(catalog)
        with catalog.begin() as tx:
            assert tx.uploads.remove(upload, "a") is False
        self._lease(catalog, upload, "a")
        with catalog.begin() as tx:
            assert tx.uploads.remove(upload, "b") is False
            assert tx.uploads.remove(upload, "a") is True
            assert tx.uploads.remove(upload, "a") is False
            assert count(tx, Uploads) == 0

    def test_a_lost_lease_names_its_process(self, catalog: Catalog, clock: Clock) -> None:
        """The upload names the first process that lost its lease, until it is said to be secure."""
        upload, copy = self._start(catalog), UploadId.new()
        self._lease(catalog, upload, "first")
        with catalog.begin() as tx:
            assert tx.uploads.held(upload) == Lease("first", "process of first")
            tx.uploads.release(upload, "first")
            assert tx.uploads.held(upload) is None
        row = self._lease(catalog, upload, "second")
        assert row is not None
        assert row.stalled is None
        for lease in ("third", "fourth"):
            clock.advance(LEASE * 2)
            row = self._lease(catalog, upload, lease)
            assert row is not None
            assert (row.staged, row.stalled) == (upload, "process of second")
        with catalog.begin() as tx:
            tx.uploads.release(upload, "fourth")
        row = self._lease(catalog, upload, "fifth")
        assert row is not None
        assert row.stalled == "process of second"
        with catalog.begin() as tx:
            assert tx.uploads.secure(upload, "second", UploadId.new(), "") is False
            assert tx.uploads.secure(upload, "fifth", copy, "") is True
            row = tx.uploads.find(NAME, upload)
            assert row is not None
            assert (row.staged, row.stalled) == (copy, None)
            assert tx.uploads.named([upload, copy]) == {copy}

    def test_a_lease_ends_with_another(self, catalog: Catalog) -> None:
        """A lease in force is taken over by one that names it; the upload names its process."""
        upload = self._start(catalog)
        self._lease(catalog, upload, "dead")
        with catalog.begin() as tx:
            later = Lease("later", "")
            assert tx.uploads.lease(NAME, upload, later, duration=LEASE, over="another") is None
            row = tx.uploads.lease(NAME, upload, later, duration=LEASE, over="dead")
            assert row is not None
            assert row.stalled == "process of dead"
            assert tx.uploads.advance(upload, "dead", offset=1, layout="", digest_so_far=None) is False

    def test_renewing_never_takes_a_lease_back(self, catalog: Catalog, clock: Clock) -> None:
        """A holder keeps its lease even when late, unless somebody else has had it meanwhile."""
        upload = self._start(catalog)
        self._lease(catalog, upload, "mine")
        clock.advance(LEASE * 2)
        with catalog.begin() as tx:
            assert tx.uploads.renew(upload, "mine", duration=LEASE) is not None
            assert tx.uploads.renew(upload, "other", duration=LEASE) is None
        assert self._lease(catalog, upload, "other") is None
        clock.advance(LEASE * 2)
        assert self._lease(catalog, upload, "other") is not None
        with catalog.begin() as tx:
            assert tx.uploads.renew(upload, "mine", duration=LEASE) is None
            tx.uploads.release(upload, "other")
            assert tx.uploads.renew(upload, "mine", duration=LEASE) is None

    def test_a_client_has_a_limited_number_of_uploads(self, catalog: Catalog, clock: Clock) -> None:
        """Those of others, and those that were not touched for long, do not count."""
        with catalog.begin() as tx:
            repository = tx.repositories.ensure(NAME).id
            started = [
                tx.uploads.start(repository, UploadId.new(), client, limit=2, since=clock.instant)
                for client in ("a", "a", "b", "a")
            ]
        assert started == [True, True, True, False]
        clock.advance(timedelta(seconds=1))
        with catalog.begin() as tx:
            assert tx.uploads.start(repository, UploadId.new(), "a", limit=2, since=clock.instant)
            assert count(tx, Uploads) == 4

    def test_a_lease_counts_the_bytes_of_other_uploads(self, catalog: Catalog) -> None:
        """Those that are durable and those that are arriving: of the same client, and of all."""
        uploads = {name: UploadId.new() for name in ("one", "two", "other", "nobody", "nobody's")}
        with catalog.begin() as tx:
            repository = tx.repositories.ensure(NAME).id
            for number, (name, upload) in enumerate(uploads.items()):
                client = {"one": "a", "two": "a", "other": "b"}.get(name, "")
                assert tx.uploads.start(repository, upload, client)
                assert tx.uploads.lease(NAME, upload, Lease(name, ""), duration=LEASE)
                assert tx.uploads.advance(
                    upload, name, offset=10**number * 5_000_000_000, layout="", digest_so_far=None
                )
        row = self._lease(catalog, uploads["two"], "two")
        assert row is not None
        assert row.others == OtherUploads(5_000_000_000, 55_505_000_000_000)
        assert self._lease(catalog, uploads["nobody"], "x").others.own == 0
        with catalog.begin() as tx:
            assert tx.uploads.renew(uploads["two"], "two", duration=LEASE, arriving=7) == row.others
        one = self._lease(catalog, uploads["one"], "one")
        assert one is not None
        assert one.others == OtherUploads(50_000_000_007, 55_550_000_000_007)
        with catalog.begin() as tx:
            tx.uploads.release(uploads["two"], "two")
            renewed = tx.uploads.renew(uploads["one"], "one", duration=LEASE)
        assert renewed == OtherUploads(50_000_000_000, 55_550_000_000_000)

    def test_idle_uploads(self, catalog: Catalog, clock: Clock) -> None:
        """Uploads that nobody touched for long are found, can be hidden, and go unless touched."""
        old = self._start(catalog)
        older = clock.instant
        clock.advance(timedelta(hours=1))
        young = self._start(catalog)
        with catalog.begin() as tx:
            assert tx.uploads.idle(before=older) == ()
            assert tx.uploads.idle(before=clock.instant) == (old,)
            assert tx.uploads.named([old, young, UploadId.new()]) == {old, young}
            assert tx.uploads.named([]) == frozenset()
            assert tx.uploads.find(NAME, old, since=older) is not None
            assert tx.uploads.find(NAME, old, since=clock.instant) is None
            assert tx.uploads.lease(NAME, old, Lease("x", ""), duration=LEASE, since=clock.instant) is None
            assert (
                tx.uploads.lease(NAME, young, Lease("x", ""), duration=LEASE, since=clock.instant) is not None
            )
            assert tx.uploads.remove_idle(young, before=clock.instant) is None
            assert tx.uploads.remove_idle(old, before=clock.instant) == old
            assert tx.uploads.remove_idle(old, before=clock.instant) is None
            assert tx.uploads.idle(before=clock.instant + timedelta(days=1)) == (young,)
