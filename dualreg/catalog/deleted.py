"""What was deleted and can be restored: rows are copied before they go, with all that they name.

The bytes stay in the store, since the garbage collection leaves out the blobs for which ``is_kept`` holds.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, case, exists, func, literal, select

from dualreg.catalog.dialects import batches, insert
from dualreg.catalog.rows import RepositoryRow
from dualreg.catalog.tables import (
    Blobs,
    DeletedBlobs,
    DeletedImages,
    DeletedManifests,
    ManifestChildren,
    Manifests,
    ManifestViews,
    TagHistory,
    V1Images,
)
from dualreg.catalog.views import V1
from dualreg.image.digest import Digest
from dualreg.image.formats import Role
from dualreg.image.names import ImageId

#: The role of a manifest, or of the JSON of a V1 image, to itself; and that of the layer of a V1 image.
DOCUMENT, LAYER = "document", "layer"
#: Manifests that a statement records.
_BATCH = 200
#: Columns of V1 images that are copied.
IMAGE_COLUMNS = ("image_id", "parent_id", "json", "layer", "diff_id", "checksum", "tarsum", "tarsum_verified")


class DeletedManifest(NamedTuple):
    """A manifest that was deleted.

    Attributes:
        v1_view: The V1 image, pushed by a client, that it was made of.
    """

    digest: Digest
    media_type: str
    subject: Digest | None
    v1_view: ImageId | None
    pushed_at: datetime
    deleted_at: datetime


class DeletedImage(NamedTuple):
    """A V1 image of a deleted manifest; *layer_size* in bytes."""

    id: ImageId
    parent: ImageId | None
    json: Digest
    layer: Digest
    diff_id: Digest
    checksum: Digest | None
    tarsum: str | None
    tarsum_verified: bool | None
    layer_size: int


class Part(NamedTuple):
    """A blob that a deleted manifest or V1 image, the *owner*, consists of."""

    owner: str
    role: str
    digest: Digest


class KeptBytes(NamedTuple):
    """Blobs that no repository has, and that are kept to be restored; *last* was the last of them deleted."""

    blobs: int
    bytes: int
    last: datetime | None


def is_kept(since: datetime | None = None) -> ColumnElement[bool]:
    """Return the condition that a row of Blobs is part of what was deleted after *since*; None: ever."""
    part = exists().where(DeletedBlobs.digest == Blobs.digest)
    return part if since is None else part.where(DeletedBlobs.deleted_at > since)


def record(
    connection: Connection, repository: RepositoryRow, manifests: Collection[Digest], at: datetime
) -> None:
    """Record manifests that are deleted *at* a time, before they are, with what they consist of.

    And the V1 images that clients pushed and see them as, with their ancestors.
    """
    for batch in batches(manifests, _BATCH):
        _record_manifests(connection, repository, batch, at)
        _record_images(connection, repository, batch, at)


def _record_manifests(
    connection: Connection, repository: RepositoryRow, batch: Sequence[Digest], at: datetime
) -> None:
    here, name = Manifests.repository_id == repository.id, literal(repository.name)
    seen = (ManifestViews.repository_id == repository.id) & (ManifestViews.kind == V1)
    pushed = (V1Images.repository_id == repository.id) & V1Images.checksum.is_not(None)
    rows = (
        select(
            name,
            Manifests.digest,
            Manifests.media_type,
            Manifests.subject,
            V1Images.image_id,
            Manifests.pushed_at,
            _instant(at),
        )
        .outerjoin(ManifestViews, seen & (ManifestViews.manifest == Manifests.digest))
        .outerjoin(V1Images, pushed & (V1Images.image_id == ManifestViews.view))
        .where(here, Manifests.digest.in_(batch))
    )
    columns = ("repository", "digest", "media_type", "subject", "v1_view", "pushed_at", "deleted_at")
    _put(connection, DeletedManifests, columns, rows)
    child = ManifestChildren
    own = (child.repository_id == repository.id) & child.manifest.in_(batch)
    parts = (
        select(name, child.manifest, child.child, child.role, _instant(at)).where(own),
        select(name, Manifests.digest, Manifests.digest, literal(DOCUMENT), _instant(at)).where(
            here, Manifests.digest.in_(batch)
        ),
    )
    for query in parts:
        _put(connection, DeletedBlobs, ("repository", "owner", "digest", "role", "deleted_at"), query)


def _record_images(
    connection: Connection, repository: RepositoryRow, batch: Sequence[Digest], at: datetime
) -> None:
    deleted = DeletedManifests
    tops = select(deleted.v1_view).where(
        deleted.repository == repository.name, deleted.digest.in_(batch), deleted.v1_view.is_not(None)
    )
    if connection.scalar(tops.limit(1)) is None:
        return
    here, name = V1Images.repository_id == repository.id, literal(repository.name)
    image = select(V1Images.image_id, V1Images.parent_id).where(here, V1Images.complete)
    chain = image.where(V1Images.image_id.in_(tops)).cte("chain", recursive=True)
    chain = chain.union(image.join(chain, V1Images.image_id == chain.c.parent_id))
    found = here & V1Images.image_id.in_(select(chain.c.image_id)) & V1Images.layer.is_not(None)
    columns = [getattr(V1Images, each) for each in IMAGE_COLUMNS]
    rows = select(name, *columns, _instant(at)).where(found)
    _put(connection, DeletedImages, ("repository", *IMAGE_COLUMNS, "deleted_at"), rows)
    for role, column in ((DOCUMENT, V1Images.json), (LAYER, V1Images.layer)):
        parts = select(name, V1Images.image_id, column, literal(role), _instant(at)).where(found)
        _put(connection, DeletedBlobs, ("repository", "owner", "digest", "role", "deleted_at"), parts)


def _put(connection: Connection, table: Any, columns: Sequence[str], rows: Select[*tuple[Any, ...]]) -> None:  # noqa: ANN401 -- one of the tables of what was deleted
    """Add rows, in place of those of the same key."""
    added = insert(connection, table).from_select(columns, rows)
    keys = [key.name for key in table.__table__.primary_key]
    values = {each: added.excluded[each] for each in columns if each not in keys}
    # What several manifests need was deleted with the last one of them.
    latest = added.excluded.deleted_at > table.deleted_at
    values["deleted_at"] = case((latest, added.excluded.deleted_at), else_=table.deleted_at)
    connection.execute(added.on_conflict_do_update(index_elements=keys, set_=values))


def left_at(
    connection: Connection, repository: RepositoryRow, manifests: Collection[Digest], since: datetime
) -> Mapping[Digest, datetime]:
    """Return when something that can be restored needed *manifests* last, after *since*.

    That is a tag that pointed at one of them, a deleted manifest that names it, or its deleted subject.
    """
    history, part, deleted = TagHistory, DeletedBlobs, DeletedManifests
    tagged = select(history.old, func.max(history.at, type_=history.at.type)).where(
        history.repository == repository.name, history.old.in_(manifests), history.at > since
    )
    named = select(part.digest, func.max(part.deleted_at, type_=part.deleted_at.type)).where(
        part.repository == repository.name,
        part.digest.in_(manifests),
        part.role == Role.MANIFEST,
        part.deleted_at > since,
    )
    about = (
        select(Manifests.digest, deleted.deleted_at)
        .join(deleted, (deleted.repository == repository.name) & (deleted.digest == Manifests.subject))
        .where(Manifests.repository_id == repository.id, Manifests.digest.in_(manifests))
        .where(deleted.deleted_at > since)
    )
    found = dict[Digest, datetime]()
    for query in (tagged.group_by(history.old), named.group_by(part.digest), about):
        for digest, at in connection.execute(query):
            if digest:
                found[digest] = max(at, found.get(digest, at))
    return found


def _instant(at: datetime) -> ColumnElement[datetime]:
    return literal(at, DeletedManifests.deleted_at.type)
