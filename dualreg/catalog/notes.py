"""SQL of what the service notes about itself: one text by name."""

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection, Integer, Text, cast, delete, select

from dualreg.catalog.dialects import insert
from dualreg.catalog.tables import ServiceState


class Note(StrEnum):
    """The notes that there are."""

    #: The last repository that an unfinished rebuild has recorded; empty: none yet.
    REBUILD = "rebuild"
    #: The instant that the catalog of an unfinished restore is of.
    RESTORE = "restore"
    #: When a copy to this database began that is unfinished.
    COPY = "copy"
    #: The oldest revision whose versions can use the database (``catalog.upgrade``).
    OLDEST = "oldest"
    #: Which generation of link files is complete (``registry.linking``).
    LINKS = "links"
    #: How far an unfinished sweep for garbage has come (``maintenance.sweep``).
    SWEEP = "sweep"
    #: The number of the last change of accounts, permissions or keys.
    ACCESS = "access"
    #: The digest of the copy of them that a follower has taken over last.
    MIRRORED = "mirrored"
    #: The number of the last collection of garbage.
    COLLECTIONS = "collections"
    #: What collections of garbage have deleted, in all (``registry.collections``).
    COLLECTED_TOTALS = "collected-totals"
    #: Why the registry is read-only, and since when, if that is not kept in the store (``registry.marks``).
    READ_ONLY = "read-only"
    #: When the last collection that the server started has begun.
    COLLECTED = "collected"
    #: How often another process has begun to lead (``catalog.leading``).
    COLLECTION_TERM = "collection-term"
    IMPORT_TERM = "import-term"
    #: That the catalog is a follower's, and when it first had all of the copy; empty: not yet.
    FOLLOWED = "followed"
    #: What stores are marked with that the content was copied to (``maintenance.store_copy``).
    STORE_COPY = "store copy"
    #: When the health of the catalog was last checked.
    HEALTH = "health"
    #: What mirror rules have copied (``migrate.mirrored``).
    MIRRORS = "mirrors"
    #: The version of the policies, another text after each change (``catalog.policies``).
    POLICIES = "policies"
    #: As the terms above.
    MIRRORING_TERM = "mirroring-term"
    RETENTION_TERM = "retention-term"
    SCRUBBING_TERM = "scrubbing-term"
    WEBHOOKS_TERM = "webhooks-term"
    GROWTH_TERM = "growth-term"


#: Notes of work that was interrupted, and the command that goes on with it. The catalog is not served then.
UNFINISHED = {Note.RESTORE: "restore", Note.COPY: "db copy", Note.REBUILD: "db rebuild"}


@dataclass(frozen=True, slots=True)
class NoteQueries:
    """What the service notes about itself."""

    connection: Connection

    def read(self, note: Note) -> str | None:
        """Return a note; None if there is none."""
        return self.connection.scalar(select(ServiceState.value).where(ServiceState.name == note))

    def lock(self, note: Note) -> str | None:
        """Return a note, as ``read``, locked until the transaction ends."""
        query = select(ServiceState.value).where(ServiceState.name == note)
        return self.connection.scalar(query.with_for_update())

    def hold(self, note: Note) -> str | None:
        """Return a note, as ``read``, which nobody else changes until the transaction ends."""
        query = select(ServiceState.value).where(ServiceState.name == note)
        return self.connection.scalar(query.with_for_update(read=True))

    def claim(self, note: Note, initial: str) -> str:
        """Return a note, locked until the transaction ends; *initial* is written if there is none."""
        row = insert(self.connection, ServiceState).values(name=note, value=initial)
        same = row.on_conflict_do_update(
            index_elements=[ServiceState.name], set_={"value": ServiceState.value}
        )
        return str(self.connection.scalars(same.returning(ServiceState.value)).one())

    def count(self, note: Note) -> int:
        """Add one to a note that is a number, and return it."""
        row = insert(self.connection, ServiceState).values(name=note, value="1")
        more = cast(cast(ServiceState.value, Integer) + 1, Text)
        again = row.on_conflict_do_update(index_elements=[ServiceState.name], set_={"value": more})
        return int(self.connection.scalars(again.returning(ServiceState.value)).one())

    def write(self, note: Note, value: str) -> None:
        """Write a note, in place of an earlier one."""
        row = insert(self.connection, ServiceState).values(name=note, value=value)
        again = row.on_conflict_do_update(index_elements=[ServiceState.name], set_={"value": value})
        self.connection.execute(again)

    def remove(self, note: Note) -> None:
        """Remove a note. It is not an error if there is none."""
        self.connection.execute(delete(ServiceState).where(ServiceState.name == note))
