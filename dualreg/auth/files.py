"""Files that an operator may change while the registry runs."""

import logging
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Generic, TypeVar

Value = TypeVar("Value")

#: When a file is to be read again: another time, size or inode.
_Stamp = tuple[int, int, int]
_log = logging.getLogger(__name__)


class Reread(Generic[Value]):
    """What a file says, read again when it has changed; one that makes no sense then changes nothing."""

    def __init__(self, path: Path, parse: Callable[[str], Value]) -> None:
        """Read it.

        Raises:
            ValueError: it cannot be read, or *parse* raises one.
        """
        self._path = path
        self._parse = parse
        self._lock = Lock()
        try:
            self._seen = self._stamp()
            self._value = self._read()
        except (OSError, ValueError) as error:
            raise ValueError(f"cannot use {path}: {error}") from error

    def get(self) -> Value:
        """Return what the file says."""
        with self._lock:
            try:
                stamp = self._stamp()
                if stamp != self._seen:
                    self._seen = stamp
                    self._value = self._read()
                    _log.warning("%s was read anew", self._path)
            except (OSError, ValueError) as error:
                _log.warning("%s stays as it was: %s", self._path, error)
            return self._value

    def _stamp(self) -> _Stamp:
        stat = self._path.stat()
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    def _read(self) -> Value:
        return self._parse(self._path.read_text(encoding="utf-8"))
