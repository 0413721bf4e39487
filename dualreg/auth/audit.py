"""The audit log: a line of JSON for every write and every denial.

JSON escapes control characters, so no name can forge a line. Lines contain no credentials: of a request, only
the path is logged, without the query.
"""

import logging
import os
import sys
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import TextIO

from dualreg.errors import AuditUnavailable
from dualreg.messages import json_text
from dualreg.ownership import inherit_owner, make_folders

_log = logging.getLogger(__name__)


class _File:
    """A file that is appended to. It is created again if it has been renamed or removed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened: tuple[int, os.stat_result] | None = None
        self._unwritten = b""
        self._lock = Lock()

    def ready(self) -> None:
        """Open the file unless it is open, and write what could not be written before.

        Raises:
            OSError: it cannot be opened or written to.
        """
        self.append(b"")

    def append(self, line: bytes) -> None:
        """Append a line by a single write.

        Raises:
            OSError: as ``ready``. If it was the write that failed, it is tried again before the next one.
        """
        with self._lock:
            descriptor = self._open()
            self._write(descriptor)
            self._unwritten = line
            self._write(descriptor)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._close()

    def _open(self) -> int:
        """Return the descriptor of the file that has the name now; one that is new is not world-readable."""
        try:
            found = os.stat(self._path)  # noqa: PTH116 -- each request that writes does this
        except FileNotFoundError:
            found = None
        if self._opened and found and os.path.samestat(found, self._opened[1]):
            return self._opened[0]
        self._close()
        make_folders(self._path.parent)
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        self._opened = descriptor, os.fstat(descriptor)
        if found is None:
            inherit_owner(self._path)
        return descriptor

    def _write(self, descriptor: int) -> None:
        while self._unwritten:
            self._unwritten = self._unwritten[os.write(descriptor, self._unwritten) :]

    def _close(self) -> None:
        if self._opened:
            os.close(self._opened[0])
        self._opened = None


class _Stream:
    """A stream that is appended to."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def ready(self) -> None: ...

    def append(self, line: bytes) -> None:
        self._stream.write(line.decode())
        self._stream.flush()

    def close(self) -> None: ...


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
        self._output: _File | _Stream | None = None
        if target == "-":
            self._output = _Stream(console or sys.stdout)
        elif target:
            self._output = _File(Path(target))

    def ready(self) -> None:
        """Check that lines can be appended; creates the file.

        Raises:
            AuditUnavailable: they cannot.
        """
        try:
            if self._output:
                self._output.ready()
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
        if self._output is None:
            return
        present = {name: fact for name, fact in facts.items() if fact not in (None, "")}
        line = json_text({"time": at.isoformat(), "event": event} | present)
        try:
            self._output.append(f"{line}\n".encode())
        except OSError as error:
            _log.error("cannot write the audit log: %s; the line is: %s", error, line)

    def close(self) -> None:
        """Close the file."""
        if self._output:
            with suppress(OSError):  # what could not be written is in the server's log
                self._output.close()
