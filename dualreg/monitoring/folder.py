"""Folder: the files in which the processes of one server count, in memory if the machine allows that.

The files of processes that have ended are added to one, so that no counter ever goes down, and there are
never more files than processes.
"""

import fcntl
import os
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree

from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import mark_process_dead

#: Where folders are made, if there is such a thing: files there are in memory.
_MEMORY = Path("/dev/shm")  # noqa: S108 -- the folder is made for its owner alone, by an unused name
_NAME = "dualreg-metrics-"
#: Files that are locked: while the server runs; while files are read, or added to another one.
_ALIVE, _LOCK = "alive", "lock"
#: Bytes that files have from the start, by what the library calls them: more than all labels take, so that
#: writing to one, which is writing to memory, never has to find room on a full disk. A route and method has
#: sixteen values of a histogram.
_SIZES = {"counter": 448 << 10, "histogram": 1 << 20, "gauge_livesum": 64 << 10}
#: Those of which the sum is kept when a process ends.
_SUMMED = ("counter", "histogram")
#: Seconds for which a folder that nobody has locked is left alone.
_YOUNG = 60
#: The number that stands for all processes that have ended.
_ENDED = 0


class MetricsFolder:
    """The folder of one server, which its main process makes and removes.

    Attributes:
        path: For the environment, where the library looks for it.
    """

    def __init__(self, data: Path) -> None:
        """Make the folder; in the data directory if there is no place in memory.

        Raises:
            OSError: it cannot be made.
        """
        places = [place for place in (_MEMORY, data) if place.is_dir() and os.access(place, os.W_OK)]
        for place in places:
            _remove_abandoned(place)
        self.path = Path(tempfile.mkdtemp(prefix=_NAME, dir=places[0] if places else data))
        self._alive = (self.path / _ALIVE).open("wb")  # as long as a process of the server has it open
        fcntl.flock(self._alive, fcntl.LOCK_EX)
        (self.path / _LOCK).touch()

    def reserve(self, process: int) -> None:
        """Make the files of a process.

        Raises:
            OSError: there is no room for them.
        """
        for kind in _SIZES:
            self._reserve(kind, process)

    def retire(self, running: Collection[int]) -> None:
        """Add up the files of processes that are not *running*; later, if they are being read."""
        with self._locked(fcntl.LOCK_EX | fcntl.LOCK_NB) as is_mine, suppress(OSError):
            for file in self.path.glob("*.db") if is_mine else ():
                kind, _, number = file.stem.rpartition("_")
                if int(number) in {_ENDED, *running}:
                    continue
                mark_process_dead(int(number), f"{self.path}")
                if kind in _SUMMED:
                    self._add(file, kind)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Leave the files as they are for the block."""
        with self._locked(fcntl.LOCK_SH):
            yield

    def remove(self) -> None:
        """Remove the folder."""
        rmtree(self.path, ignore_errors=True)
        self._alive.close()

    def _file(self, kind: str, process: int) -> Path:
        return self.path / f"{kind}_{process}.db"

    def _reserve(self, kind: str, process: int) -> None:
        """Make a file, or leave none: one without room would end a process that writes to it, or reads it."""
        file = self._file(kind, process)
        with file.open("ab") as opened:
            try:
                os.posix_fallocate(opened.fileno(), 0, _SIZES[kind])
            except OSError:
                file.unlink()
                raise

    def _add(self, file: Path, kind: str) -> None:
        total = self._file(kind, _ENDED)
        if not total.exists():
            self._reserve(kind, _ENDED)
        values = MmapedDict(f"{total}")
        for key, value, _, _ in MmapedDict.read_all_values_from_file(f"{file}"):
            values.write_value(key, values.read_value(key)[0] + value, 0.0)
        values.close()
        file.unlink()

    @contextmanager
    def _locked(self, how: int) -> Iterator[bool]:
        with (self.path / _LOCK).open("rb") as lock:
            try:
                fcntl.flock(lock, how)
            except BlockingIOError:
                yield False
                return
            yield True


def _remove_abandoned(place: Path) -> None:
    """Remove the folders of servers that were killed: nobody has them locked.

    Those of other users are left alone: what they have in there need not be a file.
    """
    for folder in place.glob(f"{_NAME}*"):
        with suppress(OSError):
            found = folder.lstat()
            if found.st_uid != os.geteuid() or time.time() - found.st_mtime < _YOUNG:
                continue  # the latter may be about to be locked
            with (folder / _ALIVE).open("rb") as alive:
                fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
                rmtree(folder, ignore_errors=True)
