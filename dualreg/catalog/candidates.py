"""SQL that makes links candidates of the garbage collection: whatever drops a reference calls it."""

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Select,
    Update,
    bindparam,
    or_,
    select,
    update,
)
from sqlalchemy.orm import aliased

from dualreg.catalog.tables import ManifestChildren, Manifests, ManifestViews, RepositoryBlobs, V1Images
from dualreg.image.digest import Digest


def note(
    connection: Connection, now: datetime, repository_id: int, *digests: Select[*tuple[Any, ...]] | Digest
) -> None:
    """Note that what *digests* are, or select, may not be used any longer, if the repository links to it.

    To be called before the change, in its transaction.
    """
    connection.execute(noting(*digests), noted(repository_id, now))


def noted(repository_id: int, now: datetime, **values: object) -> dict[str, object]:
    """Return the parameters of ``noting``, and *values* for what it selects."""
    return {"noted_in": repository_id, "noted_at": now, **values}


def noting(*digests: Select[*tuple[Any, ...]] | Digest) -> Update:
    """Return the statement of ``note``, for callers that cache it; ``noted_in`` is the repository."""
    named = [each for each in digests if isinstance(each, Digest)]
    selected = [each for each in digests if not isinstance(each, Digest)]
    found = or_(
        *([RepositoryBlobs.digest.in_(named)] if named else []),
        *(RepositoryBlobs.digest.in_(query) for query in selected),
    )
    link, now = RepositoryBlobs, bindparam("noted_at", type_=RepositoryBlobs.candidate_since.type)
    here = link.repository_id == bindparam("noted_in")
    other = or_(link.candidate_since.is_(None), link.candidate_since != now)
    # A row that a transaction updates twice has its foreign key checked, which locks the row of the blob:
    # too late, since that is locked before the link everywhere. And links are locked in one order.
    going = select(link.digest).where(here, found, other).order_by(link.digest)
    going = going.with_for_update(key_share=True)
    return update(link).where(here, link.digest.in_(going)).values(candidate_since=now)


def named_by(repository_id: int, manifests: Collection[Digest]) -> tuple[Select[*tuple[Any, ...]], ...]:
    """Return what may be garbage without *manifests*: their children, their referrers, and their views."""
    return (
        select(ManifestChildren.child).where(
            ManifestChildren.repository_id == repository_id, ManifestChildren.manifest.in_(manifests)
        ),
        select(Manifests.digest).where(
            Manifests.repository_id == repository_id, Manifests.subject.in_(manifests)
        ),
        *seen_as(repository_id, ManifestViews.manifest.in_(manifests)),
    )


def seen_as(
    repository_id: int | BindParameter[int], views: ColumnElement[bool]
) -> tuple[Select[*tuple[Any, ...]], ...]:
    """Return what may be garbage without *views* of manifests: other manifests, and JSONs of V1 images."""
    here = (ManifestViews.repository_id == repository_id) & views
    image = (V1Images.repository_id == repository_id) & (V1Images.image_id == ManifestViews.view)
    other = (Manifests.repository_id == repository_id) & (Manifests.digest == ManifestViews.view)
    return (
        select(Manifests.digest).join(ManifestViews, other).where(here),
        select(V1Images.json).join(ManifestViews, image).where(here),
    )


def used_by(condition: ColumnElement[bool]) -> tuple[Select[*tuple[Any, ...]], ...]:
    """Return what may be garbage without the V1 images that meet *condition*: files, and their parents."""
    parent = aliased(V1Images)
    below = (parent.repository_id == V1Images.repository_id) & (parent.image_id == V1Images.parent_id)
    return (
        select(V1Images.json).where(condition),
        select(V1Images.layer).where(condition),
        select(parent.json).join(V1Images, below).where(condition),
    )
