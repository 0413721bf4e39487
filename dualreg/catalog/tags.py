"""SQL of tags."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    bindparam,
    delete,
    literal_column,
    select,
    true,
    tuple_,
    update,
)

from dualreg.catalog.dialects import insert
from dualreg.catalog.rows import ORIGINS, Origin, TagRow
from dualreg.catalog.tables import Blobs, Manifests, Repositories, Tags
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag


@dataclass(frozen=True, slots=True)
class TagQueries:
    """Which tag points at which manifest."""

    connection: Connection
    now: datetime

    def point(
        self, repository_id: int, tags: Sequence[Tag], manifest: Digest, origin: Origin = Origin.V2
    ) -> None:
        """Make every one of *tags* point at the manifest, which the repository must hold."""
        values = {
            "repository_id": repository_id,
            "manifest": manifest,
            "updated_at": self.now,
            "origin": origin,
        }
        rows = [values | {"name": tag} for tag in tags]
        row = insert(self.connection, Tags)
        moved = {name: row.excluded[name] for name in ("manifest", "updated_at", "origin")}
        statement = row.on_conflict_do_update(index_elements=[Tags.repository_id, Tags.name], set_=moved)
        if rows:
            self.connection.execute(statement, rows)

    def list(
        self,
        repository: RepositoryName,
        *,
        last: str,
        limit: int | None,
        origins: Collection[Origin] = ORIGINS,
    ) -> tuple[Tag, ...] | None:
        """Return up to *limit* tags after *last*, in byte order; None if there is no such repository."""
        after = (Tags.repository_id == Repositories.id) & (Tags.name > last) & _of(origins)
        query = select(Tags.name).select_from(Repositories).outerjoin(Tags, after)
        query = query.where(Repositories.name == repository).order_by(Tags.name).limit(limit)
        names = self.connection.scalars(query).all()
        return tuple(Tag(name) for name in names if name is not None) if names else None

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
        """Return up to *limit* tags that begin with *prefix*, with what they point at.

        Args:
            newest_first: By the time of the last push, newest first; else by name.
            after: Push time and name of the last tag seen; by name, only the name counts.
        """
        query = _described().where(Repositories.name == repository, _of(origins)).limit(limit)
        if prefix:
            # Newest first, the index of push times has the order and the names: one of names alone would find
            # every tag of a common prefix and sort them. It is not used for what is no mere column.
            name = Tags.name.concat(literal_column("''")) if newest_first else Tags.name
            # Tags are ASCII, so the range ends before the next character after the prefix's last.
            query = query.where(name >= prefix, name < prefix[:-1] + chr(ord(prefix[-1]) + 1))
        if newest_first:
            query = query.order_by(Tags.updated_at.desc(), Tags.name.desc())
            place, types = tuple_(Tags.updated_at, Tags.name), [Tags.updated_at.type, Tags.name.type]
            query = query.where(place < tuple_(*after, types=types)) if after else query
        else:
            query = query.order_by(Tags.name)
            query = query.where(Tags.name > after[1]) if after else query
        return tuple(
            TagRow(Tag(row[0]), *row[1:-1], Origin(row[-1])) for row in self.connection.execute(query)
        )

    def touch(self, pulls: Mapping[tuple[RepositoryName, Tag], datetime]) -> None:
        """Record when tags were last pulled."""
        owner = select(Repositories.id).where(Repositories.name == bindparam("repository")).scalar_subquery()
        here = (Tags.repository_id == owner) & (Tags.name == bindparam("tag"))
        rows = [
            {"repository": repository, "tag": tag, "instant": instant}
            for (repository, tag), instant in pulls.items()
        ]
        self.connection.execute(update(Tags).where(here).values(pulled_at=bindparam("instant")), rows)

    def pointing_at(self, repository_id: int, manifest: Digest) -> tuple[Tag, ...]:
        """Return the tags that point at the manifest."""
        query = select(Tags.name).where(Tags.repository_id == repository_id, Tags.manifest == manifest)
        return tuple(Tag(name) for name in self.connection.scalars(query))

    def remove(self, repository_id: int, tag: Tag) -> bool:
        """Forget the tag; tell whether it was there."""
        query = delete(Tags).where(Tags.repository_id == repository_id, Tags.name == tag)
        return self.connection.execute(query).rowcount > 0

    def clear(self, repository_id: int) -> tuple[Tag, ...]:
        """Forget every tag of the repository, and return them."""
        query = delete(Tags).where(Tags.repository_id == repository_id).returning(Tags.name)
        return tuple(Tag(name) for name in self.connection.scalars(query))


def _of(origins: Collection[Origin]) -> ColumnElement[bool]:
    """Return the condition of tags that one of *origins* pointed; nothing to look at if all are wanted."""
    return true() if len(origins) == len(ORIGINS) else Tags.origin.in_(sorted(origins))


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
        .join(Repositories, Repositories.id == Tags.repository_id)
        .join(Manifests, manifest)
        .join(Blobs, Blobs.digest == Tags.manifest)
    )
