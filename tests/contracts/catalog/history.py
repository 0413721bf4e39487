"""History: each move and deletion of a tag, once, as a chain."""

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from dualreg.acting import Api, acting
from dualreg.catalog.database import Catalog, Transaction
from dualreg.catalog.moves import HistoryPlace, HistoryRow, WantedMoves
from dualreg.catalog.rows import Origin
from dualreg.image.digest import Digest
from dualreg.image.names import Tag
from dualreg.patterns import Reach
from tests.conftest import Clock
from tests.contracts.catalog.rows import MANIFEST, NAME, OTHER, artifact, push, record

TAG = Tag("a")


def moves(tx: Transaction, tag: Tag = TAG) -> list[tuple[Digest | None, Digest | None]]:
    """Return the moves of a tag of NAME, oldest first."""
    return [(row.old, row.new) for row in reversed(tx.history.page(NAME, tag, limit=1000))]


class HistoryContract:
    """History: each move and deletion of a tag, once, as a chain."""

    def test_moves_are_recorded(self, catalog: Catalog, clock: Clock) -> None:
        """With all that is known of them; what is no move is not, and other tags have their own."""
        other = artifact(1)
        with catalog.begin() as tx, acting("alice", Api.V2):
            repository_id = push(tx, NAME, "a", "b")
            record(tx, repository_id, other)
            push(tx, OTHER, "a")
        clock.advance(timedelta(seconds=1))
        with catalog.begin() as tx, acting("bob", Api.V1):
            tx.tags.point(repository_id, [TAG], MANIFEST.digest)
            tx.tags.point(repository_id, [TAG, Tag("c")], other.digest, Origin.V1)
            assert tx.tags.remove(repository_id, TAG, Tag("absent"))
        with catalog.read() as tx:
            assert moves(tx) == [
                (None, MANIFEST.digest),
                (MANIFEST.digest, other.digest),
                (other.digest, None),
            ]
            assert moves(tx, Tag("b")) == [(None, MANIFEST.digest)]
            assert moves(tx, Tag("c")) == [(None, other.digest)]
            assert moves(tx, Tag("absent")) == []
            deleted, moved, created = tx.history.page(NAME, TAG, limit=9)
            size = len(MANIFEST.payload)
            assert created[1:-4] == (NAME, TAG, clock.instant - timedelta(seconds=1), "alice", "v2", None)
            assert created[-3:] == (Origin.V2, MANIFEST.media_type, size)
            assert moved[3:6] == (clock.instant, "bob", "v1")
            assert moved[-3:] == deleted[-3:] == (Origin.V1, other.media_type, len(other.payload))

    def test_pages(self, catalog: Catalog, clock: Clock) -> None:
        """By time and number, with bounds on either side; rows of the same time are each on one page."""
        manifests = [MANIFEST, artifact(1)]
        with catalog.begin() as tx:
            repository_id = push(tx, NAME)
            record(tx, repository_id, manifests[1])
        for number in range(12):
            with catalog.begin() as tx:
                tx.tags.point(repository_id, [TAG], manifests[number % 2].digest)
            clock.advance(timedelta(seconds=number % 3))
        with catalog.read() as tx:
            rows = [*tx.history.page(NAME, TAG, limit=100)]
            assert [row.id for row in rows] == sorted((row.id for row in rows), reverse=True)
            assert len(rows) == 12
            for size in (1, 3, 12):
                seen: list[HistoryRow] = []
                while page := tx.history.page(
                    NAME, TAG, limit=size, after=HistoryPlace(seen[-1].at, seen[-1].id) if seen else None
                ):
                    seen += page
                assert seen == rows
            middle = rows[6].at
            for after in (None, HistoryPlace(rows[2].at, rows[2].id), HistoryPlace(rows[8].at, rows[8].id)):
                wanted = WantedMoves(before=middle, since=rows[-1].at)
                found = tx.history.page(NAME, TAG, limit=100, after=after, wanted=wanted)
                expected = [
                    row
                    for row in rows
                    if rows[-1].at < row.at < middle and (after is None or (row.at, row.id) < after)
                ]
                assert [*found] == expected
            assert tx.history.at(NAME, TAG, middle) == next(row for row in rows if row.at <= middle)
            assert tx.history.at(NAME, TAG, rows[-1].at - timedelta(seconds=1)) is None

    def test_origins(self, catalog: Catalog) -> None:
        """What a tag last was, or what another tag is; rows of one origin alone can be had."""
        other = artifact(1)
        with catalog.begin() as tx:
            repository_id = push(tx, NAME, "b")
            record(tx, repository_id, other)
            tx.tags.point(repository_id, [TAG], other.digest, Origin.V1)
            tx.tags.point(repository_id, [TAG], MANIFEST.digest)
            tx.tags.remove(repository_id, Tag("b"))
        with catalog.read() as tx:
            assert tx.history.origin(NAME, TAG, other.digest) is Origin.V1
            assert tx.history.origin(NAME, Tag("new"), MANIFEST.digest) is Origin.V2
            assert tx.history.origin(NAME, Tag("new"), other.digest) is None
            (row,) = tx.history.page(NAME, TAG, limit=9, wanted=WantedMoves(origins=[Origin.V1]))
            assert row.new == other.digest

    def test_the_past_is_forgotten(self, catalog: Catalog, clock: Clock) -> None:
        """What is old enough, and not what follows it; numbers are not used again."""
        with catalog.begin() as tx:
            repository_id = push(tx, NAME, "a", "b", "c")
        clock.advance(timedelta(days=1))
        with catalog.begin() as tx:
            tx.tags.remove(repository_id, TAG)
            before = tx.now - timedelta(hours=1)
            assert [tx.history.trim(before, 2) for _ in range(3)] == [2, 1, 0]
            assert moves(tx) == [(MANIFEST.digest, None)]
            (last,) = tx.history.page(NAME, TAG, limit=9)
            assert tx.history.trim(tx.now, 2) == 0  # by which a copy goes on
            tx.tags.point(repository_id, [TAG], MANIFEST.digest)
            assert tx.history.trim(tx.now, 2) == 1
            (row,) = tx.history.page(NAME, TAG, limit=9)
            assert row.id > last.id

    def test_pushes_at_once_make_a_chain(self, catalog: Catalog) -> None:
        """However clients move, delete and restore one tag, each row begins where the one before ended."""
        manifests = [MANIFEST, artifact(1), artifact(2)]
        with catalog.begin() as tx:
            repository_id = push(tx, NAME)
            for each in manifests[1:]:
                record(tx, repository_id, each)

        def act(seed: int) -> None:
            chance = random.Random(seed)  # noqa: S311 -- no secret
            for _ in range(25):
                with catalog.begin() as tx:
                    if chance.random() < 0.2:
                        assert tx.repositories.lock(NAME, exclusive=True)
                        tx.tags.remove(repository_id, TAG, Tag("b"))
                        continue
                    assert tx.repositories.lock(NAME)
                    digest = chance.choice(manifests).digest
                    tags = [TAG, Tag("b")][: chance.randint(1, 2)]
                    left = tx.tags.leave(repository_id, tags, digest)
                    tx.garbage.note(repository_id, *sorted(left, key=str))
                    tx.tags.point(repository_id, tags, digest, note_left=False)

        with ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(act, seed) for seed in range(4)]:
                done.result()
        with catalog.read() as tx:
            for tag in (TAG, Tag("b")):
                chain = moves(tx, tag)
                assert len(chain) > 20
                assert [old for old, _ in chain] == [None, *(new for _, new in chain[:-1])]
                assert all(old != new for old, new in chain)
                row = tx.manifests.find(NAME, tag)
                assert chain[-1][1] == (row and row.digest)

    def test_recent_moves(self, catalog: Catalog) -> None:
        """Of the last ones, those of repositories in reach, newest first."""
        with catalog.begin() as tx:
            for number in range(6):
                push(tx, NAME if number % 2 else OTHER, f"t{number}")
        own = Reach(((NAME,),))
        with catalog.read() as tx:
            for reach, limit, scanned, expected in (
                (Reach(), 10, 10, "543210"),
                (Reach(), 2, 10, "54"),
                (Reach(), 10, 3, "543"),
                (own, 10, 10, "531"),
                (own, 10, 2, "5"),
                (own, 1, 10, "5"),
                (Reach(((),)), 10, 10, ""),
            ):
                rows = tx.history.recent(reach, limit, scanned)
                assert "".join(row.tag[1:] for row in rows) == expected
