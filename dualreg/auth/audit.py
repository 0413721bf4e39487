"""Audit: every write and every denial as a line of JSON.

JSON escapes control characters, so no name can forge a line. Lines hold no credential: of a request, only
its path is written, without what follows a question mark.
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
    """Makes files that not everybody on the machine may read."""

    def _open(self) -> TextIOWrapper:
        return open(
            self.baseFilename, "a", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, 0o640)
        )


class Audit:
    """Appends lines to a file, which may be moved away at any time, or to standard output, or nowhere.

    Several processes append to one file: a line is one write.
    """

    def __init__(self, target: str, *, console: TextIO | None = None) -> None:
        """Write to *target*: a path, ``-`` for *console*, or empty for nowhere.

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
        """Append one line; facts that are None or empty are left out."""
        told = {name: fact for name, fact in facts.items() if fact not in (None, "")}
        line = json.dumps({"time": at.isoformat(), "event": event} | told, default=str)
        self._handler.handle(logging.makeLogRecord({"msg": "%s", "args": (line,)}))

    def close(self) -> None:
        """Close the file."""
        self._handler.close()
