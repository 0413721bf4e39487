"""Marks: where it is kept that a registry is read-only, for all processes that serve it.

A file in the folder of the store takes one look. If there is no folder, instances share nothing but the
database: then it is a note in the catalog, which a process reads once a second.
"""

import json
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import NamedTuple, Protocol

from dualreg.catalog.database import Catalog
from dualreg.catalog.notes import Note
from dualreg.storage import durable

#: The name of the file.
MARK = "readonly.json"
#: Characters of a reason: clients print it with each push that is refused.
_REASON_LIMIT = 500
#: Seconds for which a note that was read counts.
_FRESH = 1.0


class Mark(NamedTuple):
    """Why the registry is read-only, and since when."""

    reason: str
    since: str

    @classmethod
    def parse(cls, text: str) -> "Mark":
        """Return what *text* says; whatever else somebody has written there is no reason."""
        try:
            document = json.loads(text)
            return cls(str(document["reason"]), str(document["since"]))
        except (ValueError, KeyError, TypeError):
            return UNEXPLAINED

    def format(self) -> str:
        """Return what ``parse`` reads."""
        return json.dumps(self._asdict())


#: The mark of a file that was made without the command.
UNEXPLAINED = Mark("the operator has made it read-only", "")


def check_reason(reason: str) -> None:
    """Check that clients can be shown a reason.

    Raises:
        ValueError: they cannot.
    """
    if not reason.strip() or not reason.isprintable() or len(reason) > _REASON_LIMIT:
        raise ValueError(f"invalid reason; expected 1 to {_REASON_LIMIT} printable characters")


class Marker(Protocol):
    """Keeps the mark."""

    def read(self) -> Mark | None:
        """Return the mark; None: the registry is not read-only."""

    def write(self, mark: Mark) -> None:
        """Make the registry read-only, durably, or change why it is."""

    def remove(self) -> bool:
        """Let the registry be written again; return whether it was read-only."""


@dataclass(frozen=True, slots=True)
class FileMark:
    """Keeps it in a folder."""

    folder: Path

    @property
    def _path(self) -> Path:
        return self.folder / MARK

    def read(self) -> Mark | None:
        path = f"{self.folder}/{MARK}"
        try:
            os.stat(path)  # noqa: PTH116 -- each request that writes does this
            return Mark.parse(Path(path).read_text("utf-8"))
        except FileNotFoundError:
            return None
        except (ValueError, IsADirectoryError):
            return UNEXPLAINED

    def write(self, mark: Mark) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)  # of a store that nothing was written to yet
        fresh = self.folder / f".{MARK}.{os.getpid()}"
        fresh.unlink(missing_ok=True)  # of a process that was killed
        descriptor = durable.create(fresh)
        try:
            durable.write(descriptor, mark.format().encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        fresh.replace(self._path)
        durable.sync(self.folder)

    def remove(self) -> bool:
        try:
            self._path.unlink()
        except FileNotFoundError:
            return False
        durable.sync(self.folder)
        return True


@dataclass(slots=True)
class NoteMark:
    """Keeps it in a catalog.

    Attributes:
        open: Opens the catalog for a block.
    """

    open: Callable[[], AbstractContextManager[Catalog]]
    _seen: Mark | None = field(default=None, init=False)
    _until: float = field(default=0.0, init=False)

    def read(self) -> Mark | None:
        if monotonic() >= self._until:
            with self.open() as catalog, catalog.read() as tx:
                text = tx.notes.read(Note.READ_ONLY)
            self._seen = None if text is None else Mark.parse(text)
            self._until = monotonic() + _FRESH
        return self._seen

    def write(self, mark: Mark) -> None:
        with self.open() as catalog, catalog.begin() as tx:
            tx.notes.write(Note.READ_ONLY, mark.format())
        self._until = 0.0

    def remove(self) -> bool:
        with self.open() as catalog, catalog.begin() as tx:
            was_marked = tx.notes.lock(Note.READ_ONLY) is not None
            tx.notes.remove(Note.READ_ONLY)
        self._until = 0.0
        return was_marked


@dataclass(frozen=True, slots=True)
class Marks:
    """Keeps it in several places, and finds it in any, while content moves from one store to another."""

    places: Sequence[Marker]

    def read(self) -> Mark | None:
        return next(filter(None, (each.read() for each in self.places)), None)

    def write(self, mark: Mark) -> None:
        for each in self.places:
            each.write(mark)

    def remove(self) -> bool:
        removed = [each.remove() for each in self.places]
        return any(removed)


@dataclass(frozen=True, slots=True)
class FixedMark:
    """Is that of a registry which is never written."""

    mark: Mark

    def read(self) -> Mark:
        return self.mark

    def write(self, mark: Mark) -> None:
        pass

    def remove(self) -> bool:
        return False
