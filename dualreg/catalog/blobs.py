"""SQL of blobs, and of the links by which repositories may read them."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    or_,
    select,
    update,
)

from dualreg.catalog import prepared
from dualreg.catalog.clock import EPOCH
from dualreg.catalog.dialects import batches, insert_for, within
from dualreg.catalog.rows import BlobRow
from dualreg.catalog.tables import Blobs, ManifestChildren, Manifests, Repositories, RepositoryBlobs, V1Images
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName
from dualreg.patterns import EVERYWHERE, Reach

#: Limit of the referrers that an error names: a base layer may have a million.
REFERRERS_LIMIT = 100


@dataclass(frozen=True, slots=True)
class BlobQueries:
    """The blobs in the store, and the repositories that may read them."""

    connection: Connection
    now: datetime

    def record(self, digest: Digest, size: int) -> int:
        """Record the blob, or revive it if it is condemned; return its size in bytes as first recorded.

        Of a condemned blob, that is *size*: the bytes are about to be published again.
        The row stays locked until the transaction ends, so that the bytes cannot be deleted meanwhile.
        For bytes that were just verified, see ``admit``.
        """
        statement = _record(self.connection.dialect.name)
        ((recorded,),) = prepared.rows(self.connection, statement, self._new(digest, size))
        return int(recorded)

    def admit(self, digest: Digest, size: int) -> None:
        """Record the blob as ``record``, with the *size* of bytes that were just verified.

        They replace what was stored, so that a wrong size is corrected, and damage is over.
        """
        prepared.change(self.connection, _admit(self.connection.dialect.name), self._new(digest, size))

    def record_all(self, sizes: Mapping[Digest, int]) -> None:
        """Record blobs as ``record``, and lock their rows in order; ``sizes`` returns what is recorded."""
        rows = [self._new(digest, sizes[digest]) for digest in sorted(sizes)]
        if rows:
            self.connection.execute(_revive(self.connection.dialect.name), rows)

    def _new(self, digest: Digest, size: int) -> dict[str, object]:
        return {"digest": digest, "size": size, "created_at": self.now, "verified_at": self.now}

    def mark_damaged(self, digest: Digest) -> None:
        """Record that the stored bytes of the blob are lost or damaged, unless that is known."""
        found = (Blobs.digest == digest) & Blobs.damaged_at.is_(None)
        self.connection.execute(update(Blobs).where(found).values(damaged_at=self.now))

    def mark_verified(self, digests: Collection[Digest]) -> None:
        """Record that the stored bytes of blobs have just been read, and have their digests."""
        for batch in batches(digests):
            found = {"verified_at": self.now, "damaged_at": None}
            read = _ordered(Blobs.digest.in_(batch)).with_for_update(key_share=True)
            self.connection.execute(update(Blobs).where(Blobs.digest.in_(read)).values(found))

    def correct(self, digest: Digest, size: int) -> None:
        """Record the size of stored bytes that were just verified; a condemned blob stays condemned."""
        found = {"size": size, "verified_at": self.now, "damaged_at": None}
        self.connection.execute(update(Blobs).where(Blobs.digest == digest).values(found))

    def damaged(self, digests: Collection[Digest]) -> frozenset[Digest]:
        """Return those of *digests* that are recorded to be damaged."""
        found = Blobs.damaged_at.is_not(None)
        return frozenset(
            digest
            for batch in batches(digests)
            for digest in self.connection.scalars(select(Blobs.digest).where(Blobs.digest.in_(batch), found))
        )

    def count_damaged(self) -> int:
        """Return the number of blobs that are recorded to be damaged."""
        query = select(func.count()).select_from(Blobs).where(Blobs.damaged_at.is_not(None))
        return self.connection.scalar(query) or 0

    def link(self, repository_id: int, digest: Digest) -> None:
        """Let the repository read the blob; update the time of an existing link.

        Nothing need use the blob yet, so the link is a candidate of the garbage collection.
        """
        link = {"repository_id": repository_id, "digest": digest}
        times = {"linked_at": self.now, "candidate_since": self.now}
        prepared.change(self.connection, _link(self.connection.dialect.name), link | times)

    def link_all(self, links: Iterable[tuple[int, Digest]], at: datetime) -> None:
        """Let repositories, by their IDs, read blobs since a time, as ``link``."""
        times = {"linked_at": at, "candidate_since": self.now}
        rows = [times | {"repository_id": id_, "digest": digest} for id_, digest in sorted(links)]
        if rows:
            self.connection.execute(_link(self.connection.dialect.name), rows)

    def mend(self, digests: Collection[Digest]) -> None:
        """Record of blobs that are damaged that their bytes have just been verified and stored."""
        found = {"verified_at": self.now, "damaged_at": None}
        for batch in batches(digests):
            damaged = Blobs.digest.in_(batch) & Blobs.damaged_at.is_not(None)
            self.connection.execute(update(Blobs).where(damaged).values(found))

    def unlink(self, repository_id: int, *digests: Digest) -> tuple[Digest, ...]:
        """Delete the repository's links to the *digests* that nothing in it uses; return these.

        Blobs to which no link is left are condemned; their rows are locked first, as by ``record``.
        """
        if not digests:
            return ()
        self.connection.execute(_ordered(Blobs.digest.in_(digests)).with_for_update()).all()
        link = (RepositoryBlobs.repository_id == repository_id) & RepositoryBlobs.digest.in_(digests)
        unused = delete(RepositoryBlobs).where(link, not_used())
        unlinked = tuple(self.connection.scalars(unused.returning(RepositoryBlobs.digest)))
        self._condemn(unlinked)
        return unlinked

    def clear(self, repository_id: int, limit: int) -> tuple[Digest, ...]:
        """Delete up to *limit* links of the repository that nothing in it uses, and return them."""
        query = select(RepositoryBlobs.digest).where(
            RepositoryBlobs.repository_id == repository_id, not_used()
        )
        digests = self.connection.scalars(query.limit(limit)).all()
        return self.unlink(repository_id, *digests) if digests else ()

    def unlink_all(self, repository_id: int) -> None:
        """Delete all links of the repository, in which nothing must be left that uses them."""
        link = RepositoryBlobs.repository_id == repository_id
        linked = select(RepositoryBlobs.digest).where(link)
        digests = self.connection.scalars(_ordered(Blobs.digest.in_(linked)).with_for_update()).all()
        self.connection.execute(delete(RepositoryBlobs).where(link))
        self._condemn(digests)

    def _condemn(self, digests: Collection[Digest]) -> None:
        """Note that no repository links to those of *digests*, of whose rows this holds the locks."""
        unlinked = ~exists().where(RepositoryBlobs.digest == Blobs.digest)
        for batch in batches(digests):
            found = update(Blobs).where(Blobs.digest.in_(batch), unlinked)
            self.connection.execute(found.values(condemned_at=self.now))

    def release(self, *digests: Digest) -> frozenset[Digest]:
        """Delete the rows of those of *digests* that no repository links to; return these.

        The caller must delete their bytes before the transaction ends, under the locks that this takes.
        """
        unused = ~exists().where(RepositoryBlobs.digest == Blobs.digest)
        gone = delete(Blobs).where(Blobs.digest.in_(digests), unused).returning(Blobs.digest)
        return frozenset(self.connection.scalars(gone))

    def lock(self, repository_id: int, digest: Digest) -> bool:
        """Lock the link against new uses of the blob until the transaction ends; return whether it exists.

        The row of the blob is locked first, as everywhere, so that transactions do not wait in a circle.
        """
        link = (RepositoryBlobs.repository_id == repository_id) & (RepositoryBlobs.digest == digest)
        query = select(Blobs.digest).join(RepositoryBlobs, RepositoryBlobs.digest == Blobs.digest).where(link)
        return self.connection.scalar(query.with_for_update()) is not None

    def owner(self, digest: Digest, reach: Reach) -> RepositoryName | None:
        """Return a repository in *reach* that may read the blob, or None if there is none."""
        query = _owner() if reach == EVERYWHERE else _owner().where(within(Repositories.name, reach))
        name = self.connection.scalar(query, {"digest": digest})
        return None if name is None else RepositoryName(name)

    def find(self, repository: RepositoryName, digest: Digest) -> BlobRow | None:
        """Return the blob, or None if the repository may not read it."""
        return self.find_noted(repository, digest, since=EPOCH)

    def find_noted(self, repository: RepositoryName, digest: Digest, *, since: datetime) -> BlobRow | None:
        """Return the blob as ``find``.

        A candidate of longer than *since* whose blob is named by a manifest or a V1 image counts as none:
        when that is dropped, it is one anew.
        """
        names = {"repository": repository, "digest": digest, "since": since}
        row = prepared.row(self.connection, _readable(), names)
        return None if row is None else BlobRow(digest, *row)

    def linked(self, repository_id: int, digests: Collection[Digest]) -> dict[Digest, int]:
        """Return the size in bytes of each of *digests* that the repository may read.

        Their links are locked against deletion until the transaction ends.
        """
        found = dict[Digest, int]()
        for batch in batches(digests):
            named = prepared.listed("digest", batch)
            values = {"repository": repository_id, **named}
            found.update(prepared.rows(self.connection, _linked(len(named)), values))
        return found

    def hold(self, repository_id: int, *digests: Digest) -> dict[Digest, int]:
        """Return what ``linked`` does, with the rows of the blobs locked first, in the order of all."""
        self.connection.execute(_ordered(Blobs.digest.in_(digests)).with_for_update(key_share=True)).all()
        return self.linked(repository_id, digests)

    def sizes(self, digests: Collection[Digest]) -> dict[Digest, int]:
        """Return the size in bytes of each of *digests* that any repository has."""
        return blob_sizes(self.connection, digests)

    def held(self, after: Digest | None, limit: int) -> list[BlobRow]:
        """Return blobs that a repository may read, and that are not known to be damaged, in order.

        Args:
            after: The last one of the page before.
            limit: How many, at most.
        """
        linked = exists().where(RepositoryBlobs.digest == Blobs.digest)
        query = select(Blobs.digest, Blobs.size).where(linked, Blobs.damaged_at.is_(None))
        query = query.where(Blobs.digest > after) if after else query
        return [BlobRow(*row) for row in self.connection.execute(query.order_by(Blobs.digest).limit(limit))]

    def known(
        self, repository: RepositoryName, digests: Collection[Digest]
    ) -> dict[Digest, tuple[BlobRow, bool]]:
        """Return those of *digests* that any repository may read, and whether this one may."""
        return {
            row[0]: (BlobRow(row[0], row[1]), row[2])
            for batch in batches(digests)
            for row in self.connection.execute(_known(), {"repository": repository, "digests": batch})
        }

    def referrers(self, repository_id: int, digest: Digest) -> tuple[str, ...]:
        """Return what uses the blob in the repository: digests of manifests, then V1 image ids.

        At most REFERRERS_LIMIT of either.
        """
        # As ``ManifestQueries.parents``.
        manifests = select(ManifestChildren.manifest, ManifestChildren.position).where(
            ManifestChildren.repository_id == repository_id, ManifestChildren.child == digest
        )
        images = select(V1Images.image_id).where(
            V1Images.repository_id == repository_id, (V1Images.layer == digest) | (V1Images.json == digest)
        )
        found = [
            row
            for query in (manifests, images)
            for row in self.connection.scalars(query.limit(REFERRERS_LIMIT))
        ]
        return tuple(dict.fromkeys(map(str, found)))


def blob_sizes(connection: Connection, digests: Collection[Digest]) -> dict[Digest, int]:
    """Return the size in bytes of each of *digests* that any repository has."""
    query = select(Blobs.digest, Blobs.size)
    return {
        digest: size
        for batch in batches(digests)
        for digest, size in connection.execute(query.where(Blobs.digest.in_(batch)))
    }


@cache
def _record(dialect: str) -> Any:  # noqa: ANN401 -- see insert_for
    """Return the statement of ``record``, cached as those below: building it takes long."""
    return _revive(dialect).returning(Blobs.size)


@cache
def _revive(dialect: str) -> Any:  # noqa: ANN401 -- see insert_for
    row = insert_for(dialect, Blobs)
    known = case((Blobs.condemned_at.is_(None), Blobs.size), else_=row.excluded.size)
    revived = {"size": known, "condemned_at": None}
    return row.on_conflict_do_update(index_elements=[Blobs.digest], set_=revived)


@cache
def _admit(dialect: str) -> Any:  # noqa: ANN401 -- see insert_for
    row = insert_for(dialect, Blobs)
    found = {"size": row.excluded.size, "verified_at": row.excluded.verified_at}
    found |= {"condemned_at": None, "damaged_at": None}
    return row.on_conflict_do_update(index_elements=[Blobs.digest], set_=found)


@cache
def _link(dialect: str) -> Any:  # noqa: ANN401 -- see insert_for
    row = insert_for(dialect, RepositoryBlobs)
    times = {name: row.excluded[name] for name in ("linked_at", "candidate_since")}
    columns = [RepositoryBlobs.repository_id, RepositoryBlobs.digest]
    return row.on_conflict_do_update(index_elements=columns, set_=times)


@cache
def _known() -> Select[Digest, int, bool]:
    link = RepositoryBlobs
    own = select(link.digest).join(Repositories, Repositories.id == link.repository_id)
    own = own.where(Repositories.name == bindparam("repository"), link.digest == Blobs.digest)
    among = Blobs.digest.in_(bindparam("digests", expanding=True))
    held = exists().where(link.digest == Blobs.digest)
    return select(Blobs.digest, Blobs.size, own.exists()).where(among, held)


@cache
def _owner() -> Select[str]:
    query = select(Repositories.name).join(RepositoryBlobs, RepositoryBlobs.repository_id == Repositories.id)
    return query.where(RepositoryBlobs.digest == bindparam("digest")).limit(1)


@cache
def _linked(count: int) -> Select[Digest, int]:
    found = prepared.among(RepositoryBlobs.digest, "digest", count)
    return (
        select(Blobs.digest, Blobs.size)
        .join(RepositoryBlobs, RepositoryBlobs.digest == Blobs.digest)
        .where(RepositoryBlobs.repository_id == bindparam("repository"), found)
        .with_for_update(read=True, key_share=True, of=RepositoryBlobs)
    )


@cache
def _readable() -> Select[int, datetime | None, bool]:
    """Return the statement of ``find_noted``, cached: building it takes longer than executing it."""
    noted = RepositoryBlobs.candidate_since
    recent = or_(noted.is_(None), noted > bindparam("since", type_=noted.type))
    return (
        select(
            Blobs.size,
            case((recent, noted), (or_(*_namings()), None), else_=noted),
            Blobs.damaged_at.is_not(None),
        )
        .join(RepositoryBlobs, RepositoryBlobs.digest == Blobs.digest)
        .join(Repositories, Repositories.id == RepositoryBlobs.repository_id)
        .where(Repositories.name == bindparam("repository"), Blobs.digest == bindparam("digest"))
    )


def _ordered(condition: ColumnElement[bool]) -> Select[Digest]:
    """Return the digests of blobs in the order in which their rows are locked."""
    return select(Blobs.digest).where(condition).order_by(Blobs.digest)


def not_used() -> ColumnElement[bool]:
    """Return the condition that nothing in its repository uses a row of RepositoryBlobs."""
    return and_(*(~use for use in _uses()))


def _uses() -> tuple[ColumnElement[bool], ...]:
    """Return a condition for each way in which a row of RepositoryBlobs can be in use."""
    link = RepositoryBlobs
    return (
        exists().where(Manifests.repository_id == link.repository_id, Manifests.digest == link.digest),
        exists().where(V1Images.repository_id == link.repository_id, V1Images.json == link.digest),
        *_namings(),
    )


def _namings() -> tuple[ColumnElement[bool], ...]:
    """Return those of ``_uses`` that are by other documents, not as the document of what may be unused."""
    link = RepositoryBlobs
    return (
        exists().where(
            ManifestChildren.repository_id == link.repository_id, ManifestChildren.child == link.digest
        ),
        exists().where(V1Images.repository_id == link.repository_id, V1Images.layer == link.digest),
    )
