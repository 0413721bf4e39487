"""A disk in memory that knows what was synced, and what it holds after the power was cut."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.cuts.calls import Call

#: Bytes that a disk writes whole or not at all.
SECTOR = 4096


@dataclass(eq=False)
class File:
    """A file.

    Attributes:
        synced: What was synced.
        pending: What was not: offset and bytes of writes in order; bytes None: the new length.
    """

    synced: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)

    def length(self) -> int:
        """Return its present length."""
        length = len(self.synced)
        for offset, data in self.pending:
            length = offset if data is None else max(length, offset + len(data))
        return length

    def sync(self) -> None:
        """Make everything durable."""
        self.synced = self.after(_everything)
        self.pending = []

    def after(self, keeps: "Keeps") -> bytearray:
        """Return the content if only those pending changes reached the disk that *keeps* chooses."""
        content = bytearray(self.synced)
        for offset, data in self.pending:
            if data is None:
                if keeps():
                    del content[offset:]
                    content.extend(bytes(offset - len(content)))
                continue
            for at in range(0, len(data), SECTOR):
                piece = data[at : at + SECTOR]
                if keeps():
                    content.extend(bytes(max(0, offset + at - len(content))))
                    content[offset + at : offset + at + len(piece)] = piece
        return content


@dataclass(eq=False)
class Folder:
    """A folder: what it contains now, and what it contained when it was last synced."""

    now: dict[str, "File | Folder"] = field(default_factory=dict)
    synced: dict[str, "File | Folder"] = field(default_factory=dict)


Node = File | Folder
#: Tells, of each change in turn, whether it reached the disk.
Keeps = Callable[[], bool]
#: A file system as its files by path; None: a folder.
Image = dict[str, bytes | None]
#: Entries that change together: a folder, a name in it, and what it names from then on.
_Entries = list[tuple[Folder, str, Node | None]]


def _everything() -> bool:
    return True


def _nothing() -> bool:
    return False


class Disk:
    """A folder on a disk, changed by system calls.

    It promises no more than POSIX: of what was not synced, anything may be lost, and anything kept. But a
    rename is atomic, as on every file system with a journal: it is synced with either of its folders.
    """

    def __init__(self, root: Path) -> None:
        """Begin with what is in *root*, as synced."""
        self._root = Folder()
        self._prefix = f"{root}/"
        self._pending: list[_Entries] = []
        for path in sorted(root.rglob("*")):
            self._set(str(path), Folder() if path.is_dir() else File(bytearray(path.read_bytes())))
        for entries in self._pending:
            _apply(entries)
        self._pending = []

    def play(self, call: Call) -> None:
        """Change what one system call changed."""
        getattr(self, f"_{call.kind}")(call)

    def killed(self) -> Image:
        """Return what is there if the program is killed: everything."""
        return self._image(_everything)

    def cut(self) -> Image:
        """Return what is there if the power fails, and nothing was kept that was not synced."""
        return self._image(_nothing)

    def torn(self, chance: random.Random) -> Image:
        """Return what is there if the power fails, and some of what was not synced was kept, by *chance*."""
        share = chance.random()
        return self._image(lambda: chance.random() < share)

    def _image(self, keeps: Keeps) -> Image:
        folders: dict[int, dict[str, Node]] = {}

        def entries(folder: Folder) -> dict[str, Node]:
            return folders.setdefault(id(folder), dict(folder.synced))

        for together in self._pending:
            if keeps():
                for folder, name, node in together:
                    _put(entries(folder), name, node)
        return dict(_walk(self._root, "", entries, keeps))

    def _find(self, path: str) -> Node | None:
        node: Node | None = self._root
        for name in path.removeprefix(self._prefix).split("/"):
            node = node.now.get(name) if isinstance(node, Folder) else None
        return node

    def _folder_of(self, path: str) -> tuple[Folder, str]:
        above, _, name = path.rpartition("/")
        folder = self._root if f"{above}/" == self._prefix else self._find(above)
        assert isinstance(folder, Folder), path
        return folder, name

    def _set(self, path: str, node: Node | None, *more: tuple[Folder, str, Node | None]) -> None:
        entries = [*more, (*self._folder_of(path), node)]
        for folder, name, each in entries:
            _put(folder.now, name, each)
        self._pending.append(entries)

    def _create(self, call: Call) -> None:
        if self._find(call.path) is None:
            self._set(call.path, File())

    def _folder(self, call: Call) -> None:
        self._set(call.path, Folder())

    def _remove(self, call: Call) -> None:
        self._set(call.path, None)

    def _link(self, call: Call) -> None:
        self._set(call.target, self._find(call.path))

    def _rename(self, call: Call) -> None:
        self._set(call.target, self._find(call.path), (*self._folder_of(call.path), None))

    def _write(self, call: Call) -> None:
        file = self._find(call.path)
        if isinstance(file, File):  # else it has been removed, and is still open
            file.pending.append((file.length() if call.offset is None else call.offset, call.data))

    def _cut(self, call: Call) -> None:
        file = self._find(call.path)
        if isinstance(file, File) and file.length() != call.offset:
            file.pending.append((call.offset or 0, None))

    def _sync(self, call: Call) -> None:
        node = self._root if f"{call.path}/" == self._prefix else self._find(call.path)
        if isinstance(node, File):
            node.sync()
            return
        synced, names = [], set[tuple[Folder, str]]()
        for entries in reversed(self._pending):
            places = {(folder, name) for folder, name, _ in entries}
            if places & names or any(folder is node for folder, _ in places):
                names |= places  # what happened to the same names before comes with it
                synced.append(entries)
        for entries in reversed(synced):
            _apply(entries)
            self._pending.remove(entries)

    def _settle(self, _: Call) -> None:
        for entries in self._pending:
            _apply(entries)
        self._pending = []
        for file in _files(self._root):
            file.sync()


def _files(folder: Folder) -> Iterator[File]:
    for node in folder.now.values():
        if isinstance(node, File):
            yield node
        else:
            yield from _files(node)


def _put(entries: dict[str, Node], name: str, node: Node | None) -> None:
    if node is None:
        entries.pop(name, None)
    else:
        entries[name] = node


def _apply(entries: _Entries) -> None:
    for folder, name, node in entries:
        _put(folder.synced, name, node)


def _walk(
    folder: Folder, path: str, entries: Callable[[Folder], dict[str, Node]], keeps: Keeps
) -> Iterator[tuple[str, bytes | None]]:
    for name, node in sorted(entries(folder).items()):
        if isinstance(node, File):
            yield path + name, bytes(node.after(keeps))
        else:
            yield path + name, None
            yield from _walk(node, f"{path}{name}/", entries, keeps)
