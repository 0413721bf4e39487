"""History: what tags pointed at, who moved them, and what they would point at if they were restored."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple

from dualreg.catalog.database import Transaction
from dualreg.catalog.moves import EVERY_MOVE, HistoryPlace, HistoryRow, WantedMoves
from dualreg.catalog.rows import Origin
from dualreg.errors import (
    DeletedForGood,
    ManifestUnknown,
    NotRestorable,
    PreconditionFailed,
    QuotaExceeded,
    RegistryError,
    RepositoryUnknown,
    TagImmutable,
    Unsigned,
)
from dualreg.image.digest import Digest
from dualreg.image.formats import Role
from dualreg.image.names import RepositoryName, Tag
from dualreg.patterns import EVERYWHERE, Reach
from dualreg.registry.manifests import Manifests
from dualreg.registry.outbox import Outbox
from dualreg.registry.pages import SCAN_LIMIT, Page
from dualreg.registry.preconditions import ANY, Precondition
from dualreg.registry.state import State
from dualreg.registry.undelete import Undelete

#: Rows that are read at a time.
_BATCH = 500
#: Why a tag is not restored, where others may be.
_REFUSALS = (
    DeletedForGood,
    ManifestUnknown,
    NotRestorable,
    PreconditionFailed,
    QuotaExceeded,
    TagImmutable,
    Unsigned,
)
#: Moves that are looked at for the last ones of some repositories.
_RECENT = 1000


class Restoration(NamedTuple):
    """How a tag is restored; *origin* is the generation of the client that pushed it so.

    Attributes:
        old: What it points at; None: it does not exist.
        new: What it will point at.
        deleted: Whether that was deleted, and is restored along with it.
    """

    repository: RepositoryName
    tag: Tag
    old: Digest | None
    new: Digest
    origin: Origin
    deleted: bool = False


class RestoredRepository(NamedTuple):
    """What was restored of a repository, and the tags that could not be, since bytes of them are gone."""

    tags: int
    manifests: int
    lost: Sequence[Tag]


class Forgotten(NamedTuple):
    """How many moves were forgotten, and deleted manifests, which cannot be restored any longer."""

    moves: int
    manifests: int


@dataclass(frozen=True, slots=True)
class History:
    """Says what tags pointed at, and has them point at that again."""

    state: State
    manifests: Manifests
    undelete: Undelete

    def page(
        self,
        repository: RepositoryName,
        tag: Tag,
        *,
        limit: int,
        after: HistoryPlace | None = None,
        wanted: WantedMoves = EVERY_MOVE,
    ) -> Page[HistoryRow]:
        """Return up to *limit* moves of a tag, newest first; none if it never existed, or only long ago.

        Args:
            after: The last row of the page before.
            wanted: Of one digest, a page that is not the last may have fewer than *limit*.
        """
        found: list[HistoryRow] = []
        one = wanted.digest is not None
        size = _BATCH if one else limit + 1
        with self.state.catalog.read() as tx:
            for _ in range(SCAN_LIMIT // _BATCH if one else 1):
                rows = tx.history.page(repository, tag, limit=size, after=after, wanted=wanted)
                found += filter(wanted.includes, rows)
                if len(found) > limit or len(rows) < size:
                    return Page(found[:limit], more=len(found) > limit > 0)
                after = HistoryPlace(rows[-1].at, rows[-1].id)
        return Page(found, more=True, scanned_to=rows[-1])

    def recent(self, *, limit: int, reach: Reach = EVERYWHERE) -> Sequence[HistoryRow]:
        """Return up to *limit* of the last moves in repositories of *reach*, newest first.

        Only the last thousand moves of all repositories are looked at.
        """
        with self.state.catalog.read() as tx:
            return tx.history.recent(reach, limit, _RECENT)

    @property
    def keep(self) -> timedelta | None:
        """How long moves are kept; None: forever."""
        return self.state.retention.history

    def trim(self) -> Iterator[int]:
        """Forget what is too old, a page at a time; yields how many moves were forgotten."""
        keep = self.keep
        gone = _BATCH if keep is not None else 0
        while keep is not None and gone == _BATCH:
            with self.state.catalog.begin() as tx:
                gone = tx.history.trim(tx.now - keep, _BATCH)
            yield gone

    def restoration(
        self,
        repository: RepositoryName,
        tag: Tag,
        *,
        to: Digest | None = None,
        at: datetime | None = None,
    ) -> Restoration:
        """Return how a tag would be restored; by default, to what it last pointed at, and does not now.

        Args:
            to: Restore it to this manifest, which it need not have pointed at.
            at: Restore it to what it pointed at then.

        Raises:
            NotRestorable: the history does not say, or the tag points at that already.
        """
        with self.state.catalog.read() as tx:
            row = tx.manifests.find(repository, tag)
            current = row.digest if row else None
            if to is None:
                to = _former(tx, repository, tag, current) if at is None else _then(tx, repository, tag, at)
            if to == current:
                raise NotRestorable(repository=repository, tag=tag, reason=f"it points at {to} already")
            origin = tx.history.origin(repository, tag, to) or (row and row.origin) or Origin.V2
            deleted = tx.manifests.find(repository, to) is None and bool(tx.undelete.find(repository, [to]))
        return Restoration(repository, tag, current, to, origin, deleted)

    def restore(self, planned: Restoration) -> None:
        """Restore a tag as planned.

        Raises:
            ManifestUnknown, DeletedForGood: the manifest is gone.
            QuotaExceeded: it was deleted, and does not fit.
            PreconditionFailed: the tag was changed meanwhile.
            TagImmutable, Unsigned: a policy refuses it.
            RepositoryOwned: its content comes from upstream.
        """
        if planned.deleted:
            self.undelete.manifest(planned.repository, planned.new)
        condition = Precondition(match=frozenset({str(planned.old)}))
        if planned.old is None:
            condition = Precondition(none_match=frozenset({ANY}))
        self.manifests.retag(
            planned.repository, planned.tag, planned.new, planned.origin, condition=condition
        )

    def restore_several(
        self, repository: RepositoryName, targets: Mapping[Tag, Digest], restored: dict[Tag, Digest]
    ) -> dict[Tag, RegistryError]:
        """Restore tags that were deleted; return why some are not, such as those that exist again.

        A tag by which the signature of another one is found may come after that.

        Args:
            restored: Those that were restored are added to it, also before an error ends that.

        Raises:
            RepositoryOwned: the content of the repository comes from upstream.
        """
        kept, left = dict[Tag, RegistryError](), dict(targets)
        while left:
            refused = dict[Tag, RegistryError]()
            for tag, digest in left.items():
                try:
                    planned = self.restoration(repository, tag, to=digest)
                    _require_absent(planned)
                    self.restore(planned)
                    restored[tag] = digest
                except _REFUSALS as error:
                    refused[tag] = error
            unsigned = {tag for tag, error in refused.items() if isinstance(error, Unsigned)}
            again = unsigned if len(refused) < len(left) else frozenset[Tag]()
            kept |= {tag: error for tag, error in refused.items() if tag not in again}
            left = {tag: digest for tag, digest in left.items() if tag in again}
        return kept

    def repository_restoration(self, repository: RepositoryName) -> Iterator[Restoration]:
        """Yield how the tags would be restored that went with the repository when it was last deleted.

        Those that exist now stay as they are. It reads a page at a time.

        Raises:
            RepositoryUnknown: it was not deleted, or that is forgotten.
        """
        return self._gone_tags(repository, self._began(repository))

    def _began(self, repository: RepositoryName) -> datetime:
        """Return when the last deletion of a repository began, as ``repository_restoration``."""
        with self.state.catalog.read() as tx:
            began = tx.undelete.began_at(repository)
        if began is None:
            raise RepositoryUnknown(name=repository)
        return began

    def _gone_tags(self, repository: RepositoryName, began: datetime) -> Iterator[Restoration]:
        last, more = "", True
        while more:
            with self.state.catalog.read() as tx:
                page = tx.undelete.deleted_tags(repository, began, last, _BATCH)
            for tag, digest, origin in page:
                yield Restoration(repository, tag, None, digest, origin, deleted=True)
            last, more = page[-1][0] if page else "", len(page) == _BATCH

    def restorable(self, repository: RepositoryName) -> RestoredRepository:
        """Return how much ``restore_repository`` would restore, if nothing is lost or refused.

        Raises:
            RepositoryUnknown: as ``repository_restoration``.
        """
        began = self._began(repository)
        with self.state.catalog.read() as tx:
            tags = tx.undelete.count_deleted_tags(repository, began)
            return RestoredRepository(tags, tx.undelete.count(repository, began), ())

    def restore_repository(self, repository: RepositoryName) -> RestoredRepository:
        """Restore all manifests and tags that went with the repository when it was last deleted.

        Each image is restored by itself; if one does not fit into a quota, those before it stay. Of tags that
        are refused, all others are restored, such as those by which signatures are found.

        Raises:
            RepositoryUnknown: as ``repository_restoration``.
            QuotaExceeded, TagImmutable, Unsigned: a policy refuses one.
            RepositoryOwned: the content of the repository comes from upstream.
        """
        began = self._began(repository)
        manifests, tags, lost = 0, 0, dict[Tag, None]()
        for digest in self.undelete.gone(repository):
            with suppress(DeletedForGood):
                manifests += self.undelete.manifest(repository, digest)
        while True:  # those that were restored are not found again
            restored, refusal = self._restore_tags(self._gone_tags(repository, began), lost)
            tags += restored
            if refusal is None:
                return RestoredRepository(tags, manifests, [*lost])
            if not restored:
                raise refusal

    def _restore_tags(
        self, planned: Iterable[Restoration], lost: dict[Tag, None]
    ) -> tuple[int, Unsigned | None]:
        """Restore tags, but for *lost* ones, and add to these; return how many, and why one was refused."""
        restored, refusal = 0, None
        for each in planned:
            if each.tag in lost:
                continue
            try:
                self.restore(each)
                restored += 1
            except PreconditionFailed:
                pass  # it was pushed meanwhile
            except (ManifestUnknown, DeletedForGood):
                lost[each.tag] = None
            except Unsigned as error:
                refusal = error
        return restored, refusal

    def forget(self, repository: RepositoryName, tag: Tag | None = None) -> Forgotten:
        """Forget what a tag, or all tags of a repository, pointed at, and what was deleted along with them.

        Tags that exist stay as they are. What nothing but the tag pointed at cannot be restored then.
        Webhooks get all of it nevertheless.
        """
        Outbox(self.state.catalog).catch_up()
        moves, digests, gone = 0, set[Digest](), _BATCH
        while gone == _BATCH:
            with self.state.catalog.begin() as tx:
                gone, named = tx.history.forget(repository, tag, _BATCH)
            moves += gone
            digests.update(named if tag else ())
        with self.state.catalog.begin() as tx:
            if tag is None:
                return Forgotten(moves, tx.undelete.forget_repository(repository))
            return Forgotten(moves, _forget_manifests(tx, repository, digests))

    def forgettable(self, repository: RepositoryName, tag: Tag | None = None) -> Forgotten:
        """Return what ``forget`` would return."""
        if tag is None:
            with self.state.catalog.read() as tx:
                return Forgotten(tx.history.count(repository), tx.undelete.count(repository))
        with self.state.trial() as state:
            return replace(self, state=state).forget(repository, tag)


def _require_absent(planned: Restoration) -> None:
    """Check that a tag that is restored along with others does not exist.

    Raises:
        NotRestorable: it does.
    """
    if planned.old is not None:
        reason = f"it exists again, and points at {planned.old}"
        raise NotRestorable(repository=planned.repository, tag=planned.tag, reason=reason)


def _forget_manifests(tx: Transaction, repository: RepositoryName, digests: Collection[Digest]) -> int:
    """Forget deleted manifests that no tag has pointed at, and no deleted one names; return how many.

    And what they name, and what was attached to them.
    """
    count = 0
    while digests:
        kept = tx.history.named(repository, digests) | tx.undelete.named(repository, digests)
        rows = tx.undelete.find(repository, [each for each in digests if each not in kept])
        parts = tx.undelete.parts(repository, rows)
        about = {each.digest for row in rows.values() for each in tx.undelete.referrers(repository, row)}
        tx.undelete.forget(repository, rows)
        count += len(rows)
        digests = {part.digest for part in parts if part.role == Role.MANIFEST} | about
    return count


def _former(tx: Transaction, repository: RepositoryName, tag: Tag, current: Digest | None) -> Digest:
    """Return the manifest that the tag last pointed at, and that is not the *current* one.

    Raises:
        NotRestorable: there is none.
    """
    rows = tx.history.page(repository, tag, limit=SCAN_LIMIT)
    former = next((row.old for row in rows if row.old not in (None, current)), None)
    if former is None:
        reason = "its history has nothing else that it pointed at" if rows else "it has no history"
        raise NotRestorable(repository=repository, tag=tag, reason=reason)
    return former


def _then(tx: Transaction, repository: RepositoryName, tag: Tag, at: datetime) -> Digest:
    """Return the manifest that the tag pointed at *at* a time.

    Raises:
        NotRestorable: it did not exist then, or that is not known.
    """
    row = tx.history.at(repository, tag, at)
    if row is None:
        reason = f"its history does not reach back to {at:%Y-%m-%d %H:%M:%S %Z}"
        raise NotRestorable(repository=repository, tag=tag, reason=reason)
    if row.new is None:
        reason = f"it did not exist at {at:%Y-%m-%d %H:%M:%S %Z}"
        raise NotRestorable(repository=repository, tag=tag, reason=reason)
    return row.new
