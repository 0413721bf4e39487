"""SQL of figures: how much of everything there is. Each reads whole tables or indexes: not for requests."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection, case, func, select

from dualreg.catalog.deleted import is_kept
from dualreg.catalog.tables import (
    Blobs,
    Manifests,
    ManifestViews,
    RepositoryBlobs,
    Table,
    TranscodedLayers,
    Uploads,
    V1Clients,
)
from dualreg.image.editions import MANY_KINDS

#: For how long a V1 client counts after its last request.
_SEEN = timedelta(days=30)
#: Docker's version, and the generations of clients by the first version of each, the newest first.
_VERSION = re.compile(r"docker/([0-9]{1,3})\.([0-9]{1,3})", re.ASCII)
_GENERATIONS = (((1, 10), "docker 1.10+"), ((1, 6), "docker 1.6-1.9"), ((1, 0), "docker 1.0-1.5"))
_OLDEST, _OTHER = "docker 0.x", "other"
_TABLES = ("repositories", "tags", "manifests", "v1_images")


#: Kinds of blobs.
_KINDS = ("content", "manifest", "transcoded", "deleted", "condemned")


class Amount(NamedTuple):
    """How many there are of something, and how many bytes they have."""

    number: int
    bytes: int


@dataclass(frozen=True, slots=True)
class FigureQueries:
    """How much there is."""

    connection: Connection
    now: datetime

    def rows(self) -> Mapping[str, int]:
        """Return the number of rows of the tables of content, by name."""
        return count_rows(self.connection, *_TABLES)

    def blobs(self) -> Mapping[str, Amount]:
        """Return the blobs by kind, each of which is there, if only as 0.

        No repository has the last two: deleted ones can be restored, and condemned ones wait for a collection
        of garbage.
        """
        made = select(TranscodedLayers.digest).where(TranscodedLayers.digest.is_not(None))
        kind = case(
            (Blobs.condemned_at.is_not(None) & is_kept(), "deleted"),
            (Blobs.condemned_at.is_not(None), "condemned"),
            (Blobs.digest.in_(select(Manifests.digest)), "manifest"),
            (Blobs.digest.in_(made), "transcoded"),
            else_="content",
        )
        of = select(kind.label("kind"), Blobs.size).subquery()
        query = select(of.c.kind, func.count(), func.sum(of.c.size)).group_by(of.c.kind)
        found = {kind: Amount(count, int(size)) for kind, count, size in self.connection.execute(query)}
        return {kind: Amount(0, 0) for kind in _KINDS} | found

    def uploads(self) -> Amount:
        """Return the uploads that were begun and not finished."""
        query = select(func.count(), func.coalesce(func.sum(Uploads.offset + Uploads.arriving), 0))
        count, size = self.connection.execute(query).one()
        return Amount(count, int(size))

    def candidates(self) -> int:
        """Return how many links may be garbage."""
        query = select(func.count()).where(RepositoryBlobs.candidate_since.is_not(None))
        return int(self.connection.scalar(query) or 0)

    def editions(self) -> Mapping[str, int]:
        """Return the number of views of manifests, by their kind; see ``Edition.common_kind``."""
        together = [(ManifestViews.kind.startswith(start), name) for start, name in MANY_KINDS.items()]
        kind = case(*together, else_=ManifestViews.kind).label("kind")
        of = select(kind).where(ManifestViews.view.is_not(None)).subquery()
        query = select(of.c.kind, func.count()).group_by(of.c.kind)
        return {row.kind: row[1] for row in self.connection.execute(query)}

    def v1_clients(self) -> Mapping[str, int]:
        """Return how many V1 clients were seen of late, by generation; an address counts for each version."""
        query = select(V1Clients.version, func.count(V1Clients.address.distinct()))
        seen = query.where(V1Clients.last_seen > self.now - _SEEN).group_by(V1Clients.version)
        found = Counter(dict.fromkeys((*(name for _, name in _GENERATIONS), _OLDEST, _OTHER), 0))
        for version, count in self.connection.execute(seen):
            found[generation_of(version)] += count
        return found


def count_rows(connection: Connection, *names: str) -> Mapping[str, int]:
    """Return the number of rows of tables, by name, counted by one statement."""
    if not names:
        return {}
    tables = [Table.metadata.tables[name] for name in names]
    counts = [select(func.count()).select_from(table).scalar_subquery() for table in tables]
    return dict(zip(names, map(int, connection.execute(select(*counts)).one()), strict=True))


def generation_of(version: str) -> str:
    """Return the generation of clients that a version, as it is recorded, belongs to."""
    match = _VERSION.match(version)
    if match is None:
        return _OTHER
    number = (int(match[1]), int(match[2]))
    return next((name for first, name in _GENERATIONS if number >= first), _OLDEST)
