"""Waits: what was written, made and renamed on one file system, which is waited for together."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dualreg.ownership import create_folder, is_durable, noted_durable
from dualreg.storage import durable
from dualreg.storage.whole import WholeFileSystem

#: Waits at a time, for single files: the file system makes several in less than the time of one each.
_WAITS = 2
#: Files for which the whole file system is waited for instead, where that is possible.
_MANY = 8


class Waits:
    """New files and folders, which are durable after ``wait``.

    Attributes:
        whole: Their file system, which is a context.
        unsynced: Files and folders that ``wait`` waits for.
    """

    def __init__(self, folder: Path, root: Path, mode: int) -> None:
        """Make folders with *mode* below *root*, on the file system of *folder*.

        Both are there, and durable, before anything is made.
        """
        self.whole = WholeFileSystem(folder)
        self.unsynced = dict[str, None]()
        self._root, self._mode = f"{root}", mode
        self._made = dict[str, None]()

    def wait(self) -> None:
        """Wait until everything that was done is on disk.

        Raises:
            OSError: something could not be written.
        """
        waiting, self.unsynced = self.unsynced, {}
        made, self._made = self._made, {}
        with noted_durable(made):
            if len(waiting) < _MANY or not self.whole.sync():
                _sync_each(waiting)

    def make(self, folder: str) -> None:
        """Create a folder, and those above it, where they are missing; they are durable after ``wait``.

        So are those that are found: a run that was killed before it waited may have made all of them.
        """
        if folder in self._made or is_durable(folder) or folder == self._root:
            return
        above = durable.above(folder) or "."  # of a path relative to the working directory
        self.make(above)
        if not os.path.isdir(folder):
            create_folder(folder, self._mode)
        self.unsynced[above] = None
        self._made[folder] = None


def _sync_each(files: Iterable[str]) -> None:
    with ThreadPoolExecutor(_WAITS) as pool:
        for _ in pool.map(durable.sync, files):
            pass
