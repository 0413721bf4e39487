"""Figures: what the catalog knows, looked at by one process of a server once in a while, for all of them.

A look reads whole tables. So the next one is due after a minute, or after a hundred times as long as the last
one took; it is made in a thread of its own, and who asks gets what is known.
"""

import fcntl
import json
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock, Thread
from typing import Any

from dualreg.catalog.database import DatabaseFailure, failure_text

_log = logging.getLogger(__name__)
_FILE, _LOCK = "figures.json", "figures.lock"
#: Seconds between two looks, and between one that failed and the next.
_INTERVAL, _AFTER_FAILURE = 60.0, 300.0
#: The part of the time that looks may take.
_SHARE = 0.01
#: Seconds for which who asks first waits.
_PATIENCE = 2.0
#: Found figures, and when they were, with how long that took.
Known = Mapping[str, Any]


class SharedFigures:
    """Figures, in a file of the folder that the processes of a server share."""

    def __init__(self, folder: Path, look: Callable[[], Mapping[str, Any]]) -> None:
        """Have *look* find them, whose values are those of JSON; it may take long."""
        self._file, self._lock_file, self._look = folder / _FILE, folder / _LOCK, look
        self._thread: Thread | None = None
        self._lock = Lock()

    def known(self) -> Known | None:
        """Return what is known: ``found``, ``at`` and ``seconds``; None: nothing yet. Let it be renewed."""
        known = self._read()
        if known is None or time.time() >= known["due"]:
            thread = self._start()
            if known is None:
                thread.join(_PATIENCE)
                known = self._read()
        return known if known and known["found"] else None

    def _read(self) -> Known | None:
        with suppress(FileNotFoundError):
            known: Known = json.loads(self._file.read_bytes())
            return known
        return None

    def _start(self) -> Thread:
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = Thread(target=self._renew, name="figures", daemon=True)
                self._thread.start()
            return self._thread

    def _renew(self) -> None:
        """Look, unless another process does, or has just done so."""
        with self._lock_file.open("ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            known = self._read()
            if known is None or time.time() >= known["due"]:
                self._write(self._found(known or {"found": None, "at": 0.0, "seconds": 0.0}))

    def _found(self, known: Known) -> Known:
        began = time.monotonic()
        try:
            found = self._look()
        except DatabaseFailure as error:
            _log.warning("cannot find out how much there is: %s", failure_text(error))
            return {**known, "due": time.time() + _AFTER_FAILURE}
        except Exception:  # noqa: BLE001 -- whatever it is, the next scrape must not try again at once
            _log.exception("failed to find out how much there is")
            return {**known, "due": time.time() + _AFTER_FAILURE}
        seconds, now = time.monotonic() - began, time.time()
        due = now + max(_INTERVAL, seconds / _SHARE)
        return {"found": found, "at": now, "seconds": seconds, "due": due}

    def _write(self, known: Known) -> None:
        aside = self._file.with_suffix(".new")
        aside.write_text(json.dumps(known))
        aside.replace(self._file)
