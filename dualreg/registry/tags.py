"""Tags: mutable names for manifests."""

from collections.abc import Collection
from collections.abc import Set as AbstractSet
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime

from dualreg.catalog.database import Transaction
from dualreg.catalog.orders import OrderedTags, TagOrder, TagPlace, TooManyToOrder
from dualreg.catalog.rows import ORIGINS, ManifestRow, Origin, PlacedTag, RepositoryRow, TagRow
from dualreg.errors import RepositoryUnknown, TagUnknown
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.registry.activity import Pulls
from dualreg.registry.deletion import clear_tags
from dualreg.registry.pages import SCAN_LIMIT, Page
from dualreg.registry.preconditions import (
    UNCONDITIONAL,
    Precondition,
    check_precondition,
    load_for_precondition,
)
from dualreg.registry.state import State
from dualreg.registry.tag_deletion import Departure, delete_tags, plan_deletion
from dualreg.registry.upstream import NoUpstream
from dualreg.registry.visibility import Visibility
from dualreg.waiting import WorkSlots

#: How many tags are read at a time where only some of them match.
_BATCH = 500


#: Tags that are looked at for a page in an order that no index has, which takes about a second at most: by
#: size, all that they need is.
ORDER_LIMITS = {"pulled": 100_000, "size": 2_000}
#: Threads of a process that order tags without an index, others that wait for that, and for how many seconds.
_AT_ONCE, _WAITING, _PATIENCE = 1, 2, 2.0
#: By push: of so many tags of a prefix, all are looked at; of more, so many tags of the repository.
_FEW, _SCAN = 10_000, 100_000


@dataclass(frozen=True, slots=True)
class Tags:
    """Lists and deletes tags.

    ``Manifests.put``, ``Manifests.retag`` and ``Bridge.tag`` point them at manifests.
    """

    state: State
    pulls: Pulls
    visibility: Visibility = field(default_factory=Visibility)
    ordering: WorkSlots = field(default_factory=lambda: WorkSlots(_AT_ONCE, _WAITING, _PATIENCE))

    def list(self, repository: RepositoryName, *, last: str = "", limit: int | None = None) -> Page[Tag]:
        """Return up to *limit* tags that V2 clients see after *last*, in byte order; None: all of them.

        Raises:
            RepositoryUnknown.
        """
        with self.state.catalog.read() as tx:
            shown = self.visibility.shown(repository, Origin.V2)
            more = None if limit is None else limit + 1
            tags = tx.tags.list(repository, last=last, limit=more, origins=shown)
        upstream = self.state.upstream
        if self.asks_upstream(repository):
            available = upstream.available_tags(repository, last=last, limit=more)
            if available or (tags is None and last and upstream.available_tags(repository, limit=1)):
                tags = tuple(sorted({*(tags or ()), *available}))
        if tags is None:
            raise RepositoryUnknown(name=repository)
        if limit is None:
            return Page(tags, more=False)
        return Page(tags[:limit], more=len(tags) > limit > 0)

    def asks_upstream(self, repository: RepositoryName) -> bool:
        """Return whether ``list`` depends on what is upstream, too."""
        upstream = self.state.upstream
        shown = self.visibility.shown(repository, Origin.V2)
        return upstream.origin_of(repository) in shown and not isinstance(upstream, NoUpstream)

    def list_all(self, repository: RepositoryName, *, last: str = "") -> tuple[Tag, ...]:
        """Return the tags in this registry after *last*, whatever `bridge` shows, without asking upstream."""
        with self.state.catalog.read() as tx:
            return tx.tags.list(repository, last=last, limit=None, origins=ORIGINS) or ()

    def describe(
        self,
        repository: RepositoryName,
        *,
        limit: int,
        prefix: str = "",
        newest_first: bool = False,
        after: tuple[datetime, str] | None = None,
        reader: Origin | None = Origin.V2,
    ) -> Page[TagRow]:
        """Return up to *limit* tags with what they point at, and when they were pushed and pulled.

        Tags that only upstream has are not included, since none of this is known of them.

        Args:
            prefix: Only tags that start with it.
            newest_first: Order by last push instead of by name. A page that is not the last may then have
                fewer than *limit*, if many tags in a row do not start with *prefix*.
            after: Push time and name of the last tag of the previous page.
            reader: Only tags that clients of this generation see; None: all.

        Raises:
            RepositoryUnknown.
        """
        shown = self.visibility.shown(repository, reader) if reader else frozenset(Origin)
        with self.state.catalog.read() as tx:
            known = tx.repositories.find(repository) is not None
            if known and newest_first and prefix and limit:
                return _newest(tx, repository, prefix, limit=limit, after=after, origins=shown)
            rows = tx.tags.describe(
                repository,
                prefix=prefix,
                newest_first=newest_first,
                after=after,
                limit=limit + 1,
                origins=shown,
            )
        if not known and not self.state.upstream.available_tags(repository, limit=1):
            raise RepositoryUnknown(name=repository)
        return Page(rows[:limit], more=len(rows) > limit > 0)

    def ordered(
        self,
        repository: RepositoryName,
        order: TagOrder,
        *,
        limit: int,
        prefix: str = "",
        after: TagPlace | None = None,
    ) -> tuple[Page[TagRow], TagPlace | None]:
        """Return up to *limit* tags in an order, whatever `bridge` shows, and where the page ends.

        Args:
            prefix: Only tags that begin with it. By push, a page that is not the last may then have fewer
                than *limit*, or none, if many tags in a row begin otherwise.
            after: Where the page before ended.

        Raises:
            RepositoryUnknown.
            TooManyToOrder: no index has the order, and there are more tags than are looked at for one page,
                or they need too much.
            ServerBusy: no index has the order, and others order tags.
        """
        with nullcontext() if order.is_indexed else self.ordering.slot(), self.state.catalog.read() as tx:
            row, found = tx.repositories.find(repository), OrderedTags(())
            if row:
                _require_few(tx, row, order, prefix)
                scan = _SCAN if _scans(tx, row, order, prefix) else None
                found = tx.tags.ordered(row.id, order, prefix=prefix, after=after, scan=scan, limit=limit)
        if row is None and not self.state.upstream.available_tags(repository, limit=1):
            raise RepositoryUnknown(name=repository)
        return Page(found.rows, more=found.more), found.end

    def every(self, *, after: tuple[str, str] = ("", ""), limit: int) -> Page[PlacedTag]:
        """Return up to *limit* tags of all repositories, whatever `bridge` shows, by repository and name.

        Args:
            after: The repository and the name of the last tag of the previous page.
        """
        with self.state.catalog.read() as tx:
            placed = tx.tags.every(after, limit + 1)
            rows = placed[:limit]
            indexes = [each for each in rows if each.row.media_type in media_types.INDEXES]
            places = {each.repository_id for each in indexes}, {each.row.digest for each in indexes}
            missing = tx.manifests.missing(*places) if indexes else {}
        found = [
            each._replace(lacking=frozenset(missing.get((each.repository_id, each.row.digest), ())))
            for each in rows
        ]
        return Page(found, more=len(placed) > limit)

    def manifests(self, repository: RepositoryName, tags: Collection[Tag]) -> dict[Tag, ManifestRow]:
        """Return the manifests of those of *tags* that this registry has, as ``Manifests.peek``."""
        with self.state.catalog.read() as tx:
            return tx.manifests.tagged(repository, tags)

    def count(self) -> int:
        """Return the number of tags in this registry."""
        with self.state.catalog.read() as tx:
            return tx.tags.count()

    def pusher(self, repository: RepositoryName, tag: Tag) -> tuple[str | None, datetime] | None:
        """Return the User-Agent that pushed the tag, if known, and when; None: there is no such tag."""
        with self.state.catalog.read() as tx:
            return tx.tags.pusher(repository, tag)

    def record_pull(self, repository: RepositoryName, tag: Tag) -> None:
        """Record that the tag was pulled now; the catalog is updated a little later."""
        self.pulls.record(repository, tag)
        self.state.upstream.count_pull(repository, tag)

    def record_image_pull(self, repository: RepositoryName, image: ImageId | Digest) -> None:
        """Record that the tags that point at a manifest, or are seen as a V1 image, were pulled now.

        V1 clients choose a tag from a list, and ask for images by ID. Others, such as containerd, ask by HEAD
        what a tag points at, and then for the digest.
        """
        self.pulls.record_image(repository, image)

    def record_pushes(self, number: int) -> None:
        """Record that a client has pushed a number of tags now, as ``record_pull`` does."""
        if number:
            self.pulls.record_pushes(number)

    def delete(self, repository: RepositoryName, tag: Tag, condition: Precondition = UNCONDITIONAL) -> None:
        """Delete the tag; its manifest and other tags stay.

        Raises:
            RepositoryUnknown, TagUnknown, PreconditionFailed, TagImmutable.
        """
        upstream = self.state.upstream
        load_for_precondition(upstream, condition, repository, tag)
        available = upstream.has(repository, tag)
        with self.state.begin() as tx:
            # No push of the tag may be under way: its link file would go, and its row stay.
            row = tx.repositories.lock(repository, exclusive=True, absent=available)
            if row is None and not available:
                raise RepositoryUnknown(name=repository)
            policies = self.state.policies.of(tx, row)
            if policies.bound(repository, [tag]) and (available or (row and tx.tags.has_any(row.id, [tag]))):
                policies.require_movable(repository, [tag])
            check_precondition(tx, condition, repository, tag)
            if not (row and tx.tags.remove(row.id, tag)) and not available:
                raise TagUnknown(tag=tag)
            upstream.mark_deleted(tx, repository, [tag])
            self.state.links.remove_tags(repository, tag)

    def plan_deletion(self, repository: RepositoryName, tags: Collection[Tag]) -> Departure:
        """Return which of *tags* ``delete_several`` would delete, and why it would keep others.

        Raises:
            RepositoryUnknown.
        """
        return plan_deletion(self.state, repository, tags)

    def delete_several(self, repository: RepositoryName, tags: Collection[Tag]) -> Departure:
        """Delete those of *tags* that exist and are not immutable, all at once; manifests stay.

        Raises:
            ValueError: there are more than a transaction may delete.
            RepositoryUnknown.
        """
        return delete_tags(self.state, repository, tags)

    def clear(self, repository: RepositoryName) -> None:
        """Delete every tag of the repository; manifests and images stay.

        Raises:
            RepositoryUnknown: there is no such repository, or it has no tags.
            TagImmutable: one of them may not be deleted; none was.
        """
        clear_tags(self.state, repository)


def _require_few(tx: Transaction, repository: RepositoryRow, order: TagOrder, prefix: str) -> None:
    """Check that not too many tags are looked at for a page.

    Raises:
        TooManyToOrder.
    """
    limit = ORDER_LIMITS.get(order.key)
    if limit is not None and tx.tags.count_upto(repository.id, prefix, limit + 1) > limit:
        raise TooManyToOrder(
            f"{repository.name} has more than {limit} tags{f' that begin with {prefix}' if prefix else ''}, "
            f"too many to order by {order.key}: order them by name, or give a longer prefix"
        )


def _scans(tx: Transaction, repository: RepositoryRow, order: TagOrder, prefix: str) -> bool:
    """Return whether tags are looked at in order, since too many begin with *prefix* to sort all of these."""
    return (
        bool(prefix) and order.key == "pushed" and tx.tags.count_upto(repository.id, prefix, _FEW + 1) > _FEW
    )


def _newest(
    tx: Transaction,
    repository: RepositoryName,
    prefix: str,
    *,
    limit: int,
    after: tuple[datetime, str] | None,
    origins: AbstractSet[Origin],
) -> Page[TagRow]:
    """Return up to *limit* tags that start with *prefix*, newest first.

    No index covers both, so tags are scanned in the order of their pushes, a bounded number per request.
    """
    rows: list[TagRow] = []
    for _ in range(SCAN_LIMIT // _BATCH):
        batch = tx.tags.describe(
            repository, prefix="", newest_first=True, after=after, limit=_BATCH, origins=origins
        )
        rows += [row for row in batch if row.name.startswith(prefix)]
        if len(rows) > limit:
            return Page(rows[:limit], more=True)
        if len(batch) < _BATCH:
            return Page(rows, more=False)
        after = (batch[-1].pushed_at, batch[-1].name)
    return Page(rows, more=True, scanned_to=batch[-1])
