"""Scrubbing: blobs read and verified while the registry serves, slowly, those that were sent lately first.

One thread of each worker process does it; of all instances, one process at a time reads blobs that were not
sent. A damaged blob is set aside, so that clients do not get it and push it.
"""

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import Event, Thread
from typing import NamedTuple

from dualreg.catalog.checks import Stale
from dualreg.catalog.database import Catalog, DatabaseFailure
from dualreg.catalog.leading import Duty, lead
from dualreg.catalog.rows import BlobRow
from dualreg.errors import BlobMissing
from dualreg.image.digest import Digest
from dualreg.registry.integrity import Integrity
from dualreg.storage.base import StoreUnavailable

_log = logging.getLogger(__name__)
#: How long a blob that was verified is taken to be sound: one that is sent, and any.
SERVED_AGE, AGE = timedelta(days=7), timedelta(days=30)
#: The same in a run that an operator wants: what an interrupted one has verified counts for the next.
RUN_AGE = timedelta(days=1)
#: Seconds between two looks for something to do.
_INTERVAL = 5.0


class Scrubbed(NamedTuple):
    """How many blobs were looked at, and how many of them are sound."""

    blobs: int
    sound: int


@dataclass
class Scrubber:
    """Verifies blobs in a thread, or when it is called.

    Attributes:
        rate: Bytes that are read in a second at most; 0: as fast as they can be.
    """

    catalog: Catalog
    integrity: Integrity
    rate: int
    _stop: Event = field(default_factory=Event)
    _place: tuple[datetime, Digest] | None = None

    def start(self) -> None:
        """Start the thread, which ends with the process."""
        Thread(target=self._run, name="scrubber", daemon=True).start()

    def stop(self) -> None:
        """Have the thread end soon."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(_INTERVAL):
            try:
                self.scrub_served()
                self.scrub_stale()
            except (DatabaseFailure, OSError) as error:
                _log.warning("cannot verify blobs: %s", error)

    def scrub_served(self) -> None:
        """Verify blobs that were sent, unless that was done lately."""
        digests = set[Digest]()
        with suppress(IndexError):
            while True:
                digests.add(self.integrity.served.popleft())
        if digests:
            before = self.catalog.now() - SERVED_AGE
            with self.catalog.read() as tx:
                stale = tx.checks.verified_before(digests, before)
            self._verify_all(stale)

    def scrub_stale(self) -> None:
        """Verify some of the blobs that were not verified for longest, if no other process does.

        The next call goes on after them, since those that are damaged stay what was not verified for longest.
        """
        before = self.catalog.now() - AGE
        if not self._page(before):  # most often
            self._place = None
            return
        with lead(self.catalog, Duty.SCRUBBING) as led:
            if led is not None:
                self._scrub_page(before)

    def scrub_all(self) -> Scrubbed:
        """Verify all blobs, but those that were verified lately; the caller leads the duty."""
        before, blobs, sound = self.catalog.now() - RUN_AGE, 0, 0
        while (page := self._scrub_page(before)).blobs:
            blobs, sound = blobs + page.blobs, sound + page.sound
        return Scrubbed(blobs, sound)

    def _scrub_page(self, before: datetime) -> Scrubbed:
        page = self._page(before)
        self._place = (page[-1][0], page[-1][1].digest) if page else None
        return Scrubbed(len(page), self._verify_all([blob for _, blob in page]))

    def _page(self, before: datetime) -> Sequence[tuple[datetime, BlobRow]]:
        """Return some of the blobs that were last verified before an instant, after the last ones."""
        with self.catalog.read() as tx:
            return tx.checks.stalest(Stale(before), self._place)

    def _verify_all(self, blobs: list[BlobRow]) -> int:
        """Return how many are sound."""
        sound = 0
        for blob in blobs:
            if self._stop.is_set():
                break
            if self._is_sound(blob):
                sound += 1
                with self.catalog.begin() as tx:
                    tx.blobs.mark_verified([blob.digest])
        return sound

    def _is_sound(self, blob: BlobRow) -> bool:
        """Return whether the blob was read and is sound; else an alarm was raised."""

        def pace(count: int) -> None:
            if self.rate:
                self._stop.wait(count / self.rate)

        if not self.integrity.holds(blob):
            return False
        try:
            return self.integrity.verify(blob.digest, pace=pace)
        except StoreUnavailable:
            raise
        except (BlobMissing, OSError) as error:
            self.integrity.alarm(blob.digest, f"it cannot be read ({error})")
            return False
