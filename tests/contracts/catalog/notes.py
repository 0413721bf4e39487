"""What the service notes about itself, and what it knows of access as a whole."""

from contextlib import suppress

from dualreg.catalog.database import Catalog
from dualreg.catalog.notes import Note
from dualreg.catalog.rows import PermissionRow
from tests.contracts.catalog.rows import NAME


class NotesContract:
    """Notes, and dumps of accounts, permissions and keys."""

    def test_notes(self, catalog: Catalog) -> None:
        """One text by name; a number can be counted up, from nothing too."""
        with catalog.begin() as tx:
            assert (tx.notes.read(Note.REBUILD), tx.notes.lock(Note.REBUILD)) == (None, None)
            tx.notes.write(Note.REBUILD, "a")
            tx.notes.write(Note.REBUILD, "")
            tx.notes.count(Note.ACCESS)
            tx.notes.count(Note.ACCESS)
        with catalog.begin() as tx:
            assert (tx.notes.read(Note.REBUILD), tx.notes.lock(Note.ACCESS)) == ("", "2")
            tx.notes.remove(Note.REBUILD)
            tx.notes.remove(Note.REBUILD)
            assert tx.notes.read(Note.REBUILD) is None

    def test_access_is_dumped_and_restored(self, catalog: Catalog) -> None:
        """Signing keys alone do not count as something that is known."""
        with catalog.begin() as tx:
            tx.keys.add("kid", "token", "pem")
            empty = tx.access.dump()
            assert tx.access.is_empty()
            tx.accounts.add("alice", "hash")
            tx.accounts.join("team", "alice")
            tx.permissions.grant(PermissionRow("@team", "*", frozenset({"pull"})))
            full = tx.access.dump()
            assert not tx.access.is_empty()
            tx.access.restore(empty)
            assert tx.access.dump() == empty
            tx.access.restore(full)
            assert tx.access.dump() == full

    def test_changes_of_access_are_announced(self, catalog: Catalog) -> None:
        """After their commit, and no others; a change that is rolled back is none."""
        seen = []

        def look() -> None:
            with catalog.read() as tx:
                seen.append((len(tx.accounts.list()), tx.notes.read(Note.ACCESS)))

        catalog.on_access_change = look
        with catalog.begin() as tx:
            tx.accounts.add("alice", None)
        with catalog.begin() as tx:
            tx.deletions.record(NAME, ["1"])
            assert tx.accounts.list()
        with suppress(ZeroDivisionError), catalog.begin() as tx:
            tx.accounts.add("bob", None)
            _ = 1 // 0
        with catalog.begin() as tx:
            tx.deletions.record(NAME, ["2"])
        with catalog.begin() as tx:
            tx.secrets.remove_all("alice")
        assert seen == [(1, "1"), (1, "2")]
