"""Entries: what a layer has: files, and whiteouts, which remove files of the layers below.

Names are bytes that clients chose. They are kept as text in which bytes that are no UTF-8 are surrogates;
``shown`` writes them for people.

Source: OCI image-spec v1.1, layer.md, "Whiteouts"; moby, ``pkg/archive/whiteouts.go``.
"""

import re
import stat
import sys
import tarfile
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from typing import NamedTuple

from dualreg.image.tar import Member, members

#: Prefix of the names of whiteouts, and the name of those of all that is in a folder.
WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
#: Prefix of the names that AUFS uses internally, and of ``_OPAQUE``.
_AUFS = ".wh..wh."
#: What numbers in answers may be: headers may have any.
_LARGEST = (1 << 63) - 1
#: Permissions, with those of setuid, setgid and sticky.
_PERMISSIONS = 0o7777
#: Characters of a name that are shown. No system has longer paths, but archives may.
_SHOWN = 4096
_ASCII = 0x80
#: The first and the last surrogate that stand for bytes, and what to subtract from them.
_FIRST_BYTE, _LAST_BYTE, _BYTE_BASE = 0xDC80, 0xDCFF, 0xDC00
_WIDE = 0x10000
#: Bytes that Python keeps for each character of a text, if one of them is beyond ``_WIDE``.
_WIDEST = 4
#: What ``shown`` writes for characters, and those of them that are no numbers.
_ESCAPE = re.compile(r"\\(?:[\\nrt]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")
_LETTERS = {"\\": "\\", "n": "\n", "r": "\r", "t": "\t"}


class Kind(StrEnum):
    """What an entry is."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symbolic link"
    LINK = "hard link"
    CHARACTERS = "character device"
    BLOCKS = "block device"
    FIFO = "fifo"
    OTHER = "other"
    #: Removes a file or directory of the layers below.
    WHITEOUT = "whiteout"
    #: Removes all that the layers below have in a directory.
    OPAQUE = "opaque whiteout"


_KINDS = {
    tarfile.REGTYPE: Kind.FILE,
    tarfile.AREGTYPE: Kind.FILE,
    tarfile.CONTTYPE: Kind.FILE,
    tarfile.GNUTYPE_SPARSE: Kind.FILE,
    tarfile.DIRTYPE: Kind.DIRECTORY,
    tarfile.SYMTYPE: Kind.SYMLINK,
    tarfile.LNKTYPE: Kind.LINK,
    tarfile.CHRTYPE: Kind.CHARACTERS,
    tarfile.BLKTYPE: Kind.BLOCKS,
    tarfile.FIFOTYPE: Kind.FIFO,
}
_FORMATS = {
    Kind.FILE: stat.S_IFREG,
    Kind.DIRECTORY: stat.S_IFDIR,
    Kind.SYMLINK: stat.S_IFLNK,
    Kind.LINK: stat.S_IFREG,
    Kind.CHARACTERS: stat.S_IFCHR,
    Kind.BLOCKS: stat.S_IFBLK,
    Kind.FIFO: stat.S_IFIFO,
}


class Entry(NamedTuple):
    """An entry of a layer.

    Attributes:
        path: From the root, without slashes around it; empty: the root. Of a whiteout: what it removes.
        mode: The permissions.
        size: Bytes of a file; 0 of others.
        mtime: Seconds since 1970.
        target: What a link leads to; empty of others.
    """

    path: str
    kind: Kind
    mode: int = 0
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime: int = 0
    target: str = ""

    @property
    def permissions(self) -> str:
        """Kind and permissions as ``ls`` writes them; empty of whiteouts."""
        if self.kind in (Kind.WHITEOUT, Kind.OPAQUE):
            return ""
        return stat.filemode(_FORMATS.get(self.kind, 0) | self.mode)


def entries(layer: Iterable[bytes], check: Callable[[int], None] = lambda _: None) -> Iterator[Entry]:
    """Yield the entries of a layer of any compression, in their order, without those of AUFS itself.

    Args:
        check: As for ``tar.members``.

    Raises:
        ImageInvalid: the layer does not uncompress, or is not a tar, from there on.
    """
    for part in members(layer, check, zstd=True):
        if isinstance(part, Member) and (found := _entry(part.header)):
            yield found


def is_internal(path: str) -> bool:
    """Return whether a path is one that AUFS uses itself, or is below one."""
    return _AUFS in path and any(part.startswith(_AUFS) for part in path.split("/"))


def shown(name: str) -> str:
    r"""Return a name as text that can be shown, in which other names look different.

    Bytes that are no UTF-8 are written ``\xNN``, characters that are not printable as in Python, and a
    backslash twice. A very long name is cut.
    """
    if len(name) > _SHOWN:
        return f"{shown(name[:_SHOWN])}…"
    if name.isprintable() and "\\" not in name:
        return name
    return "".join(map(_escaped, name))


def memory_of(*names: str) -> int:
    """Return what the characters of names take in memory, at most, in bytes."""
    return sum(len(name) if name.isascii() else _WIDEST * len(name) for name in names)


def named(text: str) -> str:
    """Return the name that ``shown`` writes as *text*, unless it was cut."""
    return _ESCAPE.sub(_unescaped, text)


def _unescaped(found: re.Match[str]) -> str:
    kind, digits = found[0][1], found[0][2:]
    if not digits:
        return _LETTERS[kind]
    code = int(digits, 16)
    if kind == "x" and code >= _ASCII:
        return chr(code + _BYTE_BASE)
    return chr(code) if code <= sys.maxunicode else found[0]


def _escaped(character: str) -> str:
    code = ord(character)
    if character == "\\":
        return r"\\"
    if character.isprintable():
        return character
    if code < _ASCII:
        return character.encode("unicode_escape").decode()
    if _FIRST_BYTE <= code <= _LAST_BYTE:
        return f"\\x{code - _BYTE_BASE:02x}"
    return f"\\u{code:04x}" if code < _WIDE else f"\\U{code:08x}"


def _entry(header: tarfile.TarInfo) -> Entry | None:
    """Return the entry that *header* describes; None: it is internal to AUFS."""
    path = _path(header.name)
    folder, _, base = path.rpartition("/")
    if base == _OPAQUE:
        return Entry(folder, Kind.OPAQUE)
    if is_internal(path):
        return None
    if base.startswith(WHITEOUT):
        return Entry(_path(f"{folder}/{base.removeprefix(WHITEOUT)}"), Kind.WHITEOUT)
    kind = _KINDS.get(header.type, Kind.OTHER)
    size = header.size if kind in (Kind.FILE, Kind.OTHER) else 0
    return Entry(
        path,
        kind,
        header.mode & _PERMISSIONS,
        _bounded(header.uid),
        _bounded(header.gid),
        _bounded(size),
        _bounded(int(header.mtime)),
        header.linkname if kind in (Kind.SYMLINK, Kind.LINK) else "",
    )


def _path(name: str) -> str:
    """Return a path as unpacking it from the root would resolve it."""
    parts = list[str]()
    for part in name.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def _bounded(number: int) -> int:
    return max(min(number, _LARGEST), -_LARGEST)
