"""Sealed: a copy of accounts, permissions, policies and keys beside the blobs, for when the catalog is lost.

Nothing else in the store says who may do what. The copy is a file that only its owner can read. Every change
writes it anew after its commit and before its answer, under a lock, with the number of the change. If that
fails, or the process is killed in between, the next change or the next start does it.
"""

import json
import logging
from dataclasses import dataclass
from typing import Any

from dualreg.catalog.access import Dump
from dualreg.catalog.database import Catalog, DatabaseFailure, Transaction
from dualreg.catalog.notes import Note
from dualreg.image.digest import Digest
from dualreg.storage.base import PrivateFiles

_log = logging.getLogger(__name__)
#: The name of the file in the store.
NAME = "access.json"


class SealedInvalid(Exception):
    """The copy cannot be read; the message says why."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """Writes and restores the copy."""

    catalog: Catalog
    files: PrivateFiles

    def write(self) -> None:
        """Write the copy if the catalog is not older than it; a failure is logged.

        If the lock was lost, as after a long pause, what was written may have replaced a newer copy. So it is
        written once more.
        """
        try:
            try:
                self._write()
            except DatabaseFailure:
                self._write()
        except (OSError, DatabaseFailure, SealedInvalid) as error:
            _log.error("cannot write %s, the copy of accounts, permissions and keys: %s", NAME, error)

    def _write(self) -> None:
        """Write the copy.

        Raises:
            OSError, DatabaseFailure, SealedInvalid: it may be written all the same.
        """
        with self.catalog.begin() as tx:
            revision = int(tx.notes.lock(Note.ACCESS) or 0)
            if revision < self.revision():
                _log.warning("%s is newer than the catalog, and is left as it is", NAME)
                return
            content = {"revision": revision, "tables": tx.access.dump()}
            self.catalog.settle_locked()  # the copy is never newer than the catalog
            self.files.write_private(NAME, json.dumps(content, indent=1).encode())

    def catch_up(self) -> bool:
        """Write the copy if the last change did not; return whether it has all changes now."""
        if self._is_behind():
            self.write()
        return not self._is_behind()

    def _is_behind(self) -> bool:
        with self.catalog.read() as tx:
            revision, known = int(tx.notes.read(Note.ACCESS) or 0), not tx.access.is_empty()
        return self.revision() < revision or (known and not self.revision())

    def is_ahead(self) -> bool:
        """Return whether the copy knows changes that the catalog does not.

        Raises:
            SealedInvalid.
        """
        with self.catalog.read() as tx:
            return int(tx.notes.read(Note.ACCESS) or 0) < self.revision()

    def restore(self) -> int:
        """Record what the copy contains if it is newer than the catalog, and that has none of it.

        Return the number of accounts.

        Raises:
            SealedInvalid.
        """
        revision, dump = self._read()
        with self.catalog.begin() as tx:
            if revision <= int(tx.notes.lock(Note.ACCESS) or 0) or not tx.access.is_empty():
                return 0
            self._record(tx, revision, dump)
        return len(dump["accounts"])

    def _record(self, tx: Transaction, revision: int, dump: Dump) -> None:
        try:
            tx.access.restore(dump)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise SealedInvalid(f"{NAME} is damaged: {error}") from error
        tx.notes.write(Note.ACCESS, str(revision))

    def mirror(self) -> bool:
        """Record what the copy contains in place of what the catalog has, unless that was done.

        Return whether it was done now. Without a copy, what the catalog has stays. Copies are compared as a
        whole: those of two registries, or of one before and after a restore, may have the same number.

        Raises:
            SealedInvalid.
        """
        revision, dump = self._read()
        content = str(Digest.of(json.dumps([revision, dump], sort_keys=True).encode()))
        with self.catalog.begin() as tx:
            if not revision or tx.notes.lock(Note.MIRRORED) == content:
                return False
            self._record(tx, revision, dump)
            tx.notes.write(Note.MIRRORED, content)
        return True

    def revision(self) -> int:
        """Return the number of the change that the copy was written for; 0: there is no copy.

        Raises:
            SealedInvalid.
        """
        return self._read()[0]

    def _read(self) -> tuple[int, Dump]:
        try:
            content = self.files.read_private(NAME)
            if content is None:
                return 0, {}
            document: dict[str, Any] = json.loads(content)
            return int(document["revision"]), dict(document["tables"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SealedInvalid(f"{NAME} cannot be read: {error}") from error
