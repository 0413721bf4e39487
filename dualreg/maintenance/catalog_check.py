"""A check of the catalog as a database: its schema, its keys, and whether something is left to do."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from dualreg.catalog import schema
from dualreg.catalog.database import Catalog
from dualreg.catalog.notes import UNFINISHED
from dualreg.catalog.upgrade import revision
from dualreg.registry.linking import Linking


class Flaw(StrEnum):
    """What can be wrong with a catalog."""

    #: The file of SQLite is damaged.
    MALFORMED = "malformed"
    #: The revision is not that of this version.
    REVISION = "wrong-revision"
    #: A table, a column, an index or a key is not as this version expects.
    SCHEMA = "wrong-schema"
    #: Rows refer to others that do not exist.
    KEY = "broken-key"
    #: An index or a constraint of PostgreSQL is not valid.
    INVALID = "invalid-index"
    #: New rows of PostgreSQL would get the numbers of others.
    COUNTER = "low-counter"
    #: A restore, a rebuild or a copy was interrupted.
    UNFINISHED = "unfinished"
    #: Link files lack what this version writes.
    LINKS = "links-due"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong.

    Attributes:
        where: A table, a column, an index or a key; or ``database``.
    """

    kind: Flaw
    where: str
    text: str


#: What finds each kind of flaws; the last two need the tables of this version.
_LOOKS = {
    Flaw.KEY: schema.broken_keys,
    Flaw.INVALID: schema.invalid_objects,
    Flaw.SCHEMA: schema.differences,
    Flaw.COUNTER: schema.low_counters,
}


@dataclass(frozen=True, slots=True)
class CatalogCheck:
    """Checks a catalog, and changes nothing."""

    catalog: Catalog
    linking: Linking

    def run(self) -> Iterator[Finding]:
        """Yield what is wrong.

        Tables and notes are only looked at if the revision is that of this version.

        Raises:
            CatalogUnreachable, DatabaseFailure: the database cannot be reached, or fails.
        """
        found = revision(self.catalog)
        if not found.is_usable:
            yield Finding(Flaw.REVISION, "database", f"the revision is {found.found}; {found.advice}")
        with self.catalog.read() as tx:
            for kind, look in _LOOKS.items():
                if found.is_current or kind not in (Flaw.SCHEMA, Flaw.COUNTER):
                    yield from (Finding(kind, *each) for each in look(tx.connection))
            if not found.is_usable:
                return
            for note, command in UNFINISHED.items():
                if tx.notes.read(note) is not None:
                    yield Finding(Flaw.UNFINISHED, "database", f"run `dualreg {command}` again")
        if self.linking.is_incomplete():
            yield Finding(
                Flaw.LINKS, "database", "an older version wrote link files; run `dualreg db upgrade`"
            )
