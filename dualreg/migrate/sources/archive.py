"""Tar archives whose members are read in any order."""

import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path, PurePosixPath
from tempfile import TemporaryFile
from typing import Self

from dualreg.errors import ImageInvalid
from dualreg.image.inflater import Compression
from dualreg.image.layer import inflated
from dualreg.image.tar import EXTENDED, EXTENDED_LIMIT
from dualreg.migrate.sources.base import SourceBytes, SourceInvalid
from dualreg.migrate.sources.files import open_file
from dualreg.migrate.sources.streams import OpenFile
from dualreg.storage.base import read_chunks

#: Bytes of the largest document that is read.
_DOCUMENT_LIMIT = 16 << 20
#: Archives with more members, or longer names on average, are refused; an image has a few per layer.
_MEMBERS_LIMIT, _NAME_LENGTH = 100_000, 160
#: How many links are followed.
_LINK_LIMIT = 10


@dataclass(frozen=True, slots=True)
class Archive:
    """A tar archive whose members have been listed.

    Attributes:
        file: Kept open, so that it stays the file whose members were listed.
        updated: When it was last modified.
        members: Offset and size of each regular file.
        links: The target of each symbolic and hard link.
    """

    file: OpenFile
    updated: datetime
    members: Mapping[str, tuple[int, int]]
    links: Mapping[str, str]

    @classmethod
    def open(cls, path: Path, *, members: int = _MEMBERS_LIMIT) -> "Archive":
        """List the archive at *path*; a compressed one is decompressed into a temporary file.

        Args:
            members: How many there may be.

        Raises:
            SourceInvalid: it is not a tar archive.
        """
        found, links = dict[str, tuple[int, int]](), dict[str, str]()
        try:
            updated = datetime.fromtimestamp(path.stat().st_mtime, UTC)
            file = _plain(path)
            with tarfile.open(fileobj=file.reader(), mode="r:", tarinfo=_Header) as archive:
                for member in _listed(archive, members):
                    name = _normal(member.name)
                    if member.isreg():
                        found[name] = (member.offset_data, member.size)
                    elif member.issym():
                        links[name] = _normal(str(PurePosixPath(name).parent / member.linkname))
                    elif member.islnk():
                        links[name] = _normal(member.linkname)
        except (OSError, tarfile.TarError, ImageInvalid) as error:
            raise SourceInvalid(f"{path}: not a tar archive ({error})") from error
        return cls(file, updated, found, links)

    def bytes_of(self, name: str) -> SourceBytes:
        """Return a file in the archive, not read yet.

        Raises:
            FileNotFoundError: there is no such file.
        """
        name = _normal(name)
        for _ in range(_LINK_LIMIT):
            name = self.links.get(name, name)
        if name not in self.members:
            raise FileNotFoundError(name)
        offset, size = self.members[name]
        changed = int(self.updated.timestamp() * 1e9)
        return SourceBytes(size, partial(self.file.reader, offset, size), changed=changed)

    def document(self, name: str) -> bytes:
        """Return the content of a small file in the archive.

        Raises:
            OSError: it is missing or too large.
        """
        found = self.bytes_of(name)
        if found.size > _DOCUMENT_LIMIT:
            raise OSError(f"{name} has {found.size} bytes, more than the limit of {_DOCUMENT_LIMIT}")
        with found.open() as reader:
            return b"".join(read_chunks(reader))


class _Header(tarfile.TarInfo):
    """A header whose extension, which ``tarfile`` reads into memory, is of a bounded size."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        header = super().frombuf(buf, encoding, errors)
        if header.type in EXTENDED and header.size > EXTENDED_LIMIT:
            raise tarfile.ReadError("a header is too large")
        return header


def _listed(archive: tarfile.TarFile, most: int) -> Iterator[tarfile.TarInfo]:
    """Yield the members, of which there may be so many at *most*, without keeping them.

    Raises:
        tarfile.TarError: the archive is damaged, or has too many members, or too long names.
    """
    count = names = 0
    while member := archive.next():
        archive.members.clear()  # type: ignore[attr-defined]  # public, but not in typeshed
        count, names = count + 1, names + len(member.name) + len(member.linkname)
        if count > most or names > most * _NAME_LENGTH:
            raise tarfile.ReadError("too many members, or too long names")
        yield member


def _plain(path: Path) -> OpenFile:
    with open_file(path, "/") as file:
        compression = Compression.sniff(file.read(6))
        file.seek(0)
        if compression is Compression.NONE:
            return OpenFile(file)
        with TemporaryFile() as spool:
            spool.writelines(inflated(read_chunks(file), zstd=True))
            spool.flush()
            return OpenFile(spool)


def _normal(name: str) -> str:
    """Return the name of a member without ``.`` and ``..``."""
    parts: list[str] = []
    for part in PurePosixPath(name).parts:
        if part == "..":
            parts = parts[:-1]
        elif part not in ("/", "."):
            parts.append(part)
    return "/".join(parts)
