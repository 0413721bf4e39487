"""Later: notes kept in memory for a little while, so that many requests share one write."""

import logging
from collections.abc import Callable, Mapping
from datetime import timedelta
from threading import Lock, Timer
from typing import Generic, TypeVar

Key = TypeVar("Key")
Note = TypeVar("Note")

#: Notes remembered between two writings; more at once are a flood, of which the rest is not recorded.
_LIMIT = 10_000
_log = logging.getLogger(__name__)


class Later(Generic[Key, Note]):
    """One note for each key, written some time after the first. A crash loses those of the last seconds."""

    def __init__(self, write: Callable[[Mapping[Key, Note]], None], delay: timedelta | None) -> None:
        """Hand all notes to *write*, *delay* after the first; None: when ``flush`` is called."""
        self._write = write
        self._delay = delay
        self._pending: dict[Key, Note] = {}
        self._timer: Timer | None = None
        self._lock = Lock()

    def note(self, key: Key, make: Callable[[Note | None], Note]) -> None:
        """Remember what *make* returns, given what is remembered of *key* so far."""
        with self._lock:
            if key not in self._pending and len(self._pending) >= _LIMIT:
                return
            self._pending[key] = make(self._pending.get(key))
            if self._delay and self._timer is None:
                self._timer = Timer(self._delay.total_seconds(), self._run)
                self._timer.daemon = True
                self._timer.start()

    def flush(self) -> None:
        """Write what is remembered now."""
        with self._lock:
            pending, self._pending = self._pending, {}
        if pending:
            self._write(pending)

    def _run(self) -> None:
        with self._lock:
            self._timer = None
        try:
            self.flush()
        except Exception:  # noqa: BLE001 -- a busy or broken database must not end the thread unlogged
            _log.exception("what was put off could not be written")
