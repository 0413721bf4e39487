"""Files that an operator may change while the registry runs."""

import logging
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Generic, TypeVar

Value = TypeVar("Value")

#: When files are to be read again: one has another time, size or inode.
_Stamps = list[tuple[int, int, int]]
_log = logging.getLogger(__name__)


class ReloadingFile(Generic[Value]):
    """What files say, read again when one has changed; what makes no sense then changes nothing."""

    def __init__(self, read: Callable[[], Value], *paths: Path) -> None:
        """Read them.

        Args:
            read: Reads all of *paths* at once.

        Raises:
            ValueError: one cannot be read, or *read* raises one.
        """
        self._read = read
        self._paths = paths
        self._name = " with ".join(map(str, paths))
        self._lock = Lock()
        self._trouble = ""
        try:
            self._seen = self._stamps()
            self._value = read()
        except (OSError, ValueError) as error:
            raise ValueError(f"cannot use {self._name}: {error}") from error

    def get(self) -> Value:
        """Return what the files say."""
        with self._lock:
            try:
                stamps = self._stamps()
                if stamps != self._seen:
                    self._value = self._read()
                    self._seen, self._trouble = stamps, ""
                    _log.warning("%s was read anew", self._name)
            except (OSError, ValueError) as error:
                if str(error) != self._trouble:  # said once, and tried again each time
                    self._trouble = str(error)
                    _log.warning("%s stays as it was: %s", self._name, error)
            return self._value

    def _stamps(self) -> _Stamps:
        found = [path.stat() for path in self._paths]
        return [(stat.st_mtime_ns, stat.st_size, stat.st_ino) for stat in found]
