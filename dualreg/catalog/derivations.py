"""SQL that finds what a derived blob was derived from, and what was derived from a manifest."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Row,
    Select,
    Subquery,
    and_,
    bindparam,
    exists,
    select,
)
from sqlalchemy.orm import aliased

from dualreg.catalog.rows import BlobRow, RepositoryRow
from dualreg.catalog.tables import (
    Blobs,
    ManifestChildren,
    Manifests,
    ManifestViews,
    Repositories,
    RepositoryBlobs,
    V1Images,
)
from dualreg.catalog.views import V1
from dualreg.image.digest import Digest
from dualreg.image.formats import Role


@dataclass(frozen=True, slots=True)
class DerivationQueries:
    """What was derived from what."""

    connection: Connection

    def jsons(self, repository_id: int, manifest: Digest) -> tuple[BlobRow, ...]:
        """Return the JSONs of the derived V1 images that a manifest is seen as."""
        values = {"repository": repository_id, "manifest": manifest}
        return tuple(BlobRow(*row) for row in self.connection.execute(_jsons(), values))

    def conversions(self, repository_id: int, manifest: Digest) -> tuple[BlobRow, ...]:
        """Return the manifests that a schema 1 manifest was converted to, as blobs."""
        values = {"repository": repository_id, "manifest": manifest}
        return tuple(BlobRow(*row) for row in self.connection.execute(_conversions(), values))

    def configs(self, repository_id: int, manifest: Digest) -> tuple[BlobRow, ...]:
        """Return the configs of these manifests, but not that of the manifest itself, which editions keep."""
        values = {"repository": repository_id, "manifest": manifest}
        return tuple(BlobRow(*row) for row in self.connection.execute(_configs(), values))

    def seen_with_json(self, json: Digest, limit: int) -> tuple[tuple[RepositoryRow, Digest], ...]:
        """Return manifests, with their repositories, whose V1 view has a derived image with that JSON."""
        below = (
            select(V1Images.repository_id, V1Images.image_id)
            .join(RepositoryBlobs, RepositoryBlobs.repository_id == V1Images.repository_id)
            .where(RepositoryBlobs.digest == json, V1Images.json == json)
            .where(V1Images.checksum.is_(None), V1Images.complete)
            .cte("below", recursive=True)
        )
        child = (V1Images.repository_id == below.c.repository_id) & (V1Images.parent_id == below.c.image_id)
        chain = below.union(select(V1Images.repository_id, V1Images.image_id).join(below, child))
        seen = (ManifestViews.repository_id == chain.c.repository_id) & (
            ManifestViews.view == chain.c.image_id
        )
        query = select(Repositories.id, Repositories.name, ManifestViews.manifest).join(
            ManifestViews, ManifestViews.repository_id == Repositories.id
        )
        query = query.join(chain, seen).where(ManifestViews.kind == V1)
        return _places(self.connection.execute(query.limit(limit)))

    def made_of_v1(self, blob: Digest, limit: int) -> tuple[tuple[RepositoryRow, Digest], ...]:
        """Return manifests that are, or name, *blob* and are seen as a V1 image that was pushed.

        None if *blob* is itself the layer of a V1 image there: then it was pushed.
        """
        naming = _naming(blob)
        pushed = (V1Images.repository_id == naming.c.repository_id) & (
            V1Images.image_id == ManifestViews.view
        )
        seen = (ManifestViews.repository_id == naming.c.repository_id) & (
            ManifestViews.manifest == naming.c.manifest
        )
        other = aliased(V1Images)
        is_layer = exists().where(other.repository_id == naming.c.repository_id, other.layer == blob)
        query = select(Repositories.id, Repositories.name, naming.c.manifest)
        query = query.join(naming, naming.c.repository_id == Repositories.id).join(ManifestViews, seen)
        query = query.join(V1Images, pushed).where(
            ManifestViews.kind == V1, V1Images.checksum.is_not(None), ~is_layer
        )
        return _places(self.connection.execute(query.limit(limit)))

    def converted(self, blob: Digest, limit: int) -> tuple[tuple[RepositoryRow, Digest], ...]:
        """Return schema 1 manifests that were converted to a manifest which is, or names, *blob*."""
        naming = _naming(blob)
        made = (ManifestViews.repository_id == naming.c.repository_id) & (
            ManifestViews.view == naming.c.manifest
        )
        query = select(Repositories.id, Repositories.name, ManifestViews.manifest)
        query = query.join(naming, naming.c.repository_id == Repositories.id).join(ManifestViews, made)
        query = query.where(ManifestViews.kind != V1)
        return _places(self.connection.execute(query.limit(limit)))


@cache
def _jsons() -> Select[Digest, int]:
    """Return the statement of ``jsons``, cached as those below: building it takes longer than executing."""
    repository: BindParameter[int] = bindparam("repository")
    seen = (ManifestViews.repository_id == V1Images.repository_id) & (ManifestViews.view == V1Images.image_id)
    own = (ManifestViews.repository_id == repository) & (ManifestViews.manifest == bindparam("manifest"))
    first = select(V1Images.image_id, V1Images.parent_id).join(ManifestViews, seen)
    above = first.where(own, ManifestViews.kind == V1).cte("above", recursive=True)
    parent = (V1Images.repository_id == repository) & (V1Images.image_id == above.c.parent_id)
    chain = above.union(select(V1Images.image_id, V1Images.parent_id).join(above, parent))
    query = select(Blobs.digest, Blobs.size).join(V1Images, V1Images.json == Blobs.digest)
    query = query.join(chain, chain.c.image_id == V1Images.image_id)
    derived = V1Images.checksum.is_(None) & V1Images.complete
    return query.where(V1Images.repository_id == repository, derived).distinct()


@cache
def _conversions() -> Select[Digest, int]:
    query = select(Blobs.digest, Blobs.size).join(ManifestViews, ManifestViews.view == Blobs.digest)
    return query.where(_converted())


@cache
def _configs() -> Select[Digest, int]:
    child, own = ManifestChildren, aliased(ManifestChildren)
    made = (child.repository_id == ManifestViews.repository_id) & (child.manifest == ManifestViews.view)
    kept = (own.repository_id == ManifestViews.repository_id) & (own.manifest == ManifestViews.manifest)
    query = select(Blobs.digest, Blobs.size).join(child, child.child == Blobs.digest)
    query = query.join(ManifestViews, made).where(_converted(), child.role == Role.CONFIG)
    return query.where(~exists().where(kept, own.child == child.child)).distinct()


def _converted() -> ColumnElement[bool]:
    """Return the condition that a row of ManifestViews is a manifest that *manifest* was converted to."""
    views = ManifestViews
    own = (views.repository_id == bindparam("repository")) & (views.manifest == bindparam("manifest"))
    return and_(own, views.kind != V1, views.view.is_not(None))


def _naming(blob: Digest) -> Subquery:
    """Return the manifests that are *blob*, or name it as config or layer, with their repositories."""
    holding = RepositoryBlobs.digest == blob
    itself = (
        select(Manifests.repository_id, Manifests.digest.label("manifest"))
        .join(RepositoryBlobs, RepositoryBlobs.repository_id == Manifests.repository_id)
        .where(holding, Manifests.digest == blob)
    )
    naming = (
        select(ManifestChildren.repository_id, ManifestChildren.manifest)
        .join(RepositoryBlobs, RepositoryBlobs.repository_id == ManifestChildren.repository_id)
        .where(holding, ManifestChildren.child == blob, ManifestChildren.role.in_((Role.CONFIG, Role.LAYER)))
    )
    return itself.union(naming).subquery()


def _places(rows: Iterable[Row[*tuple[Any, ...]]]) -> tuple[tuple[RepositoryRow, Digest], ...]:
    return tuple((RepositoryRow(row[0], row[1]), row[2]) for row in rows)
