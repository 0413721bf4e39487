"""Status: what the last look at a copy has found, in a file beside the catalog; and the lock of who looks."""

import errno
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from threading import Event
from typing import Any

from dualreg.maintenance.follow.follower import Look
from dualreg.ownership import inherit_owner

_STATUS, _LOCK = "follow.json", "follow.lock"
#: Tags that wait which are listed at most.
_LISTED = 1000
#: Seconds between two tries to get the lock.
_PAUSE = 0.2


@dataclass(frozen=True, slots=True)
class StatusFile:
    """The file of the status in the data directory *folder*."""

    folder: Path

    @contextmanager
    def locked(self, stop: Event) -> Iterator[bool]:
        """Be the one process that looks, for the block; yield False if *stop* is set before."""
        file = self.folder / _LOCK
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            inherit_owner(file)
            while not (held := _try_lock(descriptor)) and not stop.is_set():
                stop.wait(_PAUSE)
            yield held
        finally:
            os.close(descriptor)

    def read(self) -> dict[str, Any]:
        """Return what was found last.

        Raises:
            FileNotFoundError: nothing yet, or a power cut has emptied the file.
        """
        file = self.folder / _STATUS
        try:
            found: dict[str, Any] = json.loads(file.read_text())
        except ValueError as error:
            raise FileNotFoundError(errno.ENOENT, "it is not JSON", str(file)) from error
        return found

    def note(self, look: Look, *, at: datetime, seconds: float) -> None:
        """Write what a look has found, which took *seconds* and ended *at*."""
        waiting = [asdict(each) | {"since": each.since.isoformat()} for each in look.waiting]
        self._write(
            {
                "looked_at": at.isoformat(),
                "seconds": round(seconds, 3),
                "changed_at": at.isoformat() if look.counts["changed"] else self._last().get("changed_at"),
                "newest_push": look.newest and look.newest.isoformat(),
                "repositories": look.counts["repositories"],
                "tags": look.counts["tags"],
                "waiting": waiting[:_LISTED],
                "error": "",
            }
        )

    def fail(self, reason: str) -> None:
        """Write that looking fails now, beside what was found last."""
        if last := self._last():
            self._write({**last, "error": reason})

    def _last(self) -> Mapping[str, Any]:
        try:
            return self.read()
        except FileNotFoundError:
            return {}

    def _write(self, found: Mapping[str, Any]) -> None:
        fresh = self.folder / f".{_STATUS}"
        fresh.write_text(json.dumps(found))
        inherit_owner(fresh)
        fresh.replace(self.folder / _STATUS)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
