"""Collections of garbage, counted in the catalog and in the store.

A catalog that was restored from a backup does not know what was pushed since, and a collection would delete
that. Such a catalog is recognized by its number, which is lower than that of the store.
"""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from dualreg.catalog.database import Catalog
from dualreg.catalog.notes import Note
from dualreg.storage.base import PrivateFiles

#: The name of the file in the store.
NAME = "collections"
#: Servers do not look at their clocks at the same moment.
_ALMOST = 0.9


class Totals(NamedTuple):
    """What collections that have ended did, in all; those of a catalog that was made anew are not in it.

    Attributes:
        complete, stopped: How many left nothing that was due, and how many did.
        blobs, bytes, uploads: What they deleted, and the uploads that they discarded.
        ended_at: When the last one ended, in seconds since 1970; 0: none has.
        seconds: How long that one took.
        is_complete: Whether it left nothing that was due.
    """

    complete: int = 0
    stopped: int = 0
    blobs: int = 0
    bytes: int = 0
    uploads: int = 0
    ended_at: float = 0.0
    seconds: float = 0.0
    is_complete: bool = True


@dataclass(frozen=True, slots=True)
class Collections:
    """Counts collections."""

    catalog: Catalog
    files: PrivateFiles

    def count(self) -> None:
        """Count one that is about to begin.

        The catalog is first, so that the store's number is lower where only one of them was written.
        """
        with self.catalog.begin() as tx:
            number = int(tx.notes.lock(Note.COLLECTIONS) or 0) + 1
            tx.notes.write(Note.COLLECTIONS, str(number))
        self.files.write_private(NAME, str(number).encode())

    def is_due(self, interval: timedelta) -> bool:
        """Return whether no server has begun a collection within *interval*, or almost, that has ended."""
        with self.catalog.read() as tx:
            last = tx.notes.read(Note.COLLECTED)
            return not last or abs(tx.now - datetime.fromisoformat(last)) >= interval * _ALMOST

    def note_end(self, began: datetime) -> None:
        """Note that a collection of a server has ended, and when it *began*."""
        with self.catalog.begin() as tx:
            tx.notes.write(Note.COLLECTED, began.isoformat())

    def note_result(self, seconds: float, *, blobs: int, bytes: int, uploads: int, is_complete: bool) -> None:
        """Add what a collection that took so many *seconds* has done to the totals."""
        with self.catalog.begin() as tx:
            known = _totals(tx.notes.lock(Note.COLLECTED_TOTALS))
            totals = Totals(
                known.complete + is_complete,
                known.stopped + (not is_complete),
                known.blobs + blobs,
                known.bytes + bytes,
                known.uploads + uploads,
                tx.now.timestamp(),
                seconds,
                is_complete,
            )
            tx.notes.write(Note.COLLECTED_TOTALS, json.dumps(totals._asdict()))

    def totals(self) -> Totals:
        """Return what collections that have ended did."""
        with self.catalog.read() as tx:
            return _totals(tx.notes.read(Note.COLLECTED_TOTALS))

    def started(self) -> int:
        """Return how many collections have begun."""
        with self.catalog.read() as tx:
            return int(tx.notes.read(Note.COLLECTIONS) or 0)

    def catch_up(self) -> None:
        """Give a store that knows of fewer collections the number of the catalog."""
        with self.catalog.read() as tx:
            number = int(tx.notes.read(Note.COLLECTIONS) or 0)
        if self.stored() < number:
            self.files.write_private(NAME, str(number).encode())

    def is_catalog_older(self) -> bool:
        """Return whether the store knows of a collection that the catalog does not know of."""
        stored = self.stored()  # first: the catalog may be counted in meanwhile
        with self.catalog.read() as tx:
            return int(tx.notes.read(Note.COLLECTIONS) or 0) < stored

    def adopt(self) -> None:
        """Give a catalog that has no content the number of the store."""
        if self.is_catalog_older():
            with self.catalog.begin() as tx:
                tx.notes.write(Note.COLLECTIONS, str(self.stored()))

    def stored(self) -> int:
        """Return the number of the store; 0 if it has none, or one that cannot be understood.

        A catalog that is made from the store takes it.
        """
        content = self.files.read_private(NAME) or b""
        return int(content) if content.isdigit() else 0


def _totals(note: str | None) -> Totals:
    return Totals(**json.loads(note)) if note else Totals()
