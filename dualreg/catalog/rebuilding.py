"""SQL of a rebuild, and of imports: many rows at once, of content that is known to be complete.

Every method may be repeated: rows that exist stay as they are.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Connection, delete, exists, select, update
from sqlalchemy.orm import aliased

from dualreg.catalog.dialects import batches, insert_for
from dualreg.catalog.manifests import description
from dualreg.catalog.rows import Origin, V1ImageRow
from dualreg.catalog.tables import (
    Blobs,
    ManifestChildren,
    Manifests,
    ManifestViews,
    MissingChildren,
    QuotaUsage,
    Repositories,
    RepositoryBlobs,
    Table,
    Tags,
    Uploads,
    V1Images,
    V1SentLayers,
)
from dualreg.catalog.views import V1
from dualreg.image.digest import Digest
from dualreg.image.formats import Child, Role
from dualreg.image.manifest import Manifest
from dualreg.image.names import ImageId, RepositoryName, Tag


@dataclass(frozen=True, slots=True)
class FoundBlob:
    """Bytes in the store; *size* in bytes, *at*: since when."""

    digest: Digest
    size: int
    at: datetime

    def row(self) -> dict[str, Any]:
        """Return the row of ``Blobs``; it counts as verified when it arrived."""
        return {"digest": self.digest, "size": self.size, "created_at": self.at, "verified_at": self.at}


@dataclass(frozen=True, slots=True)
class FoundManifest:
    """A manifest of a repository.

    Attributes:
        at: When it was first pushed.
        held: Its children that are in the repository.
        missing: Its entries, of an index, that are not.
        signed: The blob that is the manifest with its signatures.
        views: What clients of another generation see it as, by kind.
    """

    manifest: Manifest
    at: datetime
    held: Sequence[Child]
    missing: Sequence[Child]
    signed: Digest | None
    views: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class FoundTag:
    """A tag of a repository."""

    name: Tag
    manifest: Digest
    at: datetime
    origin: Origin
    agent: str | None

    def row(self, repository_id: int) -> dict[str, Any]:
        """Return the row of ``Tags``."""
        return {
            "repository_id": repository_id,
            "name": self.name,
            "manifest": self.manifest,
            "updated_at": self.at,
            "origin": self.origin,
            "agent": self.agent,
        }


@dataclass(frozen=True, slots=True)
class RebuildQueries:
    """Records content that is in the store, in batches."""

    connection: Connection

    def wait_for_disk(self) -> None:
        """Let this transaction be durable on PostgreSQL when it is committed, after ``Catalog.hasten``."""
        if self.connection.dialect.name == "postgresql":
            self.connection.exec_driver_sql("SET LOCAL synchronous_commit = on")

    def clear(self) -> None:
        """Delete all repositories and blobs with whatever depends on them; accounts and notes stay."""
        tables = (
            QuotaUsage,
            Uploads,
            V1SentLayers,
            V1Images,
            Manifests,
            RepositoryBlobs,
            Repositories,
            Blobs,
        )
        for table in tables:
            self.connection.execute(delete(table))

    def add_blobs(self, blobs: Iterable[FoundBlob]) -> None:
        """Record blobs."""
        self._add(Blobs, (blob.row() for blob in blobs))

    def repository(self, name: RepositoryName, at: datetime) -> int:
        """Return the ID of a repository, which exists since *at* at the latest."""
        self._add(Repositories, [{"name": name, "created_at": at}])
        found = Repositories.name == name
        later = update(Repositories).where(found, Repositories.created_at > at)
        self.connection.execute(later.values(created_at=at))
        return self.connection.execute(select(Repositories.id).where(found)).scalar_one()

    def link(self, repository_id: int, links: Mapping[Digest, datetime]) -> frozenset[Digest]:
        """Let the repository read blobs, since the times given; return those that are not recorded."""
        query = select(Blobs.digest)
        known = frozenset(
            digest
            for batch in batches(links)
            for digest in self.connection.scalars(query.where(Blobs.digest.in_(batch)))
        )
        rows = (
            {"repository_id": repository_id, "digest": digest, "linked_at": at}
            for digest, at in links.items()
            if digest in known
        )
        self._add(RepositoryBlobs, rows)
        return frozenset(links) - known

    def add_v1_images(self, images: Iterable[V1ImageRow]) -> None:
        """Record V1 images, whose blobs must be linked to the repository."""
        self._add(V1Images, (image.columns() for image in images))

    def remove_orphans(self, repository_id: int) -> tuple[ImageId, ...]:
        """Delete the V1 images whose parents do not exist, and return them; others may then have none."""
        above = aliased(V1Images)
        parents = select(above.image_id).where(above.repository_id == repository_id)
        orphaned = (V1Images.repository_id == repository_id) & V1Images.parent_id.not_in(parents)
        query = delete(V1Images).where(orphaned).returning(V1Images.image_id)
        return tuple(map(ImageId, self.connection.scalars(query)))

    def known_images(self, repository_id: int, images: Collection[str]) -> frozenset[str]:
        """Return which of *images* are V1 images of the repository."""
        query = select(V1Images.image_id).where(V1Images.repository_id == repository_id)
        return frozenset(
            image
            for batch in batches(images)
            for image in self.connection.scalars(query.where(V1Images.image_id.in_(batch)))
        )

    def unseen_images(self, repository_id: int) -> Sequence[ImageId]:
        """Return the V1 images that clients pushed and no manifest is seen as, if a manifest has no view."""
        views = select(ManifestViews.manifest).where(
            ManifestViews.repository_id == repository_id, ManifestViews.kind == V1
        )
        unseen = select(Manifests.digest).where(
            Manifests.repository_id == repository_id, Manifests.digest.not_in(views)
        )
        seen = select(ManifestViews.view).where(
            ManifestViews.repository_id == repository_id, ManifestViews.kind == V1
        )
        pushed = select(V1Images.image_id).where(
            V1Images.repository_id == repository_id, V1Images.checksum.is_not(None)
        )
        query = pushed.where(exists(unseen), V1Images.image_id.not_in(seen)).order_by(V1Images.image_id)
        return [ImageId(image) for image in self.connection.scalars(query)]

    def add_manifests(self, repository_id: int, manifests: Collection[FoundManifest]) -> None:
        """Record manifests, which must be linked to the repository, with their children and views."""
        own = {"repository_id": repository_id}
        self._add(
            Manifests,
            (
                own | {"digest": each.manifest.digest, "pushed_at": each.at} | description(each.manifest)
                for each in manifests
            ),
        )
        self._add(ManifestChildren, (own | row for each in manifests for row in _children(each)))
        self._add(MissingChildren, (own | row for each in manifests for row in _missing(each)))
        self._add(
            ManifestViews,
            (
                own | {"manifest": each.manifest.digest, "kind": kind, "view": view}
                for each in manifests
                for kind, view in each.views.items()
            ),
        )

    def entries_without_manifest(self, repository_id: int) -> Mapping[Digest, datetime]:
        """Return what indexes list and the repository may read, but not as a manifest; and since when."""
        listed = exists().where(
            ManifestChildren.repository_id == repository_id,
            ManifestChildren.child == RepositoryBlobs.digest,
            ManifestChildren.role == Role.MANIFEST,
        )
        known = exists().where(
            Manifests.repository_id == repository_id, Manifests.digest == RepositoryBlobs.digest
        )
        query = select(RepositoryBlobs.digest, RepositoryBlobs.linked_at)
        query = query.where(RepositoryBlobs.repository_id == repository_id, listed, ~known)
        return {row.digest: row.linked_at for row in self.connection.execute(query)}

    def add_tags(self, repository_id: int, tags: Iterable[FoundTag]) -> None:
        """Record tags, whose manifests must be recorded."""
        self._add(Tags, (tag.row(repository_id) for tag in tags))

    def _add(self, table: type[Table], rows: Iterable[Mapping[str, Any]]) -> None:
        if found := [*rows]:
            self.connection.execute(_adding(self.connection.dialect.name, table), found)


@cache
def _adding(dialect: str, table: type[Table]) -> Any:  # noqa: ANN401 -- see insert_for
    """Return the statement that adds rows, cached: building it takes longer than a few rows."""
    return insert_for(dialect, table).on_conflict_do_nothing()


def _children(found: FoundManifest) -> Iterable[dict[str, Any]]:
    places = found.manifest.positions()
    for child in found.held:
        row = {"child": child.descriptor.digest, "role": child.role, "position": places[child.key]}
        yield row | {"manifest": found.manifest.digest}
    if found.signed:
        row = {"child": found.signed, "role": Role.SIGNED, "position": 0}
        yield row | {"manifest": found.manifest.digest}


def _missing(found: FoundManifest) -> Iterable[dict[str, Any]]:
    places = found.manifest.positions()
    for child in found.missing:
        row = {"child": child.descriptor.digest, "role": child.role, "position": places[child.key]}
        yield row | {"manifest": found.manifest.digest}
