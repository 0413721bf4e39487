"""New files of a target that are written together: complete and on the disk before the first has its name."""

import errno
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from enum import IntEnum
from itertools import count
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Protocol, Self, TypeVar

from dualreg.filelocks import try_lock
from dualreg.migrate.targets.base import STEP_FILES
from dualreg.migrate.targets.files import has_content, read_all, replace_link, write
from dualreg.ownership import create_folder, make_folders
from dualreg.storage import durable
from dualreg.storage.waits import Waits

#: How the folder begins that has files without names.
_PREFIX = ".export-"
#: Mode of folders: they are the operator's own, by the umask.
_MODE = 0o777
#: Bytes of a step, about.
_BYTES = 64 << 20


class _Step(Protocol):
    def end(self) -> None: ...


_S = TypeVar("_S", bound=_Step)


class Rank(IntEnum):
    """What gets its name, and is on the disk by it, before what is of a higher rank."""

    BLOB = 0
    MANIFEST = 1
    TAG = 2


class StagingFolder:
    """The folder in a target for files that have no names yet, for all threads of an export.

    What an export has left that was killed is removed by the next one.

    Attributes:
        numbers: The names of the files.
    """

    def __init__(self, root: Path) -> None:
        """Stage below *root*, which is created with the folder."""
        self.root, self.numbers = root, count()
        self._lock = Lock()
        self._opened: tuple[str, int] | None = None

    def path(self) -> str:
        """Return the folder, which is created the first time.

        Raises:
            OSError: it cannot be.
        """
        with self._lock:
            if self._opened is None:
                make_folders(self.root, _MODE)
                self._clean()
                self._opened = self._create()
            return self._opened[0]

    def close(self) -> None:
        """Remove the folder; it may be created again."""
        with self._lock:
            if self._opened:
                folder, descriptor = self._opened
                shutil.rmtree(folder, ignore_errors=True)
                os.close(descriptor)
                self._opened = None

    def _create(self) -> tuple[str, int]:
        """Create the folder and lock it, which another export may do before, to remove it."""
        while True:
            folder = f"{self.root}/{_PREFIX}{uuid.uuid4()}"
            create_folder(folder, _MODE)
            with suppress(FileNotFoundError):
                descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
                if _lock(descriptor) is not False and os.path.isdir(folder):
                    return folder, descriptor
                os.close(descriptor)

    def _clean(self) -> None:
        """Remove the folders of exports that have ended."""
        for entry in [*os.scandir(self.root)]:
            if _is_ours(entry.name) and entry.is_dir(follow_symlinks=False):
                with suppress(OSError):  # another export removes it
                    descriptor = os.open(entry.path, os.O_RDONLY | os.O_DIRECTORY)
                    if _lock(descriptor):
                        shutil.rmtree(entry.path, ignore_errors=True)
                    os.close(descriptor)


class NewFiles(Waits):
    """The files of a step: a context, at whose end those are removed that have no names."""

    def __init__(self, staging: StagingFolder) -> None:
        """Stage files in *staging*, as soon as there are any."""
        super().__init__(staging.root, staging.root, _MODE)
        self._staging = staging
        self._begun = False
        self._ranks: dict[Rank, dict[str, str]] = {rank: {} for rank in Rank}
        self._firsts, self._originals = set[str](), dict[str, str]()
        self._bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for staged in self._ranks.values():
            for path in staged.values():
                with suppress(OSError):
                    os.unlink(path)
        if self._begun:
            self.whole.__exit__(kind, error, trace)

    @property
    def is_full(self) -> bool:
        """Whether they should get their names before there are more."""
        return sum(map(len, self._ranks.values())) > STEP_FILES or self._bytes > _BYTES

    def staged(self, path: str | Path) -> str | None:
        """Return where the file is that will be *path*; None if there is none."""
        return next((staged[f"{path}"] for staged in self._ranks.values() if f"{path}" in staged), None)

    def write(self, path: str | Path, chunks: Iterable[bytes], rank: Rank) -> None:
        """Write what will be the file *path*; if *chunks* raises, nothing will."""
        staged = self._new()
        try:
            with open(staged, "xb") as file:
                file.writelines(chunks)
                self._bytes += file.tell()
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(staged)
            raise
        self._stage(f"{path}", staged, rank)

    def write_if_changed(self, path: Path, content: bytes, rank: Rank) -> bool:
        """Write a small file unless it has that content, or will have one; return whether it will be new."""
        if self.staged(path) or has_content(path, [content]):
            return False
        self.write(path, [content], rank)
        return True

    def write_first(self, path: str | Path, chunks: Iterable[bytes], rank: Rank) -> None:
        """Write a file as ``write``; one that somebody else gives that name meanwhile stays."""
        self.write(path, chunks, rank)
        self._firsts.add(f"{path}")

    def link(self, path: str | Path, original: str | Path, rank: Rank) -> bool:
        """Have *path* be a hard link to what is, or will be, the file *original*, of no higher rank.

        Return False if the file system cannot.
        """
        staged, will_be = self._new(), self.staged(original)
        try:
            os.link(will_be or original, staged)
        except OSError:  # not supported, or too many links
            return False
        self._stage(f"{path}", staged, rank)
        if will_be:
            self._originals[f"{path}"] = f"{original}"
        return True

    def symlink(self, path: str | Path, target: str, rank: Rank) -> None:
        """Have *path* be a symbolic link to *target*."""
        staged = self._new()
        os.symlink(target, staged)
        self._stage(f"{path}", staged, rank)

    def name(self) -> None:
        """Give the files their names, in the order of ranks, durably.

        Raises:
            OSError: it failed.
        """
        if not self._begun:
            return
        self.wait()
        for staged in self._ranks.values():
            for path, file in staged.items():
                folder = durable.above(path) or "."  # of a path relative to the working directory
                self.make(folder)
                self._name(file, path)
                self.unsynced[folder] = None
            staged.clear()
            self.wait()
        self._firsts.clear()
        self._originals.clear()
        self._bytes = 0

    def _name(self, staged: str, path: str) -> None:
        if path in self._firsts:
            _name_first(staged, path)
        elif original := self._originals.get(path):
            _rename(self._linked_anew(staged, original), path)
        else:
            _rename(staged, path)

    def _linked_anew(self, staged: str, original: str) -> str:
        """Return a link, if need be another one: somebody else may have given *original* its name."""
        if os.path.samefile(staged, original):
            return staged
        fresh = self._new()
        try:
            os.link(original, fresh)
        except OSError:
            return staged
        os.unlink(staged)
        return fresh

    def _new(self) -> str:
        """Return a path for a new file without a name."""
        folder = self._staging.path()
        if not self._begun:
            self.whole.__enter__()
            self._begun = True
        return f"{folder}/{next(self._staging.numbers)}"

    def _stage(self, path: str, staged: str, rank: Rank) -> None:
        self.unsynced[staged] = None
        if before := self._ranks[rank].get(path):
            os.unlink(before)
        self._ranks[rank][path] = staged


def _is_ours(name: str) -> bool:
    """Return whether a folder of that name is one of an export, not one that somebody keeps there."""
    unique = name.removeprefix(_PREFIX)
    try:
        return unique != name and f"{uuid.UUID(unique)}" == unique
    except ValueError:
        return False


@contextmanager
def new_step(staging: StagingFolder, begin: Callable[[NewFiles], _S]) -> Iterator[_S]:
    """Yield the step that *begin* makes of new files, and end it: unless it failed, they get their names."""
    with NewFiles(staging) as files:
        step = begin(files)
        yield step
        step.end()


def _lock(descriptor: int) -> bool | None:
    """Lock a folder, and return whether that succeeded; None: the file system has no locks."""
    try:
        return try_lock(descriptor)
    except OSError:
        return None


def _name_first(staged: str, path: str) -> None:
    """Rename a file, unless there is one of that name."""
    try:
        os.link(staged, path)  # which replaces none
    except FileExistsError:
        if not os.path.isfile(path):
            raise
    except OSError:  # no hard links, or another file system
        if not os.path.isfile(path):
            _rename(staged, path)
            return
    os.unlink(staged)


def _rename(staged: str, path: str) -> None:
    """Rename a file, or copy it if its folder is on another file system."""
    try:
        os.rename(staged, path)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        if os.path.islink(staged):
            replace_link(Path(path), os.readlink(staged))
        else:
            write(Path(path), read_all(Path(staged)))
        os.unlink(staged)
