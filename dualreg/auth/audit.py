"""The audit log: a line of JSON for every write and every denial.

JSON escapes control characters, so no name can forge a line. Lines contain no credentials: of a request, only
the path is logged, without the query.
"""

import json
import logging
import os
import sys
from datetime import datetime
from io import TextIOWrapper
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import TextIO


class _Handler(WatchedFileHandler):
    """Creates files that are not world-readable."""

    def _open(self) -> TextIOWrapper:
        return open(
            self.baseFilename, "a", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, 0o640)
        )


class Audit:
    """Appends lines to a file, which may be rotated at any time, or to standard output, or nowhere.

    Several processes may append to the same file: a line is a single write.
    """

    def __init__(self, target: str, *, console: TextIO | None = None) -> None:
        """Append to *target*: a path, ``-`` for *console*, or empty to discard.

        Args:
            console: Default: standard output.

        Raises:
            OSError: the file cannot be opened.
        """
        self._handler: logging.Handler = logging.NullHandler()
        if target == "-":
            self._handler = logging.StreamHandler(console or sys.stdout)
        elif target:
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            self._handler = _Handler(target, encoding="utf-8")

    def write(self, at: datetime, event: str, **facts: object) -> None:
        """Append a line; facts that are None or empty are omitted."""
        present = {name: fact for name, fact in facts.items() if fact not in (None, "")}
        line = json.dumps({"time": at.isoformat(), "event": event} | present, default=str)
        self._handler.handle(logging.makeLogRecord({"msg": "%s", "args": (line,)}))

    def close(self) -> None:
        """Close the file."""
        self._handler.close()
