"""SQL of V1 images. Ids are scoped to a repository, so that a push cannot occupy an id in another one."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from itertools import islice, takewhile
from typing import Any, cast

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    Update,
    bindparam,
    delete,
    exists,
    func,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.orm import aliased

from dualreg.catalog.candidates import note, noted, noting, used_by
from dualreg.catalog.dialects import batches, insert, insert_for, within
from dualreg.catalog.rows import RepositoryRow, SentLayer, V1ImageRow
from dualreg.catalog.tables import Blobs, ManifestViews, Repositories, RepositoryBlobs, V1Images, V1SentLayers
from dualreg.catalog.views import V1
from dualreg.image.digest import Digest
from dualreg.image.names import ImageId, RepositoryName
from dualreg.image.v1_image import CHAIN_LIMIT, V1Image
from dualreg.patterns import Reach


@dataclass(frozen=True, slots=True)
class V1ImageQueries:
    """The V1 images of repositories, and their parents."""

    connection: Connection
    now: datetime

    def begin(
        self, repository_id: int, image: V1Image, json: Digest, *, idle_since: datetime | None = None
    ) -> bool:
        """Add an image of which only the JSON has arrived, in place of an incomplete one with its id.

        Return False, and change nothing, if the id belongs to a complete image, or to one of which something
        was sent after *idle_since*.
        """
        row = V1ImageRow(repository_id, image.id, image.parent, json, None, None, None, None, complete=False)
        replaceable = ~V1Images.complete
        if idle_since:
            set_back = V1Images.touched_at > self.now + (self.now - idle_since)  # the clock, meanwhile
            replaceable &= or_(V1Images.touched_at.is_(None), V1Images.touched_at <= idle_since, set_back)
        begun = self._put(row, _upsert(self.connection.dialect.name, lambda _: replaceable))
        if begun:
            self.connection.execute(delete(V1SentLayers).where(_sent_for(row)))
        return begun

    def touch(self, image: V1ImageRow) -> None:
        """Record that a client has just sent something of *image*, unless it was begun anew or completed."""
        self.connection.execute(update(V1Images).where(_unchanged(image)).values(touched_at=self.now))

    def touched_at(self, image: V1ImageRow) -> datetime | None:
        """Return when a client last sent something of *image*; None if that is not known."""
        return self.connection.scalar(select(V1Images.touched_at).where(_unchanged(image)))

    def record(self, image: V1ImageRow) -> bool:
        """Add a complete image; return whether anything changed.

        A complete image with the same id stays if it has the same parent and files: it is the same image, and
        the client that pushed it gets back its own JSON. A derived one gives way to one that was pushed. Any
        other image is replaced, so that a client cannot occupy the id of content that it does not have. The
        layer of an incomplete one is kept beside it: the client has still to send its checksum.
        """
        return self._put(image, _record(self.connection.dialect.name))

    def complete_ones(self, repository_id: int, ids: Iterable[ImageId]) -> dict[ImageId, V1ImageRow]:
        """Return those of *ids* that are complete images of the repository."""
        asked = ({"repository": repository_id, "ids": batch} for batch in batches(ids))
        found = (_row(row) for each in asked for row in self.connection.execute(_complete_ones(), each))
        return {image.id: image for image in found}

    def attach(self, image: V1ImageRow, sent: SentLayer) -> bool:
        """Record a layer that a client sent for incomplete *image*; one that is there is kept beside it.

        Return False if the image was completed or begun anew since it was read.
        """
        return self._set_layer(image, sent)

    def add_sent(self, image: V1ImageRow, sent: SentLayer) -> None:
        """Record what a client sent as the layer of *image*."""
        key = {"repository_id": image.repository_id, "image_id": image.id, "checksum": sent.checksum}
        values = {"layer": sent.layer, "diff_id": sent.diff_id}
        row = insert(self.connection, V1SentLayers).values(**key, **values)
        self.connection.execute(row.on_conflict_do_update(index_elements=[*key], set_=values))

    def sent(self, image: V1ImageRow) -> tuple[SentLayer, ...]:
        """Return what else clients sent as the layer of *image*, by checksum."""
        query = select(V1SentLayers.layer, V1SentLayers.diff_id, V1SentLayers.checksum)
        query = query.where(_sent_for(image)).order_by(V1SentLayers.checksum)
        return tuple(SentLayer(*row) for row in self.connection.execute(query))

    def complete(self, image: V1ImageRow, sent: SentLayer) -> bool:
        """Mark *image* complete with the layer of one client, and record its TarSum.

        Return False if the image was completed or begun anew since it was read.
        """
        stated = {"tarsum": image.tarsum, "tarsum_verified": image.tarsum_verified}
        return self._set_layer(image, sent, complete=True, **stated)

    def replace_layer(self, image: V1ImageRow, sent: SentLayer) -> bool:
        """Give a complete image, whose layer is lost, another one of the same files.

        Return False if it has another layer by now.
        """
        if image.layer:
            note(self.connection, self.now, image.repository_id, image.layer)
        change = update(V1Images).where(_is(image), V1Images.complete, V1Images.layer == image.layer)
        values = {"layer": sent.layer, "diff_id": sent.diff_id, "checksum": sent.checksum}
        return self.connection.execute(change.values(values)).rowcount > 0

    def holders(
        self, image: ImageId, reach: Reach, *, but: RepositoryName | None = None, limit: int = 1
    ) -> tuple[RepositoryName, ...]:
        """Return the oldest repositories in *reach*, *but* one, that have the image, complete."""
        query = select(Repositories.name).join(V1Images, V1Images.repository_id == Repositories.id)
        query = query.where(V1Images.image_id == image, V1Images.complete, within(Repositories.name, reach))
        query = query.where(Repositories.name.is_distinct_from(but)).limit(limit)
        names = self.connection.scalars(query.order_by(Repositories.created_at, Repositories.id))
        return tuple(map(RepositoryName, names))

    def is_pushed(self, repository_id: int, ids: Collection[ImageId], *, since: datetime) -> bool:
        """Return whether a client has sent something of an incomplete image among *ids* after *since*."""
        own = V1Images.repository_id == repository_id
        begun = exists().where(own, V1Images.image_id.in_(ids), ~V1Images.complete, ~idle(since))
        return bool(self.connection.scalar(select(begun)))

    def find(self, repository: RepositoryName, image: ImageId) -> V1ImageRow | None:
        """Return the image, complete or not; None if there is none."""
        row = self.connection.execute(_find(), {"repository": repository, "image": image}).one_or_none()
        return None if row is None else _row(row)

    def ancestry(self, repository: RepositoryName, image: ImageId) -> tuple[V1ImageRow, ...]:
        """Return the image and its ancestors, base last; empty if there is no such image."""
        values = {"repository": repository, "image": image}
        return tuple(_row(row) for row in self.connection.execute(_ancestry(), values))

    def list(self, repository: RepositoryName, *, limit: int | None = None) -> tuple[ImageId, ...]:
        """Return the ids of the complete images of the repository, ordered: up to *limit*; None: all."""
        query = select(V1Images.image_id).join(Repositories, Repositories.id == V1Images.repository_id)
        query = query.where(Repositories.name == repository, V1Images.complete).order_by(V1Images.image_id)
        return tuple(ImageId(image) for image in self.connection.scalars(query.limit(limit)))

    def remove(self, repository_id: int, image: ImageId) -> bool:
        """Delete the image unless it is a view of a manifest or a parent; return whether it was deleted."""
        above = aliased(V1Images)
        is_parent = exists().where(above.repository_id == repository_id, above.parent_id == image)
        found = (V1Images.repository_id == repository_id) & (V1Images.image_id == image)
        note(self.connection, self.now, repository_id, *used_by(found))
        return self.connection.execute(delete(V1Images).where(found, ~is_view(), ~is_parent)).rowcount > 0

    def clear(self, repository_id: int, limit: int) -> tuple[ImageId, ...]:
        """Delete up to *limit* images of the repository, none before those that build on it; return them."""
        own, above = V1Images.repository_id == repository_id, aliased(V1Images)
        image = select(V1Images.image_id, V1Images.parent_id).where(own)
        parents = select(V1Images.parent_id).where(own, V1Images.parent_id.is_not(None))
        tops = select(V1Images.image_id).where(own).except_(parents)
        first = image.where(V1Images.image_id.in_(tops.order_by("image_id").limit(limit)))
        chain = first.cte("chain", recursive=True)
        other = (above.repository_id == repository_id) & (above.parent_id == chain.c.parent_id)
        is_shared = exists().where(other, above.image_id != chain.c.image_id)
        below = image.join(chain, V1Images.image_id == chain.c.parent_id).where(~is_shared)
        chain = chain.union_all(below)
        # Each is found by the only image that builds on it, so those found first need none of the others.
        images = tuple(map(ImageId, self.connection.scalars(select(chain.c.image_id).limit(limit))))
        self._delete(repository_id, images)
        return images

    def prune(
        self,
        repository: RepositoryRow,
        top: ImageId,
        *,
        asked_before: datetime | None = None,
        limit: int | None = None,
    ) -> tuple[V1ImageRow, ...]:
        """Delete *top* and its ancestors, up to the first that is in use or was pushed by a client.

        An image is in use while it is the view of a manifest or the parent of another image. Return the
        deleted images.

        Args:
            asked_before: Delete also what clients pushed, if they last asked for it then or earlier.
            limit: Delete no more images; the first of the others becomes a candidate of the collection.
        """
        chain = self.ancestry(repository.name, top)
        kept = self._kept(repository.id, [image.id for image in chain], asked_before)

        def is_free(row: V1ImageRow) -> bool:
            is_derived = row.complete and row.checksum is None
            return row.id not in kept and (is_derived or asked_before is not None)

        gone = tuple(islice(takewhile(is_free, chain), limit))
        self._delete(repository.id, [image.id for image in gone])
        return gone

    def _delete(self, repository_id: int, images: Collection[ImageId]) -> None:
        """Delete images; what they used becomes a candidate of the garbage collection."""
        if images:
            going = (V1Images.repository_id == repository_id) & V1Images.image_id.in_(images)
            note(self.connection, self.now, repository_id, *used_by(going))
            self.connection.execute(delete(V1Images).where(going))

    def _kept(self, repository_id: int, chain: Sequence[ImageId], asked_before: datetime | None) -> set[str]:
        """Return which images of a chain are in use beyond it, or were asked for or pushed since a time."""
        if not chain:
            return set()
        above = aliased(V1Images)
        is_parent = exists().where(
            above.repository_id == V1Images.repository_id,
            above.parent_id == V1Images.image_id,
            above.image_id.not_in(chain),
        )
        kept_by = or_(is_view(), is_parent)
        if asked_before:
            kept_by = or_(kept_by, _asked_after(asked_before), ~idle(asked_before))
        among = (V1Images.repository_id == repository_id) & V1Images.image_id.in_(chain)
        return {*self.connection.scalars(select(V1Images.image_id).where(among, kept_by))}

    def _set_layer(self, image: V1ImageRow, sent: SentLayer, **more: object) -> bool:
        """Give *image* a layer, and keep another one that it has beside it; see ``attach``."""
        values = {"layer": sent.layer, "diff_id": sent.diff_id, "checksum": sent.checksum, **more}
        values["touched_at"] = self.now
        change = update(V1Images).where(_unchanged(image)).values(values)
        alone = change.where(or_(V1Images.layer.is_(None), V1Images.checksum == sent.checksum))
        if self.connection.execute(alone).rowcount > 0:
            return True
        if not self._keep_layer(image, _unchanged(image)):
            return False
        note(self.connection, self.now, image.repository_id, *used_by(_unchanged(image)))
        return self.connection.execute(change).rowcount > 0

    def _keep_layer(self, image: V1ImageRow, found: ColumnElement[bool]) -> bool:
        """Keep the layer of the image that is *found* as ``add_sent``; return False if it has none."""
        query = select(V1Images.layer, V1Images.diff_id, V1Images.checksum).where(found).with_for_update()
        layer, diff_id, checksum = self.connection.execute(query).one_or_none() or (None, None, None)
        if layer:
            self.add_sent(image, SentLayer(layer, cast("Digest", diff_id), checksum))
        return layer is not None

    def _put(self, image: V1ImageRow, upsert: Any) -> bool:  # noqa: ANN401 -- see insert_for
        values = image.columns() | {"touched_at": None if image.complete else self.now}
        going = noted(image.repository_id, self.now, image=image.id)
        self.connection.execute(_noting_replaced(), going)
        if image.complete:
            self._keep_layer(image, _is(image) & ~V1Images.complete)
        return self.connection.execute(upsert, values).first() is not None


def _upsert(dialect: str, replaceable: Callable[[Any], ColumnElement[bool]]) -> Any:  # noqa: ANN401 -- as above
    """Return the statement that adds an image, and returns its ID, unless one is there that has to stay.

    Args:
        replaceable: Returns the condition that what is there may be replaced, given the new row.
    """
    row = insert_for(dialect, V1Images)
    key = (V1Images.repository_id, V1Images.image_id)
    columns = V1Images.__table__.columns
    values = {each.name: row.excluded[each.name] for each in columns if not each.primary_key}
    upsert = row.on_conflict_do_update(index_elements=key, set_=values, where=replaceable(row.excluded))
    return upsert.returning(V1Images.image_id)


@cache
def _record(dialect: str) -> Any:  # noqa: ANN401 -- see insert_for
    """Return the statement of ``record``, cached as ``_find``."""

    def is_other(new: Any) -> ColumnElement[bool]:  # noqa: ANN401 -- the row of ON CONFLICT
        derived = V1Images.checksum.is_(None) & new.checksum.is_not(None)
        files = V1Images.diff_id.is_distinct_from(new.diff_id)
        return or_(~V1Images.complete, files, V1Images.parent_id.is_distinct_from(new.parent_id), derived)

    return _upsert(dialect, is_other)


@cache
def _complete_ones() -> Select[*tuple[Any, ...]]:
    """Return the statement of ``complete_ones``, cached as ``_find``."""
    among = V1Images.image_id.in_(bindparam("ids", expanding=True))
    return _images().where(V1Images.repository_id == bindparam("repository"), V1Images.complete, among)


@cache
def _ancestry() -> Select[*tuple[Any, ...]]:
    """Return the statement of ``ancestry``, cached as ``_find``."""
    first = select(V1Images.repository_id, V1Images.image_id, V1Images.parent_id, literal(0).label("depth"))
    first = first.join(Repositories, Repositories.id == V1Images.repository_id)
    first = first.where(V1Images.image_id == bindparam("image"), Repositories.name == bindparam("repository"))
    chain = first.cte("chain", recursive=True)
    parent = (V1Images.repository_id == chain.c.repository_id) & (V1Images.image_id == chain.c.parent_id)
    above = select(V1Images.repository_id, V1Images.image_id, V1Images.parent_id, chain.c.depth + 1)
    chain = chain.union_all(above.join(chain, parent).where(chain.c.depth < CHAIN_LIMIT))
    member = (V1Images.repository_id == chain.c.repository_id) & (V1Images.image_id == chain.c.image_id)
    return _images().join(chain, member).order_by(chain.c.depth)


@cache
def _noting_replaced() -> Update:
    """Return the statement that notes what an image used that is replaced, cached as ``_find``."""
    own = V1Images.repository_id == bindparam("noted_in")
    return noting(*used_by(own & (V1Images.image_id == bindparam("image"))))


def _json_link() -> ColumnElement[bool]:
    """Return the condition that a row of RepositoryBlobs is the link to the JSON of a row of V1Images."""
    link = RepositoryBlobs
    return (link.repository_id == V1Images.repository_id) & (link.digest == V1Images.json)


def is_view() -> ColumnElement[bool]:
    """Return the condition that a manifest is seen as a row of V1Images."""
    return exists().where(
        ManifestViews.repository_id == V1Images.repository_id,
        ManifestViews.kind == V1,
        ManifestViews.view == V1Images.image_id,
    )


def _promised_at() -> ColumnElement[datetime]:
    """Return when a client was last told that the blob of a row of RepositoryBlobs is present."""
    return func.coalesce(RepositoryBlobs.candidate_since, RepositoryBlobs.linked_at)


def _images() -> Select[*tuple[Any, ...]]:
    columns = select(
        V1Images.repository_id,
        V1Images.image_id,
        V1Images.parent_id,
        V1Images.json,
        V1Images.layer,
        Blobs.size,
        V1Images.diff_id,
        V1Images.checksum,
        V1Images.complete,
        V1Images.tarsum,
        V1Images.tarsum_verified,
        _promised_at(),
    )
    return columns.join(RepositoryBlobs, _json_link()).outerjoin(Blobs, Blobs.digest == V1Images.layer)


@cache
def _find() -> Select[*tuple[Any, ...]]:
    """Return the statement of ``find``, cached: building it takes longer than executing it."""
    query = _images().join(Repositories, Repositories.id == V1Images.repository_id)
    return query.where(V1Images.image_id == bindparam("image"), Repositories.name == bindparam("repository"))


def idle(since: datetime) -> ColumnElement[bool]:
    """Return the condition that no client has sent something of a row of V1Images since a time."""
    return or_(V1Images.touched_at.is_(None), V1Images.touched_at <= since)


def _asked_after(at: datetime) -> ColumnElement[bool]:
    """Return the condition that a client was told after *at* that the image is present."""
    return exists().where(_json_link(), or_(at < _promised_at(), RepositoryBlobs.linked_at > at))


def _sent_for(image: V1ImageRow) -> ColumnElement[bool]:
    return (V1SentLayers.repository_id == image.repository_id) & (V1SentLayers.image_id == image.id)


def _unchanged(image: V1ImageRow) -> ColumnElement[bool]:
    """Return the condition that *image* is neither complete nor restarted with another JSON."""
    return _is(image) & (V1Images.json == image.json) & ~V1Images.complete


def _is(image: V1ImageRow) -> ColumnElement[bool]:
    return (V1Images.repository_id == image.repository_id) & (V1Images.image_id == image.id)


def _row(row: Row[*tuple[Any, ...]]) -> V1ImageRow:
    parent = ImageId(row[2]) if row[2] else None
    return V1ImageRow(row[0], ImageId(row[1]), parent, *row[3:])
