"""The audit log: a line of JSON for every write and every denial.

JSON escapes control characters, so no name can forge a line. Lines contain no credentials: of a request, only
the path is logged, without the query.
"""

import logging
import os
import sys
from contextlib import suppress
from datetime import datetime
from io import TextIOWrapper
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import TextIO

from dualreg.errors import AuditUnavailable
from dualreg.messages import json_text
from dualreg.ownership import inherit_owner, make_folders

_log = logging.getLogger(__name__)


def _open_private(name: str, flags: int) -> int:
    """Open a file; one that is new is not world-readable."""
    path = Path(name)
    new = not path.exists()
    descriptor = os.open(path, flags, 0o640)
    if new:
        inherit_owner(path)
    return descriptor


class _Handler(WatchedFileHandler):
    """Raises what fails."""

    def _open(self) -> TextIOWrapper:
        make_folders(Path(self.baseFilename).parent)
        return open(self.baseFilename, "a", encoding="utf-8", opener=_open_private)

    def ready(self) -> None:
        """Open the file unless it is open, and write what could not be written before."""
        with self.lock:  # type: ignore[union-attr]  # None only while the handler is made
            self.reopenIfNeeded()
            if self.stream is None:
                self.stream = self._open()
                self._statstream()
            self.stream.flush()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 -- logging's
        """Raise the exception that is being handled."""
        del record
        raise  # noqa: PLE0704 -- logging calls this in its except clause


class Audit:
    """Appends lines to a file, which may be rotated at any time, or to standard output, or nowhere.

    Several processes may append to the same file: a line is a single write. Whoever changes something calls
    ``ready`` before and ``write`` afterwards.
    """

    def __init__(self, target: str, *, console: TextIO | None = None) -> None:
        """Append to *target*: a path, ``-`` for *console*, or empty to discard.

        Args:
            console: Default: standard output.
        """
        self._handler: logging.Handler = logging.NullHandler()
        if target == "-":
            self._handler = logging.StreamHandler(console or sys.stdout)
        elif target:
            self._handler = _Handler(target, encoding="utf-8", delay=True)

    def ready(self) -> None:
        """Check that lines can be appended; creates the file.

        Raises:
            AuditUnavailable: they cannot.
        """
        try:
            if isinstance(self._handler, _Handler):
                self._handler.ready()
        except OSError as error:
            raise AuditUnavailable(f"cannot write the audit log: {error}") from error

    def failures(self) -> dict[str, str]:
        """Return the name of the error under ``audit`` if lines cannot be appended; otherwise nothing."""
        try:
            self.ready()
        except AuditUnavailable as error:
            return {"audit": type(error.__cause__).__name__}
        return {}

    def write(self, at: datetime, event: str, **facts: object) -> None:
        """Append a line; facts that are None or empty are omitted.

        What it records has happened, so a failure raises nothing: the line goes to the server's log instead.
        """
        present = {name: fact for name, fact in facts.items() if fact not in (None, "")}
        line = json_text({"time": at.isoformat(), "event": event} | present)
        try:
            self._handler.handle(logging.makeLogRecord({"msg": "%s", "args": (line,)}))
        except OSError as error:
            _log.error("cannot write the audit log: %s; the line is: %s", error, line)

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):  # what could not be written is in the server's log
            self._handler.close()
