"""SQL of tags."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Update,
    bindparam,
    delete,
    func,
    select,
    true,
    tuple_,
    update,
)

from dualreg.catalog import prepared
from dualreg.catalog.blobs import REFERRERS_LIMIT
from dualreg.catalog.candidates import note, noted, noting
from dualreg.catalog.dialects import batches, insert_for, lock_names
from dualreg.catalog.history import HistoryQueries
from dualreg.catalog.orders import OrderedTags, TagOrder, TagPlace
from dualreg.catalog.rows import ORIGINS, Origin, PlacedTag, TagRow
from dualreg.catalog.tables import Blobs, ManifestChildren, Manifests, ManifestViews, Repositories, Tags
from dualreg.catalog.tag_details import Named, named
from dualreg.catalog.tag_orders import count_upto, end_of, places
from dualreg.catalog.views import V1
from dualreg.image.digest import Digest
from dualreg.image.names import ImageId, RepositoryName, Tag


@dataclass(frozen=True, slots=True)
class TagQueries:
    """The tags of repositories, and the manifests that they point at."""

    connection: Connection
    now: datetime

    def leave(self, repository_id: int, tags: Collection[Tag], manifest: Digest) -> tuple[Digest, ...]:
        """Lock *tags* against others that point them; return the manifests that they leave for *manifest*.

        The caller notes these by ``GarbageQueries.note``, in order with the blobs that it links, since two
        that exchange tags would wait for each other in a circle.
        """
        if not tags:
            return ()
        lock_names(self.connection, [f"{repository_id}:{tag}" for tag in tags])
        named = prepared.listed("tag", [*tags])
        moved = {"noted_in": repository_id, "target": manifest, **named}
        return tuple(row[0] for row in prepared.rows(self.connection, _moved(len(named)), moved))

    def point(
        self,
        repository_id: int,
        tags: Sequence[Tag],
        manifest: Digest,
        origin: Origin = Origin.V2,
        *,
        at: datetime | None = None,
        agent: str = "",
        note_left: bool = True,
    ) -> None:
        """Create *tags*, or move them, to point at the manifest, which must be in the repository.

        Their history gets a row for each that did not point at it before.

        Args:
            origin: The generation of the client that pushes them.
            at: The time of the push; None: now.
            agent: The ``User-Agent`` of the client, if it is to be recorded.
            note_left: Note what they leave, unless the caller has, by ``leave``.
        """
        values = {
            "repository_id": repository_id,
            "manifest": manifest,
            "updated_at": at or self.now,
            "origin": origin,
            "agent": agent or None,
        }
        rows = [values | {"name": tag} for tag in sorted(tags)]  # the order in which all lock tags
        if rows and note_left:
            named = prepared.listed("tag", tags)
            moved = noted(repository_id, self.now, target=manifest, **named)
            prepared.change(self.connection, _noting_moved(len(named)), moved)
        if rows:
            targets = [(tag, manifest, origin) for tag in tags]
            HistoryQueries(self.connection, self.now).moved(repository_id, targets)
            prepared.change_all(self.connection, _point(self.connection.dialect.name), rows)

    def confirm(self, repository_id: int, tags: Collection[Tag]) -> None:
        """Record that upstream was asked about tags just now."""
        own = (Tags.repository_id == repository_id) & Tags.name.in_(tags)
        self.connection.execute(update(Tags).where(own).values(checked_at=self.now))

    def has_any(self, repository_id: int, tags: Collection[Tag]) -> bool:
        """Return whether the repository has one of *tags*."""
        own = Tags.repository_id == repository_id
        found = (
            self.connection.scalar(select(Tags.name).where(own, Tags.name.in_(batch)).limit(1))
            for batch in batches(tags)
        )
        return any(each is not None for each in found)

    def among(self, repository_id: int, tags: Collection[Tag]) -> dict[Tag, Digest]:
        """Return what those of *tags* point at that exist, by name."""
        query = select(Tags.name, Tags.manifest).where(Tags.repository_id == repository_id)
        return {
            Tag(name): digest
            for batch in batches(tags)
            for name, digest in self.connection.execute(query.where(Tags.name.in_(batch)))
        }

    def elsewhere(self, repository_id: int, tags: Collection[Tag], manifest: Digest) -> frozenset[Tag]:
        """Return those of *tags* that point at another manifest."""
        own = (Tags.repository_id == repository_id) & (Tags.manifest != manifest)
        return frozenset(
            Tag(name)
            for batch in batches(tags)
            for name in self.connection.scalars(select(Tags.name).where(own, Tags.name.in_(batch)))
        )

    def list(
        self,
        repository: RepositoryName,
        *,
        last: str,
        limit: int | None,
        origins: Collection[Origin] = ORIGINS,
    ) -> tuple[Tag, ...] | None:
        """Return up to *limit* tags after *last*, in byte order; None if the repository does not exist.

        Args:
            limit: None: all.
            origins: Only tags of these origins.
        """
        query = select(Tags.name).where(_in(repository), Tags.name > last, _of(origins))
        names = self.connection.scalars(query.order_by(Tags.name).limit(limit)).all()
        known = select(Repositories.id).where(Repositories.name == repository)
        return tuple(map(Tag, names)) if names or self.connection.scalar(known) is not None else None

    def describe(
        self,
        repository: RepositoryName,
        *,
        prefix: str,
        newest_first: bool,
        after: tuple[datetime, str] | None,
        limit: int,
        origins: Collection[Origin] = ORIGINS,
    ) -> tuple[TagRow, ...]:
        """Return up to *limit* tags with the manifests that they point at.

        Args:
            prefix: Only tags with this prefix. Ignored if *newest_first*, for which there is no index.
            newest_first: Order by the time of the last push, newest first; else by name.
            after: The time of the push and the name of the last tag seen; by name, only the name is used.
            origins: Only tags of these origins.
        """
        query = _described().where(_in(repository), _of(origins)).limit(limit)
        if newest_first:
            query = query.order_by(Tags.updated_at.desc(), Tags.name.desc())
            place, types = tuple_(Tags.updated_at, Tags.name), [Tags.updated_at.type, Tags.name.type]
            query = query.where(place < tuple_(*after, types=types)) if after else query
        else:
            # A single lower bound: with two, SQLite searches by one and scans up to the other.
            passed = after is not None and after[1] >= prefix
            query = query.where(Tags.name > after[1] if after and passed else Tags.name >= prefix)
            query = query.where(Tags.name < end_of(prefix)) if prefix else query
            query = query.order_by(Tags.name)
        return tuple(_tag_row(row) for row in self.connection.execute(query))

    def ordered(
        self,
        repository_id: int,
        order: TagOrder,
        *,
        prefix: str = "",
        after: TagPlace | None = None,
        scan: int | None = None,
        limit: int,
    ) -> OrderedTags:
        """Return up to *limit* tags in an order; see ``tag_orders.places``.

        Args:
            scan: By push: look at so many tags of the repository, of which some begin with *prefix*.
        """
        found, until = places(
            self.connection, repository_id, order, prefix=prefix, after=after, scan=scan, limit=limit + 1
        )
        more, found = len(found) > limit, found[:limit]
        end = until if until and not more else found[-1] if found else None
        query = _described().where(Tags.repository_id == repository_id)
        rows = {
            row[0]: _tag_row(row)
            for batch in batches(place.name for place in found)
            for row in self.connection.execute(query.where(Tags.name.in_(batch)))
        }
        listed = [rows[place.name] for place in found if place.name in rows]
        return OrderedTags(listed, end, more or until is not None)

    def count_upto(self, repository_id: int, prefix: str, limit: int) -> int:
        """Return how many tags of a repository begin with *prefix*, but no more than *limit*."""
        return count_upto(self.connection, repository_id, prefix, limit)

    def named(self, repository_id: int, manifests: Collection[Digest]) -> dict[Digest, Named]:
        """Return what leads to some manifests, and is about them; see ``tag_details.named``."""
        return named(self.connection, repository_id, manifests)

    def every(self, after: tuple[str, str], limit: int) -> tuple[PlacedTag, ...]:
        """Return up to *limit* tags of all repositories, by the names of repository and tag.

        Args:
            after: The repository and the name of the last tag seen.
        """
        query = _described().add_columns(Repositories.id, Repositories.name)
        query = query.join(Repositories, Repositories.id == Tags.repository_id)
        rest = query.where(Repositories.name == after[0], Tags.name > after[1]).order_by(Tags.name)
        rows = [*self.connection.execute(rest.limit(limit))]
        if len(rows) < limit:
            others = query.where(Repositories.name > after[0]).order_by(Repositories.name, Tags.name)
            rows += self.connection.execute(others.limit(limit - len(rows)))
        return tuple(PlacedTag(row[-2], RepositoryName(row[-1]), _tag_row(row)) for row in rows)

    def count(self) -> int:
        """Return the number of tags."""
        return self.connection.scalar(select(func.count()).select_from(Tags)) or 0

    def pusher(self, repository: RepositoryName, tag: Tag) -> tuple[str | None, datetime] | None:
        """Return the ``User-Agent`` that pushed the tag, if known, and the time; None if there is no tag."""
        row = self.connection.execute(
            select(Tags.agent, Tags.updated_at).where(_in(repository), Tags.name == tag)
        ).one_or_none()
        return None if row is None else (row[0], row[1])

    def record_pulls(self, pulls: Mapping[tuple[RepositoryName, Tag], datetime]) -> None:
        """Record when tags were last pulled. Tags that do not exist any more are skipped."""
        owner = select(Repositories.id).where(Repositories.name == bindparam("repository")).scalar_subquery()
        pulled = (Tags.repository_id == owner) & (Tags.name == bindparam("tag"))
        rows = [
            {"repository": repository, "tag": tag, "instant": instant}
            for (repository, tag), instant in sorted(pulls.items())
        ]
        self.connection.execute(update(Tags).where(pulled).values(pulled_at=bindparam("instant")), rows)

    def seen_as(self, repository: RepositoryName, image: ImageId | Digest) -> tuple[Tag, ...]:
        """Return the tags that point at a manifest, or that V1 clients see as an image, in any order."""
        if isinstance(image, Digest):
            named = select(Tags.name).where(_in(repository), Tags.manifest == image)
            return tuple(Tag(name) for name in self.connection.scalars(named))
        view = (ManifestViews.repository_id == Tags.repository_id) & (ManifestViews.manifest == Tags.manifest)
        query = select(Tags.name).join(ManifestViews, view)
        query = query.where(_in(repository), ManifestViews.kind == V1, ManifestViews.view == image)
        return tuple(Tag(name) for name in self.connection.scalars(query))

    def pointing_at(self, repository_id: int, manifest: Digest, limit: int | None = None) -> tuple[Tag, ...]:
        """Return the tags that point at the manifest, or up to *limit* of them, in any order."""
        query = select(Tags.name).where(Tags.repository_id == repository_id, Tags.manifest == manifest)
        query = query.limit(limit)
        return tuple(Tag(name) for name in self.connection.scalars(query))

    def leading_to(self, repository_id: int, manifests: Collection[str]) -> tuple[Tag, ...]:
        """Return the tags of *manifests* (in wire form) and of indexes that name these; not all if many."""
        digests = [Digest.parse(each) for each in manifests]
        # As ``ManifestQueries.parents``.
        indexes = select(ManifestChildren.manifest, ManifestChildren.position).where(
            ManifestChildren.repository_id == repository_id, ManifestChildren.child.in_(digests)
        )
        digests += self.connection.scalars(indexes.limit(REFERRERS_LIMIT))
        query = select(Tags.name).where(Tags.repository_id == repository_id, Tags.manifest.in_(digests))
        return tuple(sorted(map(Tag, self.connection.scalars(query.limit(REFERRERS_LIMIT)))))

    def remove(self, repository_id: int, *tags: Tag) -> bool:
        """Delete the tags; return whether there was one. Their history gets a row for each."""
        HistoryQueries(self.connection, self.now).removed(repository_id, tags)
        going = (Tags.repository_id == repository_id) & Tags.name.in_(tags)
        note(self.connection, self.now, repository_id, select(Tags.manifest).where(going))
        locked = select(Tags.name).where(going).order_by(Tags.name).with_for_update()
        gone = delete(Tags).where(Tags.repository_id == repository_id, Tags.name.in_(locked))
        return self.connection.execute(gone).rowcount > 0

    def clear(self, repository_id: int, limit: int) -> tuple[Tag, ...]:
        """Delete up to *limit* tags of the repository, and return them."""
        query = select(Tags.name).where(Tags.repository_id == repository_id).limit(limit)
        tags = tuple(map(Tag, self.connection.scalars(query)))
        if tags:
            self.remove(repository_id, *tags)
        return tags


@cache
def _point(dialect: str) -> Any:  # noqa: ANN401 -- see insert_for
    """Return the statement of ``point``, cached: building it takes longer than executing it."""
    row = insert_for(dialect, Tags)
    moved = {name: row.excluded[name] for name in ("manifest", "updated_at", "origin", "agent")}
    return row.on_conflict_do_update(index_elements=[Tags.repository_id, Tags.name], set_=moved)


@cache
def _noting_moved(count: int) -> Update:
    """Return the statement that notes the manifests which ``point`` moves tags away from."""
    return noting(_moved(count))


@cache
def _moved(count: int) -> Select[Digest]:
    """Return the statement of ``leave``, cached: building it takes longer than executing it."""
    elsewhere = prepared.among(Tags.name, "tag", count) & (Tags.manifest != bindparam("target"))
    return select(Tags.manifest).where(Tags.repository_id == bindparam("noted_in"), elsewhere)


def _in(repository: RepositoryName) -> ColumnElement[bool]:
    """Return the condition that a tag is in the repository.

    With a join, PostgreSQL does not see that an index has the tags of the repository in order.
    """
    return (
        Tags.repository_id == select(Repositories.id).where(Repositories.name == repository).scalar_subquery()
    )


def _of(origins: Collection[Origin]) -> ColumnElement[bool]:
    """Return the condition that a tag has one of *origins*; a constant if these are all."""
    return true() if len(origins) == len(ORIGINS) else Tags.origin.in_(sorted(origins))


def _tag_row(row: Any) -> TagRow:  # noqa: ANN401 -- of ``_described``
    name, digest, media_type, size, pushed_at, pulled_at, origin = row[:7]
    return TagRow(Tag(name), digest, media_type, size, pushed_at, pulled_at, Origin(origin))


def _described() -> Select[str, Digest, str, int, datetime, datetime | None, str]:
    manifest = (Manifests.repository_id == Tags.repository_id) & (Manifests.digest == Tags.manifest)
    return (
        select(
            Tags.name,
            Tags.manifest,
            Manifests.media_type,
            Blobs.size,
            Tags.updated_at,
            Tags.pulled_at,
            Tags.origin,
        )
        .join(Manifests, manifest)
        .join(Blobs, Blobs.digest == Tags.manifest)
    )
