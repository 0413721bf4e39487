"""SQL of what link files say: the rows of one repository, a number of them after a key at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, Select, select

from dualreg.catalog.rows import Origin
from dualreg.catalog.tables import Manifests, ManifestViews, RepositoryBlobs, Tags, V1Images
from dualreg.image.digest import Digest
from dualreg.image.names import ImageId, Tag

#: Rows that are returned at a time.
_BATCH = 200


class LinkedManifest(NamedTuple):
    """A manifest as link files describe it; *views* are by kind."""

    digest: Digest
    media_type: str
    at: datetime
    views: dict[str, str]


class LinkedImage(NamedTuple):
    """A complete V1 image, and whether its TarSum was compared with the layer."""

    id: ImageId
    is_verified: bool


class LinkedTag(NamedTuple):
    """A tag as link files describe it."""

    name: Tag
    manifest: Digest
    at: datetime
    origin: Origin
    agent: str | None


@dataclass(frozen=True, slots=True)
class LinkingQueries:
    """The rows of a repository that have link files, ordered by their keys."""

    connection: Connection

    def blobs(self, repository_id: int, after: Digest | None) -> Sequence[tuple[Digest, datetime]]:
        """Return some blobs after a digest, and since when the repository may read them."""
        columns = select(RepositoryBlobs.digest, RepositoryBlobs.linked_at)
        columns = columns.where(RepositoryBlobs.repository_id == repository_id)
        rows = self._page(columns, RepositoryBlobs.__table__.c.digest, after)
        return [(row[0], row[1]) for row in rows]

    def manifests(self, repository_id: int, after: Digest | None) -> Sequence[LinkedManifest]:
        """Return some manifests after a digest."""
        columns = select(Manifests.digest, Manifests.media_type, Manifests.pushed_at)
        columns = columns.where(Manifests.repository_id == repository_id)
        found = {
            row[0]: LinkedManifest(row[0], row[1], row[2], {})
            for row in self._page(columns, Manifests.__table__.c.digest, after)
        }
        views = select(ManifestViews.manifest, ManifestViews.kind, ManifestViews.view).where(
            ManifestViews.repository_id == repository_id,
            ManifestViews.manifest.in_([*found]),
            ManifestViews.view.is_not(None),
        )
        for manifest, kind, view in self.connection.execute(views):
            found[manifest].views[kind] = str(view)
        return [*found.values()]

    def tags(self, repository_id: int, after: Tag | None) -> Sequence[LinkedTag]:
        """Return some tags after a name."""
        columns = select(Tags.name, Tags.manifest, Tags.updated_at, Tags.origin, Tags.agent)
        columns = columns.where(Tags.repository_id == repository_id)
        rows = self._page(columns, Tags.__table__.c.name, after)
        return [LinkedTag(Tag(row[0]), row[1], row[2], Origin(row[3]), row[4]) for row in rows]

    def v1_images(self, repository_id: int, after: ImageId | None) -> Sequence[LinkedImage]:
        """Return some complete V1 images after an ID."""
        columns = select(V1Images.image_id, V1Images.tarsum_verified.is_not(None))
        columns = columns.where(V1Images.complete, V1Images.repository_id == repository_id)
        rows = self._page(columns, V1Images.__table__.c.image_id, after)
        return [LinkedImage(ImageId(row[0]), bool(row[1])) for row in rows]

    def _page(
        self, columns: Select[*tuple[Any, ...]], key: ColumnElement[Any], after: object
    ) -> Iterator[Row[*tuple[Any, ...]]]:
        found = columns if after is None else columns.where(key > after)
        yield from self.connection.execute(found.order_by(key).limit(_BATCH))
