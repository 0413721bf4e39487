"""SQL of manifests and their children."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Connection, Select, bindparam, delete, exists, null, select, update

from dualreg.catalog import prepared
from dualreg.catalog.blobs import REFERRERS_LIMIT
from dualreg.catalog.candidates import named_by, note
from dualreg.catalog.dialects import batches, insert, insert_for
from dualreg.catalog.rows import BlobRow, ManifestRow, Origin
from dualreg.catalog.tables import (
    Blobs,
    ManifestChildren,
    Manifests,
    ManifestViews,
    MissingChildren,
    Repositories,
    RepositoryBlobs,
    Tags,
)
from dualreg.image.digest import Digest
from dualreg.image.formats import FORMATS, Child, Role
from dualreg.image.manifest import Manifest
from dualreg.image.names import RepositoryName, Tag


@dataclass(frozen=True, slots=True)
class ManifestQueries:
    """The manifests of repositories, and what they name."""

    connection: Connection
    now: datetime

    def record(self, repository_id: int, manifest: Manifest, at: datetime | None = None) -> bool:
        """Add *manifest*, whose payload must be linked, to the repository; return False if it has it.

        Args:
            at: When it was pushed; None: now.
        """
        row = {"repository_id": repository_id, "digest": manifest.digest, "pushed_at": at or self.now}
        statement = _record(self.connection.dialect.name)
        return prepared.row(self.connection, statement, row | description(manifest)) is not None

    def redescribe(self, repository_id: int, manifest: Manifest) -> bool:
        """Record that the same bytes are now of another media type, unless only the known one says more.

        A view of it that is None is deleted, because there may be one now. Return whether anything changed.
        """
        differs = Manifests.media_type != manifest.media_type
        if manifest.subject:
            differs |= Manifests.subject.is_(None)  # a release that could not read it stored the manifest
        here = (Manifests.repository_id == repository_id) & (Manifests.digest == manifest.digest)
        changed = here & differs
        if manifest.media_type not in FORMATS:
            changed &= Manifests.media_type.not_in(FORMATS)
        described = update(Manifests).where(changed).values(description(manifest))
        is_other = self.connection.execute(described).rowcount > 0
        if is_other:
            unusable = delete(ManifestViews).where(
                ManifestViews.repository_id == repository_id,
                ManifestViews.manifest == manifest.digest,
                ManifestViews.view.is_(None),
            )
            self.connection.execute(unusable)
        return is_other

    def record_missing(self, repository_id: int, manifest: Manifest, missing: Iterable[Child]) -> None:
        """Record the children that are not in the repository."""
        places = manifest.positions()
        rows = [
            {
                "repository_id": repository_id,
                "manifest": manifest.digest,
                "child": child.descriptor.digest,
                "role": child.role,
                "position": places[child.key],
            }
            for child in missing
        ]
        if rows:
            self.connection.execute(insert(self.connection, MissingChildren).on_conflict_do_nothing(), rows)

    def awaits_any(self, repository_id: int) -> bool:
        """Return whether a manifest of the repository names what is not there."""
        query = select(MissingChildren.child).where(MissingChildren.repository_id == repository_id)
        return self.connection.scalar(query.limit(1)) is not None

    def missing(
        self, repositories: Collection[int], manifests: Collection[Digest]
    ) -> dict[tuple[int, Digest], set[Digest]]:
        """Return what *manifests* name and lack in *repositories*, by both; a page of either at most."""
        query = select(MissingChildren.repository_id, MissingChildren.manifest, MissingChildren.child)
        there = MissingChildren.repository_id.in_(repositories) & MissingChildren.manifest.in_(manifests)
        found = dict[tuple[int, Digest], set[Digest]]()
        for repository, manifest, child in self.connection.execute(query.where(there)):
            found.setdefault((repository, manifest), set()).add(child)
        return found

    def resolve_missing(self, repository_id: int, child: Digest) -> None:
        """Record the manifest or blob *child*, now that it is there, as a child of all that name it.

        Views of these that are None are deleted, because there may be one now.
        """
        rows = prepared.rows(self.connection, _waiting(), {"repository": repository_id, "named": child})
        found = {"repository_id": repository_id, "child": child}
        children = [
            found | {"manifest": manifest, "role": role, "position": position}
            for manifest, role, position in rows
        ]
        if not children:
            return
        self.connection.execute(insert(self.connection, ManifestChildren).on_conflict_do_nothing(), children)
        unusable = delete(ManifestViews).where(
            ManifestViews.repository_id == repository_id, ManifestViews.view.is_(None)
        )
        for batch in batches(row["manifest"] for row in children):
            self.connection.execute(unusable.where(ManifestViews.manifest.in_(batch)))

    def record_children(self, repository_id: int, manifest: Manifest, children: Iterable[Child]) -> None:
        """Record the children of the manifest that are in the repository, each once."""
        places = manifest.positions()
        rows = [
            {
                "repository_id": repository_id,
                "manifest": manifest.digest,
                "child": child.descriptor.digest,
                "role": child.role,
                "position": places[child.key],
            }
            for child in children
        ]
        if rows:
            prepared.change_all(self.connection, _record_children(self.connection.dialect.name), rows)

    def record_signed(self, repository_id: int, manifest: Digest, signed: Digest) -> None:
        """Record the blob that is the manifest with its signatures, in place of an earlier one."""
        earlier = (
            (ManifestChildren.repository_id == repository_id)
            & (ManifestChildren.manifest == manifest)
            & (ManifestChildren.role == Role.SIGNED)
        )
        note(self.connection, self.now, repository_id, select(ManifestChildren.child).where(earlier))
        self.connection.execute(delete(ManifestChildren).where(earlier))
        row = insert(self.connection, ManifestChildren).values(
            repository_id=repository_id, manifest=manifest, child=signed, role=Role.SIGNED, position=0
        )
        self.connection.execute(row)

    def signed(self, repository_id: int, manifest: Digest) -> BlobRow | None:
        """Return the blob that is the manifest with its signatures, or None if there is none."""
        values = {"repository": repository_id, "manifest": manifest}
        row = self.connection.execute(_signed(), values).one_or_none()
        return None if row is None else BlobRow(*row)

    def find(self, repository: RepositoryName, reference: Tag | Digest) -> ManifestRow | None:
        """Return the manifest that *reference* names, or None if there is none."""
        query = _by_digest() if isinstance(reference, Digest) else _by_tag()
        values = {"repository": repository, "reference": reference}
        row = prepared.row(self.connection, query, values)
        return _found(*row) if row else None

    def find_all(self, repository: RepositoryName, digests: Collection[Digest]) -> dict[Digest, ManifestRow]:
        """Return those of *digests* that are manifests of the repository, as ``find`` does."""
        return {
            row[1]: ManifestRow(row[0], row[1], row[2], row[3])
            for batch in batches(digests)
            for row in self.connection.execute(_among(), {"repository": repository, "digests": batch})
        }

    def tagged(self, repository: RepositoryName, tags: Collection[Tag]) -> dict[Tag, ManifestRow]:
        """Return the manifests of those of *tags* that exist, as ``find`` does."""
        return {
            Tag(row[-1]): _found(*row[:-1])
            for batch in batches(tags)
            for row in self.connection.execute(_tagged(), {"repository": repository, "tags": batch})
        }

    def lacking(self, repository: RepositoryName, manifest: Digest, roles: Collection[Role]) -> list[Digest]:
        """Return the children of a manifest in some *roles* that are not in the repository, in order."""
        query = select(MissingChildren.child).join(
            Repositories, Repositories.id == MissingChildren.repository_id
        )
        query = query.where(Repositories.name == repository, MissingChildren.manifest == manifest)
        query = query.where(MissingChildren.role.in_(sorted(roles))).order_by(MissingChildren.position)
        return [*self.connection.scalars(query)]

    def awaiting(self, repository: RepositoryName, child: Digest) -> list[ManifestRow]:
        """Return indexes of the repository that name the manifest *child*, which it lacks; some if many."""
        waiting = (MissingChildren.repository_id == Manifests.repository_id) & (
            MissingChildren.manifest == Manifests.digest
        )
        query = _manifests().join(MissingChildren, waiting)
        query = query.where(MissingChildren.child == child, MissingChildren.role == Role.MANIFEST)
        found = self.connection.execute(query.limit(REFERRERS_LIMIT), {"repository": repository})
        return [ManifestRow(*row) for row in found]

    def lock_existing(self, repository_id: int, digests: Collection[Digest]) -> frozenset[Digest]:
        """Return those of *digests* that are manifests of the repository, locked against deletion."""
        query = select(Manifests.digest).where(Manifests.repository_id == repository_id)
        query = query.with_for_update(read=True, key_share=True)
        return frozenset(
            digest
            for batch in batches(digests)
            for digest in self.connection.scalars(query.where(Manifests.digest.in_(batch)))
        )

    def lock_view(self, repository_id: int, digest: Digest) -> bool:
        """Lock the manifest against deletion, and others who record its view; return whether it exists."""
        here = (Manifests.repository_id == repository_id) & (Manifests.digest == digest)
        query = select(Manifests.digest).where(here).with_for_update(key_share=True)
        return self.connection.scalar(query) is not None

    def lock(self, repository_id: int, digest: Digest) -> bool:
        """Lock the manifest against new uses until the transaction ends; return whether it exists."""
        values = {"repository": repository_id, "digest": digest}
        return self.connection.scalar(_lock(), values) is not None

    def graph(self, repository: RepositoryName, digest: Digest) -> tuple[BlobRow, ...]:
        """Return the manifest and its descendants that are in the repository, in any order."""
        values = {"repository": repository, "digest": digest}
        return tuple(BlobRow(*row) for row in self.connection.execute(_graph(), values))

    def parents(self, repository_id: int, digest: Digest) -> tuple[Digest, ...]:
        """Return the manifests of the repository that name the manifest *digest*; not all if many."""
        # With a column that is not in the primary key, SQLite finds them by child, not among all there are.
        query = select(ManifestChildren.manifest, ManifestChildren.position).where(
            ManifestChildren.repository_id == repository_id, ManifestChildren.child == digest
        )
        return tuple(dict.fromkeys(self.connection.scalars(query.limit(REFERRERS_LIMIT))))

    def is_named(self, repository: RepositoryName, digest: Digest) -> bool:
        """Return whether a manifest of the repository names the manifest *digest*, as an index does."""
        owner = select(Repositories.id).where(Repositories.name == repository).scalar_subquery()
        query = select(ManifestChildren.child).where(
            ManifestChildren.repository_id == owner, ManifestChildren.child == digest
        )
        return self.connection.scalar(query.limit(1)) is not None

    def remove(self, repository_id: int, *digests: Digest) -> dict[Digest, list[str]]:
        """Delete the manifests with their tags, children and views; return the kinds of views of each."""
        removed: dict[Digest, list[str]] = {digest: [] for digest in digests}
        views = select(ManifestViews.manifest, ManifestViews.kind).where(
            ManifestViews.repository_id == repository_id, ManifestViews.manifest.in_(digests)
        )
        for manifest, kind in self.connection.execute(views):
            removed[manifest].append(kind)
        note(self.connection, self.now, repository_id, *digests, *named_by(repository_id, digests))
        query = delete(Manifests).where(
            Manifests.repository_id == repository_id, Manifests.digest.in_(digests)
        )
        self.connection.execute(query)
        return removed

    def uppermost(
        self, repository_id: int, limit: int, *, among: Collection[Digest] | None = None
    ) -> tuple[Digest, ...]:
        """Return up to *limit* manifests, of *among* or of all, that no other one of the repository names."""
        above = (ManifestChildren.repository_id == repository_id) & (
            ManifestChildren.child == Manifests.digest
        )
        query = select(Manifests.digest).where(
            Manifests.repository_id == repository_id, ~exists().where(above)
        )
        query = query if among is None else query.where(Manifests.digest.in_(among))
        return tuple(self.connection.scalars(query.limit(limit)))


def description(manifest: Manifest) -> dict[str, object]:
    """Return the columns that follow from the media type that a manifest is pushed with."""
    return {
        "media_type": manifest.media_type,
        "subject": manifest.subject and manifest.subject.digest,
        "artifact_type": manifest.artifact_type,
        "annotations": dict(manifest.annotations),
    }


@cache
def _record(dialect: str) -> Any:  # noqa: ANN401 -- see insert_for
    """Return the statement of ``record``, cached: building it takes longer than executing it."""
    return insert_for(dialect, Manifests).on_conflict_do_nothing().returning(Manifests.digest)


@cache
def _record_children(dialect: str) -> Any:  # noqa: ANN401 -- see insert_for
    return insert_for(dialect, ManifestChildren).on_conflict_do_nothing()


@cache
def _signed() -> Select[Digest, int]:
    children = ManifestChildren
    own = (children.repository_id == bindparam("repository")) & (children.manifest == bindparam("manifest"))
    query = select(Blobs.digest, Blobs.size).join(children, children.child == Blobs.digest)
    return query.where(own, children.role == Role.SIGNED)


@cache
def _lock() -> Select[Digest]:
    own = Manifests.repository_id == bindparam("repository")
    return select(Manifests.digest).where(own, Manifests.digest == bindparam("digest")).with_for_update()


@cache
def _waiting() -> Any:  # noqa: ANN401 -- a DELETE with RETURNING
    own = MissingChildren.repository_id == bindparam("repository")
    waiting = delete(MissingChildren).where(own, MissingChildren.child == bindparam("named"))
    return waiting.returning(MissingChildren.manifest, MissingChildren.role, MissingChildren.position)


def _found(
    repository_id: int,
    digest: Digest,
    media_type: str,
    size: int,
    origin: str | None,
    *times: datetime | None,
) -> ManifestRow:
    """Return the row of what was found by ``_by_digest`` or ``_of_tags``."""
    return ManifestRow(
        repository_id, digest, media_type, size, None if origin is None else Origin(origin), *times
    )


@cache
def _by_digest() -> Select[int, Digest, str, int, str | None, datetime | None, datetime | None]:
    """Return the statement of ``find``, cached: building it takes longer than executing it."""
    link = (RepositoryBlobs.repository_id == Manifests.repository_id) & (
        RepositoryBlobs.digest == Manifests.digest
    )
    query = _manifests().add_columns(null(), RepositoryBlobs.candidate_since, null())
    query = query.join(RepositoryBlobs, link)
    return query.where(Manifests.digest == bindparam("reference"))


@cache
def _among() -> Select[int, Digest, str, int]:
    return _manifests().where(Manifests.digest.in_(bindparam("digests", expanding=True)))


@cache
def _by_tag() -> Select[int, Digest, str, int, str | None, datetime | None, datetime | None]:
    return _of_tags().where(Tags.name == bindparam("reference"))


@cache
def _tagged() -> Select[int, Digest, str, int, str | None, datetime | None, datetime | None, str]:
    among = Tags.name.in_(bindparam("tags", expanding=True))
    return _of_tags().add_columns(Tags.name).where(among)


def _of_tags() -> Select[int, Digest, str, int, str | None, datetime | None, datetime | None]:
    tagged = (Tags.repository_id == Manifests.repository_id) & (Tags.manifest == Manifests.digest)
    return _manifests().add_columns(Tags.origin, null(), Tags.checked_at).join(Tags, tagged)


@cache
def _graph() -> Select[Digest, int]:
    owner = select(Repositories.id).where(Repositories.name == bindparam("repository")).scalar_subquery()
    begin = select(Manifests.digest).where(
        Manifests.repository_id == owner, Manifests.digest == bindparam("digest")
    )
    found = begin.cte("found", recursive=True)
    further = select(ManifestChildren.child).where(
        ManifestChildren.repository_id == owner, ManifestChildren.manifest == found.c.digest
    )
    found = found.union(further)
    return select(Blobs.digest, Blobs.size).join(found, found.c.digest == Blobs.digest)


def _manifests() -> Select[int, Digest, str, int]:
    return (
        select(Manifests.repository_id, Manifests.digest, Manifests.media_type, Blobs.size)
        .join(Repositories, Repositories.id == Manifests.repository_id)
        .join(Blobs, Blobs.digest == Manifests.digest)
        .where(Repositories.name == bindparam("repository"))
    )
