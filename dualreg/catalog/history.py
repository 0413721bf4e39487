"""SQL of the history of tags: a row for each move and deletion, in the transaction that makes it.

Whatever changes tags calls ``moved`` or ``removed`` before. Both find out by themselves what tags point at,
so a push asks nothing else. The caller holds what keeps others from changing the same tags.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Insert,
    Select,
    bindparam,
    case,
    delete,
    func,
    insert,
    null,
    select,
    tuple_,
)
from sqlalchemy.orm import aliased

from dualreg.acting import Api, actor
from dualreg.catalog import prepared
from dualreg.catalog.dialects import batches, within
from dualreg.catalog.moves import EVERY_MOVE, HistoryPlace, HistoryRow, WantedMoves
from dualreg.catalog.rows import ORIGINS, Origin
from dualreg.catalog.tables import (
    Blobs,
    Manifests,
    Repositories,
    TagHistory,
    Tags,
    Webhooks,
    WebhookStates,
)
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.patterns import Reach

#: A column, or what stands in its place.
_Column = Any
_COLUMNS = ("repository", "tag", "at", "actor", "api", "old", "new", "origin", "media_type", "size")


@dataclass(frozen=True, slots=True)
class HistoryQueries:
    """What tags pointed at."""

    connection: Connection
    now: datetime

    def moved(self, repository_id: int, targets: Iterable[tuple[Tag, Digest, Origin]]) -> None:
        """Record that tags are about to point at manifests, which are in the repository, unless they do."""
        rows = [
            {"moved_in": repository_id, "moved_tag": tag, "target": digest, "pushed_over": origin}
            | self._act()
            for tag, digest, origin in sorted(targets)
        ]
        if rows:
            prepared.change_all(self.connection, _moved(), rows)

    def created(self, repository_id: int, tags: Collection[Tag]) -> None:
        """Record that tags were just created, many at once."""
        for batch in batches(tags):
            self._record(repository_id, batch, old=null(), new=Tags.manifest)

    def removed(self, repository_id: int, tags: Collection[Tag]) -> None:
        """Record that those of *tags* that exist are about to be deleted."""
        for batch in batches(tags):
            self._record(repository_id, batch, old=Tags.manifest, new=null())

    def _record(self, repository_id: int, tags: Sequence[Tag], *, old: _Column, new: _Column) -> None:
        own = (Tags.repository_id == repository_id) & Tags.name.in_(tags)
        query = _rows(Tags.name, old, new, Tags.origin).join(Tags, _pointed()).where(own).order_by(Tags.name)
        self.connection.execute(_insert(query), self._act())

    def _act(self) -> dict[str, object]:
        by = actor()
        return {"acted_at": self.now, "acted_by": by.name, "acted_over": by.api}

    def page(
        self,
        repository: RepositoryName,
        tag: Tag,
        *,
        limit: int,
        after: HistoryPlace | None = None,
        wanted: WantedMoves = EVERY_MOVE,
    ) -> Sequence[HistoryRow]:
        """Return up to *limit* rows of a tag that are *wanted*, of any digest, newest first.

        Args:
            after: The last row of the page before.
        """
        before, since, _, origins = wanted
        row = TagHistory
        query = select(row.__table__).where(row.repository == repository, row.tag == tag)
        # One upper bound, and one lower: with two, SQLite searches by one and scans up to the other.
        place, types = tuple_(row.at, row.id), [row.at.type, row.id.type]
        if after and (before is None or after.at < before):
            query = query.where(place < tuple_(*after, types=types))
        elif before:
            query = query.where(row.at < before)
        query = query.where(row.at > since) if since else query
        query = query if len(origins) == len(ORIGINS) else query.where(row.origin.in_(sorted(origins)))
        query = query.order_by(row.at.desc(), row.id.desc()).limit(limit)
        return [HistoryRow.of(each) for each in self.connection.execute(query)]

    def last_over_v1(self, scanned: int) -> tuple[datetime | None, datetime | None, int]:
        """Return when a V1 client last moved a tag, of the last *scanned* moves.

        Return also when the first of these was, and how many there are; None: there is none.
        """
        row = TagHistory
        last = select(row.at, row.api).order_by(row.id.desc()).limit(scanned).subquery("last")
        query = select(func.max(case((last.c.api == Api.V1, last.c.at))), func.min(last.c.at), func.count())
        found, first, count = self.connection.execute(query.select_from(last)).one()
        return found, first, count

    def recent(self, reach: Reach, limit: int, scanned: int) -> Sequence[HistoryRow]:
        """Return up to *limit* of the last *scanned* rows, those of repositories in *reach*, newest first."""
        last = aliased(
            TagHistory, select(TagHistory).order_by(TagHistory.id.desc()).limit(scanned).subquery("last")
        )
        columns = [getattr(last, each.name) for each in TagHistory.__table__.columns]
        query = select(*columns).where(within(last.repository, reach))
        rows = self.connection.execute(query.order_by(last.id.desc()).limit(limit))
        return [HistoryRow.of(each) for each in rows]

    def at(self, repository: RepositoryName, tag: Tag, instant: datetime) -> HistoryRow | None:
        """Return the last row of a tag up to an instant, that included; None if there is none."""
        row = TagHistory
        query = select(row.__table__).where(row.repository == repository, row.tag == tag, row.at <= instant)
        found = self.connection.execute(query.order_by(row.at.desc(), row.id.desc()).limit(1)).one_or_none()
        return None if found is None else HistoryRow.of(found)

    def origin(self, repository: RepositoryName, tag: Tag, digest: Digest) -> Origin | None:
        """Return the origin that the tag had when it last pointed at a manifest, or that of another tag.

        None: it is not known.
        """
        row = TagHistory
        query = select(row.origin).where(row.repository == repository, row.tag == tag)
        moved = query.where(func.coalesce(row.new, row.old) == digest)
        moved = moved.order_by(row.at.desc(), row.id.desc()).limit(1)
        tagged = (
            select(Tags.origin)
            .join(Repositories, Repositories.id == Tags.repository_id)
            .where(Repositories.name == repository, Tags.manifest == digest)
            .limit(1)
        )
        found = self.connection.scalar(moved) or self.connection.scalar(tagged)
        return None if found is None else Origin(found)

    def forget(self, repository: RepositoryName, tag: Tag | None, limit: int) -> tuple[int, set[Digest]]:
        """Delete up to *limit* rows of a tag; None: of all. Return how many, and the manifests in them.

        What webhooks have not looked at stays.
        """
        row, unread = TagHistory, self._unread()
        query = select(row.id, row.old, row.new).where(row.repository == repository)
        query = query if unread is None else query.where(row.id <= unread)
        found = self.connection.execute(
            (query if tag is None else query.where(row.tag == tag)).limit(limit)
        ).all()
        self.connection.execute(delete(row).where(row.id.in_([each[0] for each in found])))
        return len(found), {digest for each in found for digest in each[1:] if digest}

    def count(self, repository: RepositoryName) -> int:
        """Return how many rows there are of all tags of a repository."""
        query = select(func.count()).select_from(TagHistory).where(TagHistory.repository == repository)
        return self.connection.scalar(query) or 0

    def named(self, repository: RepositoryName, manifests: Collection[Digest]) -> frozenset[Digest]:
        """Return those of *manifests* that a tag has pointed at, and does not any longer."""
        query = select(TagHistory.old).where(TagHistory.repository == repository).distinct()
        return frozenset(
            digest
            for batch in batches(manifests)
            for digest in self.connection.scalars(query.where(TagHistory.old.in_(batch)))
            if digest
        )

    def trim(self, before: datetime, limit: int) -> int:
        """Delete up to *limit* of the oldest rows, those of *before* or earlier; return how many.

        What webhooks have not looked at stays; so does the last row, by which a copy in another database
        goes on with its numbers.
        """
        last = self.connection.scalar(select(func.max(TagHistory.id))) or 0
        unread = self._unread()
        upto = last - 1 if unread is None else min(unread, last - 1)
        oldest = select(TagHistory.id, TagHistory.at).where(TagHistory.id <= upto)
        rows = self.connection.execute(oldest.order_by(TagHistory.id).limit(limit))
        ids = [id_ for id_, at in rows if at <= before]
        if ids:
            self.connection.execute(delete(TagHistory).where(TagHistory.id.in_(ids)))
        return len(ids)

    def _unread(self) -> int | None:
        """Return the last row that all webhooks have looked at; None: there are no webhooks."""
        known = WebhookStates.webhook.in_(select(Webhooks.name))
        return self.connection.scalar(select(func.min(WebhookStates.position)).where(known))


def _pointed() -> ColumnElement[bool]:
    """Return the condition that a tag points at the manifest."""
    return (Tags.repository_id == Manifests.repository_id) & (Tags.manifest == Manifests.digest)


def _rows(tag: _Column, old: _Column, new: _Column, origin: _Column) -> Select[*tuple[Any, ...]]:
    """Return the query of new rows, of manifests with their repositories.

    Rows of a tag are in the order of their times, although of two transactions the one that began later may
    change it first: the time of a row is not before that of the row before.
    """
    last = aliased(TagHistory)
    newest = (
        select(func.max(last.at, type_=last.at.type))
        .where(last.repository == Repositories.name, last.tag == tag)
        .correlate_except(last)
        .scalar_subquery()
    )
    now = bindparam("acted_at", type_=TagHistory.at.type)
    return (
        select(
            Repositories.name,
            tag,
            case((newest > now, newest), else_=now),
            bindparam("acted_by", type_=TagHistory.actor.type),
            bindparam("acted_over", type_=TagHistory.api.type),
            old,
            new,
            origin,
            Manifests.media_type,
            Blobs.size,
        )
        .select_from(Manifests)
        .join(Repositories, Repositories.id == Manifests.repository_id)
        .join(Blobs, Blobs.digest == Manifests.digest)
    )


def _insert(query: Select[*tuple[Any, ...]]) -> Insert:
    return insert(TagHistory).from_select(_COLUMNS, query)


@cache
def _moved() -> Insert:
    """Return the statement of ``moved``, cached: building it takes longer than executing it."""
    tag = bindparam("moved_tag", type_=TagHistory.tag.type)
    target = bindparam("target", type_=TagHistory.new.type)
    origin = bindparam("pushed_over", type_=TagHistory.origin.type)
    own = (Manifests.repository_id == bindparam("moved_in")) & (Manifests.digest == target)
    named = (Tags.repository_id == Manifests.repository_id) & (Tags.name == tag)
    query = _rows(tag, Tags.manifest, Manifests.digest, origin).outerjoin(Tags, named)
    return _insert(query.where(own, Tags.manifest.is_(None) | (Tags.manifest != target)))
