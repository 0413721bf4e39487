"""SQL of what link files say: the rows of one repository, a number of them after a key at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, Select, bindparam, select
from sqlalchemy.orm import InstrumentedAttribute

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
        return [(row[0], row[1]) for row in self._page(_blobs(), repository_id, after)]

    def manifests(self, repository_id: int, after: Digest | None) -> Sequence[LinkedManifest]:
        """Return some manifests after a digest."""
        found = {
            row[0]: LinkedManifest(row[0], row[1], row[2], {})
            for row in self._page(_manifests(), repository_id, after)
        }
        if found:
            given = {"repository": repository_id, "manifests": [*found]}
            for manifest, kind, view in self.connection.execute(_views(), given):
                found[manifest].views[kind] = str(view)
        return [*found.values()]

    def tags(self, repository_id: int, after: Tag | None) -> Sequence[LinkedTag]:
        """Return some tags after a name."""
        rows = self._page(_tags(), repository_id, after)
        return [LinkedTag(Tag(row[0]), row[1], row[2], Origin(row[3]), row[4]) for row in rows]

    def v1_images(self, repository_id: int, after: ImageId | None) -> Sequence[LinkedImage]:
        """Return some complete V1 images after an ID."""
        rows = self._page(_v1_images(), repository_id, after)
        return [LinkedImage(ImageId(row[0]), bool(row[1])) for row in rows]

    def _page(self, pages: "_Pages", repository_id: int, after: object) -> Iterator[Row[*tuple[Any, ...]]]:
        page = pages.first if after is None else pages.next
        yield from self.connection.execute(page, {"repository": repository_id, "after": after})


class _Pages(NamedTuple):
    """The statements of the first page of rows of a repository, and of one after a key."""

    first: Select[*tuple[Any, ...]]
    next: Select[*tuple[Any, ...]]


def _pages(
    columns: Select[*tuple[Any, ...]], repository: InstrumentedAttribute[int], key: InstrumentedAttribute[Any]
) -> _Pages:
    own = columns.where(repository == bindparam("repository")).order_by(key).limit(_BATCH)
    return _Pages(own, own.where(key > bindparam("after", type_=key.type)))


@cache
def _blobs() -> _Pages:
    """Return the statements of ``blobs``, cached as those below: building them takes long."""
    link = RepositoryBlobs
    return _pages(select(link.digest, link.linked_at), link.repository_id, link.digest)


@cache
def _manifests() -> _Pages:
    columns = select(Manifests.digest, Manifests.media_type, Manifests.pushed_at)
    return _pages(columns, Manifests.repository_id, Manifests.digest)


@cache
def _views() -> Select[Digest, str, str | None]:
    return select(ManifestViews.manifest, ManifestViews.kind, ManifestViews.view).where(
        ManifestViews.repository_id == bindparam("repository"),
        ManifestViews.manifest.in_(bindparam("manifests", expanding=True)),
        ManifestViews.view.is_not(None),
    )


@cache
def _tags() -> _Pages:
    columns = select(Tags.name, Tags.manifest, Tags.updated_at, Tags.origin, Tags.agent)
    return _pages(columns, Tags.repository_id, Tags.name)


@cache
def _v1_images() -> _Pages:
    columns = select(V1Images.image_id, V1Images.tarsum_verified.is_not(None)).where(V1Images.complete)
    return _pages(columns, V1Images.repository_id, V1Images.image_id)
