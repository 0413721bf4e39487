"""Moves: the rows of the history of tags, and which of them are wanted."""

from collections.abc import Collection
from datetime import datetime
from typing import Any, NamedTuple, Self

from dualreg.catalog.rows import ORIGINS, Origin
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag


class HistoryRow(NamedTuple):
    """A move or deletion of a tag.

    Attributes:
        actor: Who did it: an account, a command, or where it came from; empty: nobody is known.
        api: How it was asked for (``acting.Api``).
        old: What the tag pointed at before; None: it was created.
        new: What it points at since; None: it was deleted.
        origin: That of *new*, or else of *old*, as are *media_type* and *size*, in bytes.
    """

    id: int
    repository: RepositoryName
    tag: Tag
    at: datetime
    actor: str
    api: str
    old: Digest | None
    new: Digest | None
    origin: Origin
    media_type: str
    size: int

    @classmethod
    def of(cls, row: Any) -> Self:  # noqa: ANN401 -- of a table, whose columns are in the same order
        """Return the move that a row of the history, or of what was copied from it, records."""
        id_, repository, tag, at, by, api, old, new, origin, media_type, size = row
        names = RepositoryName(repository), Tag(tag)
        return cls(id_, *names, at, by, api, old, new, Origin(origin), media_type, size)


class HistoryPlace(NamedTuple):
    """Where a row is in the history of its tag."""

    at: datetime
    id: int


class WantedMoves(NamedTuple):
    """Which rows of the history of a tag are wanted.

    Attributes:
        before, since: Only those of an earlier, and of a later time.
        digest: Only moves to it, and deletions of a tag that pointed at it.
        origins: Only those of these origins.
    """

    before: datetime | None = None
    since: datetime | None = None
    digest: Digest | None = None
    origins: Collection[Origin] = ORIGINS

    def includes(self, row: HistoryRow) -> bool:
        """Return whether the row is of the digest, if one is given."""
        return self.digest in (None, row.new or row.old)


EVERY_MOVE = WantedMoves()
