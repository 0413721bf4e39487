"""SQL of tags that were deleted here, and are not to come back from where they came from."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from dualreg.catalog.dialects import insert
from dualreg.catalog.tables import ForgottenTags
from dualreg.image.names import RepositoryName, Tag


@dataclass(frozen=True, slots=True)
class ForgottenQueries:
    """Which tags were deleted, and when."""

    connection: Connection
    now: datetime

    def mark(self, repository: RepositoryName, tags: Iterable[Tag]) -> None:
        """Record that *tags* are deleted now."""
        rows = [{"repository": repository, "tag": tag, "at": self.now} for tag in sorted(set(tags))]
        if rows:
            row = insert(self.connection, ForgottenTags)
            again = row.on_conflict_do_update(
                index_elements=[ForgottenTags.repository, ForgottenTags.tag], set_={"at": self.now}
            )
            self.connection.execute(again, rows)

    def at(self, repository: RepositoryName, tag: Tag) -> datetime | None:
        """Return when the tag was deleted last; None: never."""
        here = (ForgottenTags.repository == repository) & (ForgottenTags.tag == tag)
        return self.connection.scalar(select(ForgottenTags.at).where(here))

    def of(self, repository: RepositoryName) -> dict[Tag, datetime]:
        """Return when each tag of a repository was deleted."""
        query = select(ForgottenTags.tag, ForgottenTags.at).where(ForgottenTags.repository == repository)
        return {Tag(tag): at for tag, at in self.connection.execute(query)}
