"""Tar: the members of an archive, parsed while it is streamed, in bounded memory.

``tarfile`` parses the headers, but cannot read the archives: it keeps every member, and reads extended
headers of any size into memory, so a small compressed layer could fill gigabytes.
"""

import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from dualreg.errors import ImageInvalid
from dualreg.image.layer import inflated

_BLOCK = 512
#: Limit of the extended headers of one member (names, link targets, attributes), in bytes.
EXTENDED_LIMIT = 1 << 20
_PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
#: Types of headers that extend the next one.
EXTENDED = (*_PAX, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
#: Offsets of the flag that another block of the sparse map follows: in the header, and in each such block.
#: Source: GNU tar 1.35, ``tar.h`` (struct oldgnu_header, struct sparse_header).
_HEADER_IS_EXTENDED, _MAP_IS_EXTENDED = 482, 504
#: Records of global headers that are kept.
_GLOBAL = frozenset({"uname", "gname", "uid", "gid", "mtime"})
_XATTR = "SCHILY.xattr."


@dataclass(frozen=True, slots=True)
class Member:
    """A member of an archive.

    Attributes:
        header: With extended headers applied; the name of a folder has no trailing slash.
        xattrs: Extended attributes by name, as bytes.
    """

    header: tarfile.TarInfo
    xattrs: Mapping[str, bytes]


def members(
    layer: Iterable[bytes],
    check: Callable[[int], None] = lambda _: None,
    *,
    marked_end: bool = False,
    zstd: bool = False,
) -> Iterator[Member | memoryview]:
    """Yield every member of a layer of any compression, each followed by the pieces of its content.

    Args:
        check: Called with the size of each piece that is uncompressed; what it raises is passed on.
        marked_end: Whether the blocks of zeros at the end are required.
        zstd: Whether the layer may be compressed with zstd.

    Raises:
        ImageInvalid: the layer does not uncompress, or is not a tar.
    """
    parser = TarParser()
    for piece in inflated(layer, zstd=zstd):
        check(len(piece))
        yield from parser.feed(piece)
    parser.finish(marked_end=marked_end)


@dataclass
class TarParser:
    """Parses an uncompressed archive piece by piece.

    The blocks of zeros at the end are optional: old daemons left them out.
    """

    _block: bytearray = field(default_factory=bytearray)
    _wanted: int = _BLOCK
    _content: int = 0
    _padding: int = 0
    _extended: tarfile.TarInfo | None = None
    _extended_bytes: int = 0
    _sparse: tarfile.TarInfo | None = None
    _ended: bool = False
    _global_records: dict[str, bytes] = field(default_factory=dict)
    _next_records: dict[str, bytes] = field(default_factory=dict)

    def feed(self, data: bytes) -> Iterator[Member | memoryview]:
        """Yield the members, and pieces of their content, that *data* completes.

        Raises:
            ImageInvalid: the archive is not a tar.
        """
        rest = memoryview(data)
        while rest and not self._ended:
            if self._content:
                piece, rest = rest[: self._content], rest[self._content :]
                self._content -= len(piece)
                yield piece
            elif self._padding:
                skipped = min(self._padding, len(rest))
                self._padding, rest = self._padding - skipped, rest[skipped:]
            else:
                missing = self._wanted - len(self._block)
                self._block += rest[:missing]
                rest = rest[missing:]
                if len(self._block) == self._wanted:
                    yield from self._parse_block()

    def finish(self, *, marked_end: bool = False) -> None:
        """Raise ImageInvalid if the archive ends within a header, a file or its padding.

        Args:
            marked_end: Also if it ends without blocks of zeros.
        """
        if marked_end and not self._ended:
            raise ImageInvalid(reason="the end of the archive is missing")
        rest = (self._content, self._padding, self._block, self._extended, self._sparse)
        if not self._ended and any(rest):
            raise _unsupported()

    def _parse_block(self) -> Iterator[Member]:
        """Parse the block that is now complete: a header, an extended header, or a part of a sparse map."""
        block, self._block, self._wanted = bytes(self._block), bytearray(), _BLOCK
        if self._extended:
            self._extend(self._extended, block[: self._extended.size])
            self._extended = None
            return
        if self._sparse:
            if not block[_MAP_IS_EXTENDED]:
                header, self._sparse = self._sparse, None
                yield self._begin(header)
            return
        if not block.strip(b"\0"):
            self._ended = True
            return
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise _unsupported() from error
        if header.type in EXTENDED:
            self._extended_bytes += header.size
            if header.size < 0 or self._extended_bytes > EXTENDED_LIMIT:
                raise _unsupported()
            if header.size:
                self._extended, self._wanted = header, header.size + -header.size % _BLOCK
            return
        if header.type == tarfile.GNUTYPE_SPARSE and block[_HEADER_IS_EXTENDED]:
            self._sparse = header
            return
        yield self._begin(header)

    def _begin(self, header: tarfile.TarInfo) -> Member:
        records, self._next_records, self._extended_bytes = self._global_records | self._next_records, {}, 0
        try:
            _apply(header, records)
        except ValueError as error:
            raise _unsupported() from error
        has_content = header.isreg() or header.type not in tarfile.SUPPORTED_TYPES
        self._content = header.size if has_content else 0
        if self._content < 0:
            raise _unsupported()
        self._padding = -self._content % _BLOCK
        xattrs = {key[len(_XATTR) :]: value for key, value in records.items() if key.startswith(_XATTR)}
        return Member(header, xattrs)

    def _extend(self, header: tarfile.TarInfo, data: bytes) -> None:
        if header.type == tarfile.GNUTYPE_LONGNAME:
            self._next_records["path"] = data.split(b"\0", 1)[0]
        elif header.type == tarfile.GNUTYPE_LONGLINK:
            self._next_records["linkpath"] = data.split(b"\0", 1)[0]
        elif header.type == tarfile.XGLTYPE:
            # Only what is used is kept: an archive may have any number of global headers.
            self._global_records.update((key, value) for key, value in _records(data) if key in _GLOBAL)
        else:
            self._next_records.update(_records(data))


def _records(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the records of a PAX header.  Source: POSIX.1-2001, pax, "pax Extended Header"."""
    at = 0
    while at < len(data):
        blank = data.find(b" ", at, at + 8)
        length = data[at:blank]
        end = at + int(length) if length.isdigit() else 0
        if not at < blank < end <= len(data):  # a length that is too small would have records read again
            raise _unsupported()
        key, equals, value = data[blank + 1 : end - 1].partition(b"=")
        if not equals:
            raise _unsupported()
        yield _text(key), value
        at = end


def _apply(header: tarfile.TarInfo, records: Mapping[str, bytes]) -> None:
    """Apply the records of extended headers to *header*.

    Raises:
        ValueError: a numeric record is not a number.
    """
    for key, name in (("path", "name"), ("linkpath", "linkname"), ("uname", "uname"), ("gname", "gname")):
        if key in records:
            setattr(header, name, _text(records[key]))
    for key in ("size", "uid", "gid", "mtime"):
        if key in records:
            setattr(header, key, int(records[key].partition(b".")[0]))
    header.name = header.name.rstrip("/") or header.name[:1]


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _unsupported() -> ImageInvalid:
    return ImageInvalid(reason="Layer format not supported")
