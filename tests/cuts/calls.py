"""The system calls of a recorded program that change files, read from the output of strace."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

#: What strace is asked for: everything that can change a file or a folder, so that nothing is missed.
TRACED = (
    "open,openat,creat,close,lseek,write,pwrite64,writev,pwritev,pwritev2,ftruncate,truncate,fallocate,fsync,"
    "fdatasync,sync,syncfs,io_submit,io_getevents,rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,mkdir,mkdirat,rmdir,"
    "sendfile,copy_file_range,splice"
)
_LINE = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+)(?:<([^>]*)>)?.*")
_UNFINISHED = re.compile(r"(\d+) +(.*) <unfinished \.\.\.>")
_RESUMED = re.compile(r"(\d+) +<\.\.\. \w+ resumed>(.*)")
_REQUEST = re.compile(r"aio_lio_opcode=(\w+), aio_fildes=(\d+<[^>]*>)")
_HANDLE = re.compile(r"(-?\w+)(?:<([^>]*)>)?(?:\(deleted\))?")


class Call(NamedTuple):
    """One change, in terms of paths.

    Attributes:
        kind: ``create``, ``write``, ``cut``, ``sync``, ``settle`` (of everything), ``rename``, ``link``,
            ``remove``, ``folder`` or ``note``.
        offset: Where *data* goes, or the new length; None: at the end.
    """

    kind: str
    path: str
    target: str = ""
    offset: int | None = None
    data: bytes = b""


class UnknownCall(Exception):
    """A system call that changes files, and that a replay would leave out: its cuts would prove nothing."""


def read_calls(lines: Iterable[str], root: str, notes: str) -> Iterator[Call]:
    """Yield the changes below the folder *root*, and what was written to the file *notes*, in order.

    Raises:
        UnknownCall: something below *root* was changed by a call whose effect this cannot replay.
    """
    reader = _Reader(root, notes)
    for line in _whole(lines):
        match = _LINE.fullmatch(line.rstrip("\n"))
        if match and int(match[4]) >= 0:
            yield from reader.read(match[2], match[3].split(", "), int(match[4]), match[5] or "")


def _whole(lines: Iterable[str]) -> Iterator[str]:
    """Yield lines with calls that another thread interrupted put together, where they ended."""
    begun: dict[str, str] = {}
    for line in lines:
        if match := _UNFINISHED.match(line):
            begun[match[1]] = f"{match[1]} {match[2]}"
        elif match := _RESUMED.match(line):
            yield begun.pop(match[1]) + match[2]
        else:
            yield line


@dataclass
class _Reader:
    """Makes changes of system calls.

    Attributes:
        places: Where the next write goes, by descriptor: no two processes that write run at the same time.
        waiting: What was asked of a queue, and is not known to be done.
    """

    root: str
    notes: str
    places: dict[str, int | None] = field(default_factory=dict)
    waiting: dict[str, list[str]] = field(default_factory=dict)

    def read(self, name: str, words: list[str], result: int, opened: str) -> Iterator[Call]:
        """Yield the changes that a successful call made."""
        if name in ("open", "openat", "creat"):
            yield from self._open(words, str(result), _text(opened))
        elif name == "lseek":
            self.places[_handle(words[0])[0]] = result
        elif name in ("write", "pwrite64"):
            yield from self._write(name, words, result)
        elif name == "sync":
            yield Call("settle", self.root)
        elif name in ("io_submit", "io_getevents"):
            yield from self._queue(name, words, result)
        elif make := _CHANGES.get(name):
            call = make(words)
            if self._is_ours(call.path) or self._is_ours(call.target):
                yield call
        elif name != "close" and any(self._is_ours(_handle(word)[1]) for word in words):
            raise UnknownCall(f"{name}({', '.join(words)})")

    def _open(self, words: list[str], handle: str, path: str) -> Iterator[Call]:
        flags = next(word for word in words if word.startswith("O_")).split("|")
        if "O_RDONLY" in flags or not self._is_ours(path):
            return
        self.places[handle] = None if "O_APPEND" in flags else 0
        if "O_CREAT" in flags:
            yield Call("create", path)
        if "O_TRUNC" in flags:
            yield Call("cut", path, offset=0)

    def _write(self, name: str, words: list[str], count: int) -> Iterator[Call]:
        handle, path = _handle(words[0])
        data = bytes.fromhex(words[1].strip('"').replace("\\x", ""))[:count]
        if path == self.notes:
            yield Call("note", path, data=data)
        elif self._is_ours(path):
            if name == "pwrite64":
                yield Call("write", path, offset=int(words[3]), data=data)
                return
            place = self.places[handle]
            yield Call("write", path, offset=place, data=data)
            self.places[handle] = None if place is None else place + count

    def _queue(self, name: str, words: list[str], count: int) -> Iterator[Call]:
        """Yield the syncs that have ended: all of a queue do before any counts."""
        waiting = self.waiting.setdefault(words[0], [])
        if name == "io_submit":
            for operation, handle in _REQUEST.findall(", ".join(words))[:count]:
                if operation != "IOCB_CMD_FSYNC":
                    raise UnknownCall(f"{name}({', '.join(words)})")
                waiting.append(_handle(handle)[1])
        elif count == len(waiting):
            yield from (Call("sync", path) for path in waiting if self._is_ours(path))
            waiting.clear()

    def _is_ours(self, path: str) -> bool:
        return f"{path}/".startswith(f"{self.root}/")


def _handle(word: str) -> tuple[str, str]:
    """Return a descriptor's number and path."""
    match = _HANDLE.match(word)
    return (match[1], _text(match[2] or "")) if match else ("", "")


def _text(hexadecimal: str) -> str:
    return os.fsdecode(bytes.fromhex(hexadecimal.strip('"').replace("\\x", "")))


def _at(folder: str, path: str) -> str:
    """Return the path that a call means by a folder's descriptor and a path."""
    named = _text(path)
    if named.startswith("/proc/self/fd/"):
        return _handle(folder)[1]
    return os.path.normpath(os.path.join(_handle(folder)[1], named))  # noqa: PTH118 -- of another process


_CHANGES: Mapping[str, Callable[[list[str]], Call]] = {
    "fsync": lambda words: Call("sync", _handle(words[0])[1]),
    "fdatasync": lambda words: Call("sync", _handle(words[0])[1]),
    "syncfs": lambda words: Call("settle", _handle(words[0])[1]),
    "ftruncate": lambda words: Call("cut", _handle(words[0])[1], offset=int(words[1])),
    "truncate": lambda words: Call("cut", _text(words[0]), offset=int(words[1])),
    "rename": lambda words: Call("rename", _text(words[0]), _text(words[1])),
    "renameat": lambda words: Call("rename", _at(words[0], words[1]), _at(words[2], words[3])),
    "renameat2": lambda words: Call("rename", _at(words[0], words[1]), _at(words[2], words[3])),
    "link": lambda words: Call("link", _text(words[0]), _text(words[1])),
    "linkat": lambda words: Call("link", _at(words[0], words[1]), _at(words[2], words[3])),
    "unlink": lambda words: Call("remove", _text(words[0])),
    "unlinkat": lambda words: Call("remove", _at(words[0], words[1])),
    "rmdir": lambda words: Call("remove", _text(words[0])),
    "mkdir": lambda words: Call("folder", _text(words[0])),
    "mkdirat": lambda words: Call("folder", _at(words[0], words[1])),
}
