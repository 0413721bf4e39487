"""A copy of the catalog to another database, while the registry is read-only.

A note in the other database says that it is not complete. While it is there, it is not served, and the copy
may be run again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from threading import Event

from dualreg.catalog.copying import Advance, Summary, at_one_instant, copy_rows, summarize
from dualreg.catalog.database import Catalog
from dualreg.catalog.notes import Note
from dualreg.catalog.overview import look
from dualreg.catalog.upgrade import revision, upgrade
from dualreg.maintenance.backup.restore import require_empty_database


class CopyDiffers(ValueError):
    """The rows of the copy are not those of the catalog; the message names the tables."""


@dataclass(frozen=True, slots=True)
class CatalogCopy:
    """Copies a catalog.

    Attributes:
        source: The catalog of the registry, at the revision of this version.
        target: The database to copy to.
    """

    source: Catalog
    target: Catalog

    def plan(self) -> Mapping[str, int]:
        """Return how many rows of each table there are to copy; change nothing."""
        return look(self.source).rows

    def require_usable(self) -> None:
        """Check that a copy destroys nothing.

        Raises:
            NotEmpty: the target has content that no unfinished copy wrote.
            CatalogUnreachable: it cannot be reached, or a newer version made it.
        """
        found = revision(self.target)
        found.require_known()
        if found.found is None:
            return
        with self.target.read() as tx:
            if found.is_current and tx.notes.read(Note.COPY) is not None:
                return
        require_empty_database(self.target)

    def copy(self, advance: Advance, stop: Event) -> bool:
        """Copy all rows, from where an earlier copy was stopped; return whether this one was not.

        Raises:
            NotEmpty, CatalogUnreachable: as ``require_usable``.
            DatabaseFailure: a database fails.
        """
        self.require_usable()
        upgrade(self.target)
        with self.target.begin() as tx:
            tx.notes.write(Note.COPY, tx.now.isoformat())
        with at_one_instant(self.source) as rows:
            return copy_rows(rows, self.target, advance, stop)

    def verify(self, advance: Advance) -> Mapping[str, Summary]:
        """Compare all rows from both sides, and declare the copy complete; return what they are, by table.

        What was written to the source since it was copied, such as times of pulls, is copied first.

        Raises:
            CopyDiffers: they are not the same.
            DatabaseFailure: a database fails.
        """
        with at_one_instant(self.source) as rows:
            expected = summarize(rows, advance)
            found = self._summarize(advance)
            if found != expected:
                copy_rows(rows, self.target)
                found = self._summarize()
        if differing := [name for name in expected if found[name] != expected[name]]:
            raise CopyDiffers(f"the copy differs from the catalog in {', '.join(differing)}")
        with self.target.begin() as tx:
            tx.notes.remove(Note.COPY)
        return expected

    def _summarize(self, advance: Advance = lambda *_: None) -> Mapping[str, Summary]:
        with at_one_instant(self.target) as rows:
            return summarize(rows, advance)
