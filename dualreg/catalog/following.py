"""SQL of a follower: what it has recorded of a repository, and changes that leave sound content."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, delete, select, update

from dualreg.catalog.dialects import batches, insert_for
from dualreg.catalog.history import HistoryQueries
from dualreg.catalog.manifests import description
from dualreg.catalog.rebuilding import FoundBlob, FoundManifest, FoundTag, RebuildQueries
from dualreg.catalog.rows import BlobRow, Origin, V1ImageRow
from dualreg.catalog.tables import (
    Blobs,
    ManifestChildren,
    Manifests,
    ManifestViews,
    MissingChildren,
    Repositories,
    RepositoryBlobs,
    Table,
    Tags,
    V1Images,
)
from dualreg.image.digest import Digest
from dualreg.image.formats import Role
from dualreg.image.names import ImageId, RepositoryName, Tag


@dataclass(slots=True)
class RecordedManifest:
    """A manifest that is recorded.

    Attributes:
        at: When it was pushed.
        blobs: Its children but those below.
        entries: Manifests, or blobs, that it lists as an index.
        lacking: Entries that the repository does not have.
        views: What clients of another generation see it as, by kind; None: nothing.
        signed: The blob that is the manifest with its signatures.
    """

    at: datetime
    media_type: str
    blobs: set[Digest] = field(default_factory=set)
    entries: set[Digest] = field(default_factory=set)
    lacking: set[Digest] = field(default_factory=set)
    views: dict[str, str | None] = field(default_factory=dict)
    signed: Digest | None = None


@dataclass(frozen=True, slots=True)
class RecordedRepository:
    """What is recorded of a repository; *id* is None if it is not."""

    id: int | None = None
    links: frozenset[Digest] = frozenset()
    manifests: Mapping[Digest, RecordedManifest] = field(default_factory=dict)
    tags: Mapping[Tag, FoundTag] = field(default_factory=dict)
    images: Mapping[ImageId, V1ImageRow] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FollowingQueries:
    """What a follower has recorded, and changes of it."""

    connection: Connection
    now: datetime

    def names(self) -> frozenset[RepositoryName]:
        """Return the repositories that are recorded."""
        return frozenset(map(RepositoryName, self.connection.scalars(select(Repositories.name))))

    def blobs(self, page: int) -> Iterator[BlobRow]:
        """Yield the blobs that are recorded, *page* rows in memory at a time."""
        query = select(Blobs.digest, Blobs.size).order_by(Blobs.digest)
        with self.connection.execute(query, execution_options={"yield_per": page}) as rows:
            for digest, size in rows:
                yield BlobRow(digest, size)

    def linking(self, digests: Collection[Digest]) -> frozenset[RepositoryName]:
        """Return the repositories that may read any of *digests*."""
        query = select(Repositories.name).join(
            RepositoryBlobs, RepositoryBlobs.repository_id == Repositories.id
        )
        return frozenset(
            RepositoryName(name)
            for batch in batches(digests)
            for name in self.connection.scalars(query.where(RepositoryBlobs.digest.in_(batch)).distinct())
        )

    def recorded(self, name: RepositoryName) -> RecordedRepository:
        """Return what is recorded of a repository."""
        id_ = self.connection.scalar(select(Repositories.id).where(Repositories.name == name))
        if id_ is None:
            return RecordedRepository()
        links = select(RepositoryBlobs.digest).where(RepositoryBlobs.repository_id == id_)
        return RecordedRepository(
            id_,
            frozenset(self.connection.scalars(links)),
            self._manifests(id_),
            {row.name: row for row in self._tags(id_)},
            {row.id: row for row in self._images(id_)},
        )

    def _manifests(self, id_: int) -> Mapping[Digest, RecordedManifest]:
        query = select(Manifests.digest, Manifests.pushed_at, Manifests.media_type)
        own = self.connection.execute(query.where(Manifests.repository_id == id_))
        found = {digest: RecordedManifest(at, media_type) for digest, at, media_type in own}
        children = select(ManifestChildren.manifest, ManifestChildren.child, ManifestChildren.role)
        for manifest, child, role in self.connection.execute(
            children.where(ManifestChildren.repository_id == id_)
        ):
            if role == Role.SIGNED:
                found[manifest].signed = child
            (found[manifest].entries if role == Role.MANIFEST else found[manifest].blobs).add(child)
        missing = select(MissingChildren.manifest, MissingChildren.child)
        for manifest, child in self.connection.execute(missing.where(MissingChildren.repository_id == id_)):
            found[manifest].lacking.add(child)
        views = select(ManifestViews.manifest, ManifestViews.kind, ManifestViews.view)
        for manifest, kind, view in self.connection.execute(views.where(ManifestViews.repository_id == id_)):
            found[manifest].views[kind] = view
        return found

    def _tags(self, id_: int) -> Iterator[FoundTag]:
        query = select(Tags.name, Tags.manifest, Tags.updated_at, Tags.origin, Tags.agent)
        for name, manifest, at, origin, agent in self.connection.execute(
            query.where(Tags.repository_id == id_)
        ):
            yield FoundTag(Tag(name), manifest, at, Origin(origin), agent)

    def _images(self, id_: int) -> Iterator[V1ImageRow]:
        columns = (
            "image_id",
            "parent_id",
            "json",
            "layer",
            "diff_id",
            "checksum",
            "tarsum",
            "tarsum_verified",
        )
        query = select(*(V1Images.__table__.c[each] for each in columns)).where(V1Images.repository_id == id_)
        for row in self.connection.execute(query):
            yield V1ImageRow(
                id_,
                ImageId(row.image_id),
                row.parent_id and ImageId(row.parent_id),
                row.json,
                row.layer,
                None,
                row.diff_id,
                row.checksum,
                complete=True,
                tarsum=row.tarsum,
                tarsum_verified=row.tarsum_verified,
            )

    def add_blobs(self, blobs: Iterable[FoundBlob]) -> None:
        """Record blobs, or the sizes that they have now; what was damaged was replaced."""
        if rows := [blob.row() for blob in blobs]:
            insert = insert_for(self.connection.dialect.name, Blobs)
            found = {"size": insert.excluded.size, "condemned_at": None, "damaged_at": None}
            differs = (Blobs.size != insert.excluded.size) | Blobs.damaged_at.is_not(None)
            again = insert.on_conflict_do_update(index_elements=[Blobs.digest], set_=found, where=differs)
            self.connection.execute(again, rows)

    def add_manifests(self, repository_id: int, manifests: Collection[FoundManifest]) -> None:
        """Record manifests, in place of what was known of them; they must be linked, as what they name."""
        digests = [each.manifest.digest for each in manifests]
        self._remove(ManifestChildren, "manifest", repository_id, digests)
        self._remove(MissingChildren, "manifest", repository_id, digests)
        RebuildQueries(self.connection).add_manifests(repository_id, manifests)
        for each in manifests:
            own = (Manifests.repository_id == repository_id) & (Manifests.digest == each.manifest.digest)
            changed = description(each.manifest) | {"pushed_at": each.at}
            self.connection.execute(update(Manifests).where(own).values(changed))

    def put_views(self, repository_id: int, views: Iterable[tuple[Digest, str, str]]) -> None:
        """Record what manifests are seen as, given with the kind, in place of earlier views."""
        rows = [
            {"repository_id": repository_id, "manifest": manifest, "kind": kind, "view": view}
            for manifest, kind, view in views
        ]
        if rows:
            insert = insert_for(self.connection.dialect.name, ManifestViews)
            columns = [ManifestViews.repository_id, ManifestViews.manifest, ManifestViews.kind]
            seen = {"view": insert.excluded["view"]}
            self.connection.execute(insert.on_conflict_do_update(index_elements=columns, set_=seen), rows)

    def forget_views(self, repository_id: int, views: Iterable[tuple[Digest, str]]) -> None:
        """Forget what manifests are seen as, given with the kind."""
        for manifest, kind in views:
            own = (ManifestViews.repository_id == repository_id) & (ManifestViews.manifest == manifest)
            self.connection.execute(delete(ManifestViews).where(own, ManifestViews.kind == kind))

    def put_tags(self, repository_id: int, tags: Iterable[FoundTag]) -> None:
        """Record tags, or where they point now; when they were pulled stays."""
        found = [*tags]
        if rows := [tag.row(repository_id) for tag in found]:
            targets = [(tag.name, tag.manifest, tag.origin) for tag in found]
            HistoryQueries(self.connection, self.now).moved(repository_id, targets)
            insert = insert_for(self.connection.dialect.name, Tags)
            moved = {key: insert.excluded[key] for key in ("manifest", "updated_at", "origin", "agent")}
            columns = [Tags.repository_id, Tags.name]
            self.connection.execute(insert.on_conflict_do_update(index_elements=columns, set_=moved), rows)

    def remove_tags(self, repository_id: int, tags: Collection[Tag]) -> None:
        """Remove tags."""
        HistoryQueries(self.connection, self.now).removed(repository_id, tags)
        self._remove(Tags, "name", repository_id, tags)

    def remove_manifests(self, repository_id: int, digests: Collection[Digest]) -> None:
        """Remove manifests, which no tag may point at."""
        self._remove(Manifests, "digest", repository_id, digests)

    def remove_images(self, repository_id: int, images: Collection[ImageId]) -> None:
        """Remove V1 images."""
        self._remove(V1Images, "image_id", repository_id, images)

    def remove_links(self, repository_id: int, digests: Collection[Digest]) -> None:
        """Let a repository no longer read blobs, which nothing in it may use."""
        self._remove(RepositoryBlobs, "digest", repository_id, digests)

    def remove_repository(self, repository_id: int) -> None:
        """Remove a repository, which must be empty."""
        self.connection.execute(delete(Repositories).where(Repositories.id == repository_id))

    def _remove(self, table: type[Table], key: str, repository_id: int, values: Collection[object]) -> None:
        columns = table.__table__.c
        for batch in batches(values):
            own = (columns.repository_id == repository_id) & columns[key].in_(batch)
            self.connection.execute(delete(table).where(own))
