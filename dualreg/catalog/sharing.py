"""SQL of sharing: how many images have a layer, among those in the repositories that somebody may pull.

Every figure is counted up to a bound, by indexes: a layer may be in a million repositories.
"""

from collections.abc import Collection
from typing import NamedTuple

from sqlalchemy import (
    Connection,
    Select,
    Subquery,
    and_,
    except_,
    func,
    literal,
    or_,
    select,
    union_all,
)
from sqlalchemy.orm import aliased

from dualreg.catalog.dialects import within
from dualreg.catalog.tables import (
    ManifestChildren,
    ManifestViews,
    Repositories,
    RepositoryBlobs,
    V1Images,
)
from dualreg.catalog.views import V1
from dualreg.image.digest import Digest
from dualreg.image.formats import Role
from dualreg.patterns import Reach

#: Repositories that are looked at for each layer, and images in them.
_REPOSITORIES, _IMAGES = 100, 100


class LayerUse(NamedTuple):
    """How many images have a layer.

    Attributes:
        images: Manifests with it; what was made of one of them here is no other.
        v1_images: V1 images of which it is the layer.
        more: Whether there may be more of both.
    """

    images: int
    v1_images: int
    more: bool


def sharing_of(
    connection: Connection, repository_id: int, layers: Collection[Digest], reach: Reach
) -> dict[Digest, LayerUse]:
    """Return how many images have each of *layers* in a repository and others of *reach*, in one query.

    Layers that the repository may not read are left out: it is not said whether others have them. That
    there may be more is also said of a layer that very many repositories have, whether they are in *reach*
    or not.
    """
    others = _others(repository_id)
    manifests, v1_images = _manifests(repository_id, reach), _v1_images(repository_id, reach)
    distinct = select(func.count(v1_images.c.image_id.distinct()))
    columns = (_images(manifests), distinct, *map(_count, (manifests, v1_images, others)))
    query = select(RepositoryBlobs.digest, *(each.scalar_subquery() for each in columns))
    query = query.where(
        RepositoryBlobs.repository_id == repository_id, RepositoryBlobs.digest.in_([*{*layers}])
    )
    return {digest: _use(*counts) for digest, *counts in connection.execute(query)}


def _use(images: int, v1_images: int, manifests: int, rows: int, others: int) -> LayerUse:
    return LayerUse(images, v1_images, max(manifests, rows) >= _IMAGES or others >= _REPOSITORIES)


def _count(found: Subquery) -> Select[int]:
    return select(func.count()).select_from(found)


def _others(own: int) -> Subquery:
    """Return other repositories that link the layer."""
    link = aliased(RepositoryBlobs)
    query = select(link.repository_id.label("id")).where(link.digest == RepositoryBlobs.digest)
    return query.where(link.repository_id != own).limit(_REPOSITORIES).correlate(RepositoryBlobs).subquery()


def _repositories(own: int, reach: Reach) -> Subquery:
    """Return the repository itself, and those of the others that are in *reach*."""
    either = union_all(
        select(literal(own, Repositories.id.type).label("id")), select(_others(own).c.id)
    ).subquery()
    query = select(either.c.id).join(Repositories, Repositories.id == either.c.id)
    return query.where(or_(Repositories.id == own, within(Repositories.name, reach))).subquery()


def _manifests(own: int, reach: Reach) -> Subquery:
    """Return the manifests with the layer."""
    child, among = ManifestChildren, _repositories(own, reach)
    # With a column that is not in the primary key, SQLite finds them by child, not among all of a repository.
    query = select(child.repository_id, child.manifest, child.position)
    query = query.join(among, among.c.id == child.repository_id)
    query = query.where(child.child == RepositoryBlobs.digest, child.role == Role.LAYER.value)
    return query.limit(_IMAGES).correlate(RepositoryBlobs).subquery()


def _images(found: Subquery) -> Select[int]:
    """Return the number of manifests, without those that were made of another one of them."""
    views = ManifestViews
    of_found = and_(
        views.repository_id == found.c.repository_id, views.manifest == found.c.manifest, views.kind != V1
    )
    made = select(views.view).select_from(found).join(views, of_found)
    return _count(except_(select(found.c.manifest), made).subquery())


def _v1_images(own: int, reach: Reach) -> Subquery:
    """Return the V1 images with the layer."""
    among = _repositories(own, reach)
    query = select(V1Images.image_id).join(among, among.c.id == V1Images.repository_id)
    query = query.where(V1Images.layer == RepositoryBlobs.digest, V1Images.complete)
    return query.limit(_IMAGES).correlate(RepositoryBlobs).subquery()
