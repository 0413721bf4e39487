"""LinkFolder: link files in a folder, safe against power cuts.

The order is: write, fsync the file, rename, fsync the folder. What a method did when it returns survives a
power cut. What has no name yet, or none any more, is among the uploads, where what a crash leaves of it is
collected.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from datetime import datetime, timedelta
from itertools import accumulate
from pathlib import Path

from dualreg.image.names import UploadId
from dualreg.ownership import create_folder, is_durable, make_folders, noted_durable
from dualreg.storage import durable
from dualreg.storage.link_tree import FolderLinks, LinkFile, StagedLink

#: The folder below its root in which the reference registry keeps everything.
REGISTRY = Path("docker/registry/v2")
#: The resolution of the times of rows; files have nanoseconds.
_ROUNDING = timedelta(microseconds=1)
#: More bytes than any link file has.
_LINK_LIMIT = 1 << 16


class LinkFolder:
    """A LinkTree in the folder of a store."""

    def __init__(self, root: Path) -> None:
        """Use the folder *root*, which is created when it is first written to, for owner and group."""
        self._root = root
        self._uploads = root / "uploads"
        self._corrupt = root / "corrupt"
        self._names = root / REGISTRY / "repositories"
        self._has_uploads = False
        self._kept = dict[UploadId, str]()  # what is among the uploads, and where staged files will be

    def write_link(self, path: str, content: bytes, at: datetime | None = None) -> None:
        folder = durable.above(self._replace(path, content, at))
        self._settle(folder)
        durable.sync(folder)

    def _replace(self, path: str, content: bytes, due: datetime | None, at: datetime | None = None) -> str:
        """Create or replace a file without syncing its folder, unless it is right; return its place."""
        target, fresh = f"{self._names}/{path}", f"{self._uploads}/{UploadId.new()}"
        if not self._holds(path, content, due):
            self._make_uploads()
            with ExitStack() as stack:
                os.fsync(self._write(fresh, content, due or at, stack))
            self._settle(durable.above(target))
            durable.move(fresh, target)
        return target

    def stage_links(self, links: Sequence[StagedLink], waits: Sequence[Callable[[], None]] = ()) -> None:
        self._expect_uploads()
        trees, folders = dict[str, str](), dict[str, None]()
        with ExitStack() as stack:
            files = [
                self._write(file, link.content, link.at, stack)
                for link in links
                if (file := self._make_place(link, trees, folders))
            ]
            durable.wait_for_all(waits, *files, *folders)

    def _make_place(self, link: StagedLink, trees: dict[str, str], folders: dict[str, None]) -> str | None:
        """Return where to write a link among the uploads: in the highest of its folders that is missing.

        So placing it is one rename. None: the file that is there is right.

        Args:
            trees: Where missing folders are staged, each with all links that are to be below it.
            folders: Those that were created for that.
        """
        fresh, missing, folder = f"{self._uploads}/{link.upload}", "", durable.above(link.path)
        while folder and not os.path.lexists(f"{self._names}/{folder}"):
            missing, folder = folder, durable.above(folder)
        if not missing:
            if self._holds(link.path, link.content, link.due):
                return None
            self._kept[link.upload] = link.path
            return fresh
        top = trees.setdefault(missing, fresh)
        if top == fresh:
            self._kept[link.upload] = missing
        *new, file = accumulate([top, *link.path[len(missing) + 1 :].split("/")], "{}/{}".format)
        for each in new:
            if each not in folders:
                durable.make_folder(each)
                folders[each] = None
        return file

    def place_links(self, links: Sequence[StagedLink]) -> None:
        changed, new = set[str](), set[str]()
        for link in links:
            self._place(link, changed, new)
        with noted_durable(new):
            durable.sync_all(*{*map(durable.above, changed)})

    def _place(self, link: StagedLink, changed: set[str], new: set[str]) -> None:
        """Move a staged file, with its new folders; add to what has come to its place, and to new folders."""
        place, moved = self._kept.get(link.upload, ""), list[str]()
        if place:
            target, below = f"{self._names}/{place}", link.path[len(place) :]
            moved += self._move(f"{self._uploads}/{link.upload}", target)
            if target in moved:
                del self._kept[link.upload]
            if moved and below:
                new.update(accumulate([target, *below.split("/")[1:-1]], "{}/{}".format))
        changed.update(moved)
        if not moved:  # the file was right, or was moved with another one; it may have been replaced since
            target = self._replace(link.path, link.content, link.due, link.at)
            if changed.isdisjoint(accumulate(target.split("/"), "{}/{}".format)):
                found = {*self._unsettled(durable.above(target))}
                changed |= found
                new |= found
            changed.add(target)

    def _move(self, fresh: str, target: str) -> Iterator[str]:
        """Move a staged file or folder to its place; yield what is where it was not before.

        Of a folder that other requests have made meanwhile, what is in it is moved. If it is gone, discarded
        as a stray by a process whose clock is ahead, nothing is.
        """
        self._settle(durable.above(target))
        try:
            try:
                os.rename(fresh, target)
                is_moved = True
            except FileNotFoundError:  # others have removed what is above, as empty
                is_moved = durable.move(fresh, target)
        except OSError as error:
            if error.errno not in durable.TAKEN:
                raise
            for name in os.listdir(fresh):
                yield from self._move(f"{fresh}/{name}", f"{target}/{name}")
        else:
            yield from [target] if is_moved else []

    def _settle(self, folder: str) -> None:
        """Make a folder, created if need be, durable with those above it.

        Others may have moved them there with what is in them, and not have waited for that yet.
        """
        for each in reversed([*self._unsettled(folder)]):
            make_folders(each, durable.SHARED)

    def _unsettled(self, folder: str) -> Iterator[str]:
        """Yield a folder and those above it that may not be durable, for all that this process has seen."""
        while folder != f"{self._names}" and not is_durable(folder):
            yield folder
            folder = durable.above(folder)

    def _write(self, file: str, content: bytes, at: datetime | None, stack: ExitStack) -> int:
        """Write a file among the uploads; return its descriptor, which *stack* closes.

        What a crash leaves of it is collected like them.
        """
        descriptor = durable.create(file)
        stack.callback(os.close, descriptor)
        durable.write(descriptor, content, at)
        return descriptor

    def _holds(self, path: str, content: bytes, at: datetime | None) -> bool:
        """Return whether a file has that content and time, which may have been rounded, or cut to seconds.

        A file that need not be written keeps its time, which may be that of a push to another registry.
        """
        try:
            found = self.read_link(path)
        except OSError:
            return False
        if found is None or found.content != content:
            return False
        return at is None or abs(at - found.at) <= _ROUNDING or at == found.at.replace(microsecond=0)

    def read_links(self, paths: Sequence[str]) -> Sequence[LinkFile | None]:
        return [*map(self.read_link, paths)]

    def read_link(self, path: str) -> LinkFile | None:
        try:
            descriptor = os.open(f"{self._names}/{path}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise OSError(errno.EINVAL, "not a regular file")
            if found.st_size > _LINK_LIMIT:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
            return LinkFile(os.read(descriptor, _LINK_LIMIT), durable.instant(found.st_mtime_ns))
        finally:
            os.close(descriptor)

    def list_links(self, folder: str) -> Sequence[str]:
        try:
            with os.scandir(f"{self._names}/{folder}") as entries:
                return sorted(f"{each.name}/" if each.is_dir() else each.name for each in entries)
        except (FileNotFoundError, NotADirectoryError):
            return []

    def remove_link(self, *paths: str) -> None:
        changed = set[Path]()
        for target in (f"{self._names}/{path}" for path in paths):
            with suppress(FileNotFoundError):
                os.unlink(target)
                changed.add(Path(target).parent)
            self._prune(target)
        durable.sync_all(*{*map(_nearest, changed)})  # once for all that they have lost

    def quarantine_link(self, path: str) -> None:
        source, aside = self._names / path, self._corrupt / "repositories" / path
        with suppress(FileNotFoundError):
            durable.move(source, aside)
            durable.sync(aside.parent)
            self._prune(source)
            durable.sync(_nearest(source.parent))

    def set_aside(self, aside: UploadId, *folders: FolderLinks) -> None:
        self._make_uploads()
        self._kept[aside] = ""
        create_folder(self._uploads / aside)
        changed = dict[Path, Path]()  # one of the targets in each folder
        for number, target in enumerate(self._names / folder.path for folder in folders):
            with suppress(FileNotFoundError, NotADirectoryError):
                target.rename(self._uploads / aside / f"{number}")
                changed[target.parent] = target
        for folder, target in changed.items():
            durable.sync(folder)
            self._prune(target)

    def bring_back(self, aside: UploadId, *folders: FolderLinks) -> None:
        for number, folder in enumerate(folders):
            source, target = self._uploads / aside / f"{number}", self._names / folder.path
            for file in [*_files(source)]:
                place = target / file.relative_to(source)
                if not place.exists():
                    durable.move(file, place)
                    durable.sync(place.parent)
        self.drop(aside)

    def drop(self, aside: UploadId) -> None:
        if self._kept.pop(aside, None) is not None:
            durable.remove(f"{self._uploads}/{aside}")

    def link_paths(self) -> Iterator[str]:
        for path in _files(self._names):
            if not path.name.startswith("."):
                yield path.relative_to(self._names).as_posix()

    def walk_links(self) -> Iterator[tuple[str, bytes]]:
        for path in self.link_paths():
            yield path, (self._names / path).read_bytes()

    def _expect_uploads(self) -> None:
        """Create the folder of uploads once. Whoever creates something in it notices if it is gone."""
        if not self._has_uploads:
            self._make_uploads()
            self._has_uploads = True

    def _make_uploads(self) -> None:
        if is_durable(f"{self._uploads}"):
            return
        if not os.path.isdir(self._uploads):
            make_folders(self._root)  # for owner and group alone
        make_folders(self._uploads, durable.SHARED)

    def _prune(self, path: str | Path) -> None:
        """Remove empty folders above *path*: the reference registry would list them as repositories."""
        root, folder = f"{self._names}", durable.above(path)
        with suppress(OSError):
            while folder != root:
                os.rmdir(folder)
                folder = durable.above(folder)


def _nearest(folder: Path) -> Path:
    """Return *folder* or the first folder above it that exists."""
    return next((each for each in (folder, *folder.parents) if each.is_dir()), folder)


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files below *folder*, ordered by path, reading one folder at a time; none if it is absent."""
    with suppress(FileNotFoundError):
        for path in sorted(folder.iterdir(), key=_in_order):
            if path.is_dir():
                yield from _files(path)
            elif path.is_file():
                yield path


def _in_order(path: Path) -> str:
    """Return what a file or folder is sorted by, so that all paths below are in order."""
    return f"{path.name}/" if path.is_dir() else path.name
