"""SQL of quotas: how much may be stored, and what has been counted.

A link counts for each quota whose pattern matches its repository, and a blob once for each quota. Who adds or
removes links has locked the rows of their blobs before, so nobody else counts the same blobs meanwhile.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    ScalarSelect,
    Select,
    String,
    and_,
    cast,
    delete,
    exists,
    func,
    literal,
    or_,
    select,
    type_coerce,
    update,
)
from sqlalchemy.orm import aliased

from dualreg.catalog.dialects import batches, insert, within
from dualreg.catalog.rows import QuotaRow
from dualreg.catalog.tables import (
    Blobs,
    ManifestChildren,
    ManifestViews,
    QuotaLinks,
    Quotas,
    QuotaUsage,
    Repositories,
    RepositoryBlobs,
    TranscodedLayers,
    V1Images,
)
from dualreg.catalog.views import V1
from dualreg.image.digest import Digest
from dualreg.patterns import Reach


@dataclass(frozen=True, slots=True)
class QuotaQueries:
    """The quotas, and what counts for them."""

    connection: Connection

    def list(self) -> Sequence[QuotaRow]:
        """Return the quotas, by pattern."""
        query = select(Quotas.pattern, Quotas.size, Quotas.soft, QuotaUsage.bytes)
        query = query.outerjoin(QuotaUsage, QuotaUsage.pattern == Quotas.pattern)
        return sorted((QuotaRow(*row) for row in self.connection.execute(query)), key=lambda row: row.pattern)

    def set(self, quota: QuotaRow) -> None:
        """Set a quota, after ``PolicyQueries.change``; a new one is to be counted by ``count``."""
        values = {"size": quota.size, "soft": quota.soft}
        row = insert(self.connection, Quotas).values(pattern=quota.pattern, **values)
        self.connection.execute(row.on_conflict_do_update(index_elements=[Quotas.pattern], set_=values))

    def remove(self, pattern: str) -> bool:
        """Remove a quota, after ``PolicyQueries.change``; return False if there is none."""
        for table in (QuotaLinks, QuotaUsage):
            self.connection.execute(delete(table).where(table.pattern == pattern))
        return self.connection.execute(delete(Quotas).where(Quotas.pattern == pattern)).rowcount > 0

    def count(self, pattern: str) -> int:
        """Count from scratch, after ``PolicyQueries.change``; return the bytes."""
        row = insert(self.connection, QuotaUsage).values(pattern=pattern, bytes=0)
        self.connection.execute(row.on_conflict_do_nothing())
        matching = select(Repositories.id).where(within(Repositories.name, Reach(((pattern,),))))
        link = RepositoryBlobs
        linked = exists().where(
            link.repository_id == QuotaLinks.repository_id, link.digest == QuotaLinks.digest
        )
        kept = linked & QuotaLinks.repository_id.in_(matching)
        self.connection.execute(delete(QuotaLinks).where(QuotaLinks.pattern == pattern, ~kept))
        pushed = select(literal(pattern, String), link.digest, link.repository_id).where(
            link.repository_id.in_(matching.where(Repositories.upstream.is_(None))), ~_is_derived()
        )
        added = insert(self.connection, QuotaLinks).from_select(
            ["pattern", "digest", "repository_id"], pushed
        )
        self.connection.execute(added.on_conflict_do_nothing())
        found = update(QuotaUsage).where(QuotaUsage.pattern == pattern).values(bytes=_counted(pattern))
        return int(self.connection.scalars(found.returning(QuotaUsage.bytes)).one())

    def counted(self, pattern: str) -> int:
        """Return the bytes of the blobs that count."""
        return int(self.connection.scalar(select(_counted(pattern))) or 0)

    def lock(self, patterns: Collection[str]) -> None:
        """Lock what is used of quotas, in the order in which ``add`` and ``drop`` change it."""
        for pattern in sorted(patterns):  # by the database, it would be that of its locale
            row = select(QuotaUsage.pattern).where(QuotaUsage.pattern == pattern)
            self.connection.execute(row.with_for_update(key_share=True))

    def add(
        self, patterns: Sequence[str], repository_id: int, digests: Collection[Digest]
    ) -> Mapping[str, tuple[int, Collection[Digest]]]:
        """Count links for quotas; return the bytes of those that have new ones, and of which blobs."""
        new = defaultdict[str, set[Digest]](set)
        for batch in batches(sorted((pattern, digest) for pattern in patterns for digest in digests), 200):
            rows = [
                {"pattern": pattern, "digest": digest, "repository_id": repository_id}
                for pattern, digest in batch
            ]
            added = insert(self.connection, QuotaLinks).values(rows).on_conflict_do_nothing()
            for pattern, digest in self.connection.execute(
                added.returning(QuotaLinks.pattern, QuotaLinks.digest)
            ):
                new[pattern].add(digest)
        return {
            pattern: (self._change(pattern, self._alone(pattern, repository_id, new[pattern])), new[pattern])
            for pattern in sorted(new)
        }

    def needed(self, pattern: str, repository_id: int, digests: Collection[Digest]) -> int:
        """Return by how many bytes ``add`` has just changed a quota for *digests*."""
        return int(self.connection.scalar(select(self._alone(pattern, repository_id, digests))) or 0)

    def drop(self, repository_id: int, digests: Collection[Digest]) -> None:
        """Count links no longer, which are gone."""
        gone = defaultdict[str, set[Digest]](set)
        for batch in batches(digests):
            found = delete(QuotaLinks).where(
                QuotaLinks.repository_id == repository_id, QuotaLinks.digest.in_(batch)
            )
            for pattern, digest in self.connection.execute(
                found.returning(QuotaLinks.pattern, QuotaLinks.digest)
            ):
                gone[pattern].add(digest)
        for pattern in sorted(gone):
            self._change(pattern, -self._alone(pattern, repository_id, gone[pattern]))

    def used(self, patterns: Collection[str], digest: Digest | None) -> Mapping[str, tuple[int, bool]]:
        """Return how many bytes quotas have, and whether a blob counts already."""
        counts = exists().where(QuotaLinks.pattern == QuotaUsage.pattern, QuotaLinks.digest == digest)
        known = counts if digest else literal(value=False)
        query = select(QuotaUsage.pattern, QuotaUsage.bytes, known).where(QuotaUsage.pattern.in_(patterns))
        return {row[0]: (row[1], bool(row[2])) for row in self.connection.execute(query)}

    def _alone(self, pattern: str, repository_id: int, digests: Collection[Digest]) -> ScalarSelect[Any]:
        """Return the bytes of those of *digests* that no other repository has within a quota."""
        other = exists().where(
            QuotaLinks.pattern == pattern,
            QuotaLinks.digest == Blobs.digest,
            QuotaLinks.repository_id != repository_id,
        )
        return _sum(select(Blobs.size).where(Blobs.digest.in_(digests), ~other))

    def _change(self, pattern: str, size: ColumnElement[Any]) -> int:
        more = update(QuotaUsage).where(QuotaUsage.pattern == pattern)
        changed = more.values(bytes=QuotaUsage.bytes + size).returning(QuotaUsage.bytes)
        return int(self.connection.scalars(changed).one())


def _sum(sizes: Select[int]) -> ScalarSelect[Any]:
    each = sizes.subquery()
    return select(cast(func.coalesce(func.sum(each.c.size), 0), BigInteger)).scalar_subquery()


def _counted(pattern: str) -> ScalarSelect[Any]:
    links = select(QuotaLinks.digest).where(QuotaLinks.pattern == pattern)
    return _sum(select(Blobs.size).where(Blobs.digest.in_(links)))


def _is_derived() -> ColumnElement[bool]:
    """Return the condition that a row of RepositoryBlobs is the link to what this registry has made.

    That is an edition, and what nothing names but editions and views for V1 clients.
    """
    link, child, view, image = RepositoryBlobs, ManifestChildren, ManifestViews, aliased(V1Images)
    text = type_coerce(child.manifest, String)
    made = (view.repository_id == link.repository_id) & (view.kind != V1)
    edition = exists().where(made, view.view == type_coerce(link.digest, String))
    by_edition = exists().where(made, view.view == text)
    named = and_(child.repository_id == link.repository_id, child.child == link.digest)
    seen = and_(image.complete, image.checksum.is_(None))
    own = image.repository_id == link.repository_id
    uses = or_(image.json == link.digest, image.layer == link.digest)
    is_needed = or_(exists().where(named, ~by_edition), exists().where(own, uses, ~seen))
    is_made = or_(
        exists().where(named, by_edition),
        exists().where(TranscodedLayers.digest == link.digest),
        exists().where(own, uses, seen),
    )
    return or_(edition, and_(is_made, ~is_needed))
