"""Files that an operator may change while the registry runs."""

import logging
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Generic, TypeVar

from dualreg.mountinfo import is_local

Value = TypeVar("Value")

#: Modification time (ns), size and inode of each file; another one means that it has changed.
_Stamps = list[tuple[int, int, int]]
_log = logging.getLogger(__name__)


class ReloadingFile(Generic[Value]):
    """A value that is read from files, and read again when one of them changes; for any number of threads.

    A change that cannot be read keeps the last value: it is logged once, and tried again at every access.
    """

    def __init__(self, read: Callable[[], Value], *paths: Path) -> None:
        """Read the value.

        Args:
            read: Reads all of *paths* at once; raises OSError or ValueError.

        Raises:
            ValueError: one of the files cannot be read, or *read* rejects it.
        """
        self._read = read
        self._paths = paths
        self._name = " and ".join(map(str, paths))
        self._lock = Lock()
        self._last_error = ""
        self._generation = 0
        try:
            self._loaded = self._stamps()
            self._value = read()
        except (OSError, ValueError) as error:
            raise ValueError(f"cannot load {self._name}: {error}") from error

    def get(self) -> Value:
        """Return the current value."""
        with self._lock:
            self._reload()
            return self._value

    def generation(self, *, wait: bool = True) -> int | None:
        """Return a number that is another one if ``get`` now returns another value than before.

        Args:
            wait: Whether to read a file that has changed; otherwise None is returned, also while one is read.

        Raises:
            OSError: a file cannot be looked at, and *wait* is False.
        """
        if not self._lock.acquire(blocking=wait):
            return None
        try:
            if wait:
                self._reload()
            elif self._stamps() != self._loaded:
                return None
            return self._generation
        finally:
            self._lock.release()

    @property
    def is_local(self) -> bool:
        """Whether all files are on this machine."""
        return all(map(is_local, self._paths))

    def _reload(self) -> None:
        try:
            stamps = self._stamps()
            if stamps != self._loaded:
                self._value = self._read()
                self._loaded, self._last_error = stamps, ""
                self._generation += 1
                _log.warning("reloaded %s", self._name)
        except (OSError, ValueError) as error:
            if str(error) != self._last_error:
                self._last_error = str(error)
                _log.warning("cannot reload %s, using the last version: %s", self._name, error)

    def _stamps(self) -> _Stamps:
        found = [path.stat() for path in self._paths]
        return [(stat.st_mtime_ns, stat.st_size, stat.st_ino) for stat in found]
