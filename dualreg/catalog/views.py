"""SQL of manifest views: what a manifest is to the clients of another generation."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, Update, bindparam, delete, func, select, update
from sqlalchemy.orm import InstrumentedAttribute

from dualreg.catalog.candidates import note, noted, noting, seen_as
from dualreg.catalog.dialects import batches, insert_for
from dualreg.catalog.rows import ORIGINS, ManifestRow, Origin
from dualreg.catalog.tables import (
    Blobs,
    ManifestChildren,
    Manifests,
    ManifestViews,
    Repositories,
    Tags,
    V1Images,
)
from dualreg.image.digest import Digest
from dualreg.image.formats import Role
from dualreg.image.names import ImageId, RepositoryName, Tag

#: The kind of view whose value is a V1 image id; for other kinds, it is the digest of a manifest.
V1 = "v1"


class V1Tags(NamedTuple):
    """Tags as V1 clients see them.

    Attributes:
        images: The image of each tag, except of tags that V1 clients cannot use.
        complete: Whether the views of all tags are recorded; if not, some tags may be missing.
        total: How many tags there are, whether V1 clients can use them or not.
    """

    images: dict[Tag, ImageId]
    complete: bool
    total: int


class SeenTag(NamedTuple):
    """A tag as V1 clients see it.

    Attributes:
        manifest: What it points at.
        image: None if V1 clients cannot use it, or if that is not known.
        is_known: Whether that is known.
    """

    manifest: Digest
    image: ImageId | None
    is_known: bool


def kinds_of_manifests(repository_id: int) -> Select[str]:
    """Return the kinds of views of a repository that are manifests, of which there are few.

    Each is found by a look into the index of kinds and views. With them, views are found there, too: by
    "another kind than V1", a database reads all views of the repository.
    """
    views = ManifestViews
    own = views.repository_id == repository_id
    kinds = select(func.min(views.kind).label("kind")).where(own).cte("kinds", recursive=True)
    following = select(func.min(views.kind)).where(own, views.kind > kinds.c.kind)
    kinds = kinds.union_all(select(following.scalar_subquery()).where(kinds.c.kind.is_not(None)))
    return select(kinds.c.kind).where(kinds.c.kind != V1)


@dataclass(frozen=True, slots=True)
class ViewQueries:
    """The views of manifests: V1 images, or other manifests. None means that there cannot be a view."""

    connection: Connection
    now: datetime

    def record(self, repository_id: int, manifest: Digest, view: str | None, *, kind: str = V1) -> None:
        """Record the view of the manifest, in place of an earlier one; None: there cannot be one."""
        replaced = noted(repository_id, self.now, manifest=manifest, kind=kind, other_than=view)
        self.connection.execute(_noting_replaced(), replaced)
        row = {"repository_id": repository_id, "manifest": manifest, "kind": kind, "view": view}
        self.connection.execute(_record(self.connection.dialect.name), row)

    def forget(self, repository_id: int, manifest: Digest, kind: str) -> None:
        """Delete the view of a manifest, so that it is found out again."""
        found = (ManifestViews.repository_id == repository_id) & (ManifestViews.manifest == manifest)
        found &= ManifestViews.kind == kind
        note(self.connection, self.now, repository_id, *seen_as(repository_id, found))
        self.connection.execute(delete(ManifestViews).where(found))

    def is_recorded(self, repository_id: int, manifest: Digest, *, kind: str = V1) -> bool:
        """Return whether the view of the manifest is recorded, or that there cannot be one."""
        own = (ManifestViews.repository_id == repository_id) & (ManifestViews.manifest == manifest)
        query = select(ManifestViews.manifest).where(own, ManifestViews.kind == kind)
        return self.connection.scalar(query) is not None

    def find(self, repository_id: int, manifest: Digest, *, kind: str = V1) -> str | None:
        """Return the view of the manifest; None if it is not recorded, or there cannot be one."""
        values = {"repository": repository_id, "manifest": manifest, "kind": kind}
        return self.connection.scalar(_find(), values)

    def excluded(self, repository_id: int, manifest: Digest, *, kind: str) -> bool:
        """Return whether it is recorded that there cannot be a view of the manifest of this kind."""
        query = select(ManifestViews.manifest).where(
            ManifestViews.repository_id == repository_id,
            ManifestViews.manifest == manifest,
            ManifestViews.kind == kind,
            ManifestViews.view.is_(None),
        )
        return self.connection.scalar(query) is not None

    def among(self, repository: RepositoryName, kinds: Mapping[Digest, str]) -> dict[Digest, Digest]:
        """Return the manifests that some manifests were made to, each given with the kind of view."""
        query = (
            select(ManifestViews.manifest, ManifestViews.kind, ManifestViews.view)
            .join(Repositories, Repositories.id == ManifestViews.repository_id)
            .where(Repositories.name == repository, ManifestViews.view.is_not(None))
            .where(ManifestViews.kind.in_(sorted({*kinds.values()})))
        )
        rows = [
            row
            for batch in batches(kinds)
            for row in self.connection.execute(query.where(ManifestViews.manifest.in_(batch)))
        ]
        return {row[0]: Digest.parse(str(row[2])) for row in rows if kinds[row[0]] == row[1]}

    def manifest(self, repository_id: int, manifest: Digest, *, kind: str) -> ManifestRow | None:
        """Return the manifest that a manifest was made to; None if that is not recorded."""
        values = {"repository": repository_id, "manifest": manifest, "kind": kind}
        row = self.connection.execute(_manifest(), values).one_or_none()
        return None if row is None else ManifestRow(*row)

    def made(self, repository_id: int, manifest: Digest, prefix: str) -> dict[str, Digest]:
        """Return the manifests that a manifest was made to, by kinds of view, which begin with *prefix*."""
        query = select(ManifestViews.kind, ManifestViews.view).where(
            ManifestViews.repository_id == repository_id,
            ManifestViews.manifest == manifest,
            ManifestViews.kind.startswith(prefix, autoescape=True),
            ManifestViews.view.is_not(None),
        )
        return {kind: Digest.parse(str(view)) for kind, view in self.connection.execute(query)}

    def kinds(self, repository_id: int, manifest: Digest) -> frozenset[str]:
        """Return the kinds of views that are recorded of the manifest, or that there cannot be one of."""
        own = (ManifestViews.repository_id == repository_id) & (ManifestViews.manifest == manifest)
        return frozenset(self.connection.scalars(select(ManifestViews.kind).where(own)))

    def listing(self, repository_id: int, child: Digest) -> tuple[tuple[Digest, str], ...]:
        """Return the manifests of which indexes were made that list another one, with the kinds of view."""
        views, children = ManifestViews, ManifestChildren
        same = (children.repository_id == views.repository_id) & (children.manifest == views.view)
        query = select(views.manifest, views.kind).join(children, same).where(views.kind != V1)
        listed = (children.repository_id == repository_id) & (children.child == child)
        query = query.where(listed, children.role == Role.MANIFEST).order_by(views.manifest, views.kind)
        return tuple((row[0], row[1]) for row in self.connection.execute(query))

    def sources(self, repository_id: int, view: Digest) -> tuple[Digest, ...]:
        """Return the manifests that a manifest was made of, in the order of digests."""
        query = select(ManifestViews.manifest).where(
            ManifestViews.repository_id == repository_id,
            ManifestViews.kind.in_(kinds_of_manifests(repository_id)),
            ManifestViews.view == str(view),
        )
        # SQLite would read all of them in their order, to sort none.
        return tuple(sorted({*self.connection.scalars(query)}, key=str))

    def editions(self, repository_id: int, manifests: Collection[Digest]) -> frozenset[Digest]:
        """Return the manifests that were made of *manifests*, which are few."""
        query = select(ManifestViews.view).where(
            ManifestViews.repository_id == repository_id,
            ManifestViews.manifest.in_(manifests),
            ManifestViews.kind != V1,
            ManifestViews.view.is_not(None),
        )
        return frozenset(Digest.parse(str(view)) for view in self.connection.scalars(query))

    def made_among(self, repository_id: int, manifests: Collection[Digest]) -> frozenset[Digest]:
        """Return those of *manifests*, which are few, that were made of others."""
        query = select(ManifestViews.view).where(
            ManifestViews.repository_id == repository_id,
            ManifestViews.kind.in_(kinds_of_manifests(repository_id)),
            ManifestViews.view.in_([str(each) for each in manifests]),
        )
        return frozenset(Digest.parse(str(view)) for view in self.connection.scalars(query))

    def is_made_of(self, repository_id: int, view: Digest, manifest: Digest) -> bool:
        """Return whether a manifest was made of another one, or of what was made of that, and so on."""
        views = ManifestViews
        own = (views.repository_id == repository_id) & (views.kind != V1) & views.view.is_not(None)
        made = select(views.view).where(own, views.manifest == manifest).cte("made", recursive=True)
        made = made.union(select(views.view).join(made, views.manifest == made.c.view).where(own))
        query = select(made.c.view).where(made.c.view == str(view))
        return self.connection.scalar(query.limit(1)) is not None

    def hide(self, repository_id: int, images: Iterable[ImageId]) -> list[tuple[Digest, ImageId]]:
        """Replace V1 views that are one of *images* by None, so that no manifest is seen as these.

        Return the manifests that were, with their images.
        """
        seen = (ManifestViews.repository_id == repository_id) & (ManifestViews.kind == V1)
        query = select(ManifestViews.manifest, ManifestViews.view).where(seen)
        hidden = list[tuple[Digest, ImageId]]()
        for batch in batches(images):
            among = ManifestViews.view.in_(batch)
            hidden += [(row[0], ImageId(str(row[1]))) for row in self.connection.execute(query.where(among))]
            note(self.connection, self.now, repository_id, *seen_as(repository_id, among))
            self.connection.execute(update(ManifestViews).where(seen, among).values(view=None))
        return hidden

    def unseen(self, repository: RepositoryName) -> tuple[Tag, ...]:
        """Return the tags of the repository whose manifests cannot be seen as a V1 image, in byte order."""
        query = (
            select(Tags.name)
            .join(Repositories, Repositories.id == Tags.repository_id)
            .join(ManifestViews, _of(Tags.repository_id, Tags.manifest))
            .where(Repositories.name == repository, ManifestViews.view.is_(None))
            .order_by(Tags.name)
        )
        return tuple(Tag(name) for name in self.connection.scalars(query))

    def manifest_of(self, repository_id: int, image: ImageId) -> Digest | None:
        """Return the most recently pushed manifest whose V1 view is *image*; None if there is none."""
        return self.connection.scalar(_manifest_of(), {"repository": repository_id, "image": image})

    def missing(
        self,
        repository: RepositoryName,
        tag: Tag | None = None,
        *,
        origins: Collection[Origin] = ORIGINS,
        limit: int | None = None,
    ) -> tuple[ManifestRow, ...]:
        """Return the tagged manifests of the repository, or that of *tag*, whose V1 view is not recorded.

        Args:
            limit: Up to so many; None: all.
        """
        query = (
            select(Manifests.repository_id, Manifests.digest, Manifests.media_type, Blobs.size)
            .distinct()
            .join(Repositories, Repositories.id == Manifests.repository_id)
            .join(Blobs, Blobs.digest == Manifests.digest)
            .join(Tags, (Tags.repository_id == Manifests.repository_id) & (Tags.manifest == Manifests.digest))
            .outerjoin(ManifestViews, _of(Manifests.repository_id, Manifests.digest))
            .where(
                Repositories.name == repository,
                ManifestViews.manifest.is_(None),
                Tags.origin.in_(sorted(origins)),
            )
        )
        if tag is not None:
            query = query.where(Tags.name == tag)
        return tuple(ManifestRow(*row) for row in self.connection.execute(query.limit(limit)))

    def tags(
        self,
        repository: RepositoryName,
        tag: Tag | None = None,
        *,
        origins: Collection[Origin] = ORIGINS,
        limit: int | None = None,
    ) -> V1Tags:
        """Return the tags of the repository, or *tag*, as V1 clients see them, by one statement.

        Args:
            limit: The first so many in byte order; None: all.
        """
        query = (
            select(Tags.name, ManifestViews.view, ManifestViews.manifest)
            .join(Repositories, Repositories.id == Tags.repository_id)
            .outerjoin(ManifestViews, _of(Tags.repository_id, Tags.manifest))
            .where(Repositories.name == repository, Tags.origin.in_(sorted(origins)))
            .order_by(Tags.name)
            .limit(limit)
        )
        if tag is not None:
            query = query.where(Tags.name == tag)
        rows = self.connection.execute(query).all()
        images = {Tag(name): ImageId(view) for name, view, _ in rows if view is not None}
        return V1Tags(images, all(known is not None for *_, known in rows), len(rows))

    def seen(
        self, repository: RepositoryName, tags: Collection[Tag], *, origins: Collection[Origin]
    ) -> dict[Tag, SeenTag]:
        """Return those of *tags* that exist, as V1 clients see them: none but those of *origins*."""
        found = dict[Tag, SeenTag]()
        for batch in batches(tags):
            rows = self.connection.execute(_seen(), {"repository": repository, "tags": batch})
            for name, origin, manifest, recorded, view in rows:
                is_hidden = origin not in origins
                image = None if is_hidden or view is None else ImageId(view)
                found[Tag(name)] = SeenTag(manifest, image, is_hidden or recorded is not None)
        return found

    def parents(
        self, repository_id: int, views: Collection[ImageId], limit: int
    ) -> dict[ImageId, ImageId | None]:
        """Return the V1 images that some *views* are, and all their ancestors, each with its parent.

        Args:
            limit: Up to so many for each statement.
        """
        asked = ({"repository": repository_id, "images": batch, "limit": limit} for batch in batches(views))
        found = (row for each in asked for row in self.connection.execute(_parents(), each))
        return {ImageId(image): ImageId(parent) if parent else None for image, parent in found}


@cache
def _seen() -> Select[str, str, Digest, Digest, str | None]:
    """Return the statement of ``seen``, cached as those below; without a view, its manifest is None, too."""
    query = select(Tags.name, Tags.origin, Tags.manifest, ManifestViews.manifest, ManifestViews.view)
    query = query.join(Repositories, Repositories.id == Tags.repository_id)
    query = query.outerjoin(ManifestViews, _of(Tags.repository_id, Tags.manifest))
    among = Tags.name.in_(bindparam("tags", expanding=True))
    return query.where(Repositories.name == bindparam("repository"), among)


@cache
def _parents() -> Select[str, str | None]:
    """Return the statement of ``parents``: each image once, however many build on it."""
    image = select(V1Images.image_id, V1Images.parent_id)
    own = V1Images.repository_id == bindparam("repository")
    first = image.where(own, V1Images.image_id.in_(bindparam("images", expanding=True)))
    chain = first.cte("chain", recursive=True)
    chain = chain.union(image.join(chain, V1Images.image_id == chain.c.parent_id).where(own))
    return select(chain.c.image_id, chain.c.parent_id).limit(bindparam("limit"))


@cache
def _find() -> Select[str | None]:
    """Return the statement of ``find``, cached as those below: building it takes longer than executing it."""
    return select(ManifestViews.view).where(
        ManifestViews.repository_id == bindparam("repository"),
        ManifestViews.manifest == bindparam("manifest"),
        ManifestViews.kind == bindparam("kind"),
    )


@cache
def _manifest() -> Select[int, Digest, str, int]:
    views = ManifestViews
    same = (Manifests.repository_id == views.repository_id) & (Manifests.digest == views.view)
    query = select(Manifests.repository_id, Manifests.digest, Manifests.media_type, Blobs.size)
    query = query.join(views, same).join(Blobs, Blobs.digest == Manifests.digest)
    own = (views.repository_id == bindparam("repository")) & (views.manifest == bindparam("manifest"))
    return query.where(own, views.kind == bindparam("kind"))


@cache
def _manifest_of() -> Select[Digest]:
    views = ManifestViews
    same = (Manifests.repository_id == views.repository_id) & (Manifests.digest == views.manifest)
    seen = (views.repository_id == bindparam("repository")) & (views.view == bindparam("image"))
    query = select(Manifests.digest).join(views, same).where(seen, views.kind == V1)
    return query.order_by(Manifests.pushed_at.desc(), Manifests.digest).limit(1)


@cache
def _noting_replaced() -> Update:
    own = ManifestViews.manifest == bindparam("manifest")
    earlier = own & (ManifestViews.kind == bindparam("kind"))
    earlier &= ManifestViews.view.is_distinct_from(bindparam("other_than", type_=ManifestViews.view.type))
    return noting(*seen_as(bindparam("noted_in"), earlier))


@cache
def _record(dialect: str) -> Any:  # noqa: ANN401 -- see insert_for
    row = insert_for(dialect, ManifestViews)
    key = [ManifestViews.repository_id, ManifestViews.manifest, ManifestViews.kind]
    return row.on_conflict_do_update(index_elements=key, set_={"view": row.excluded.view})


def _of(
    repository_id: InstrumentedAttribute[int], manifest: InstrumentedAttribute[Digest]
) -> ColumnElement[bool]:
    """Return the condition that joins a manifest with its V1 view."""
    return (
        (ManifestViews.repository_id == repository_id)
        & (ManifestViews.manifest == manifest)
        & (ManifestViews.kind == V1)
    )
