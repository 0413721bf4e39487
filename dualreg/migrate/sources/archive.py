"""Archives: tars whose files are read in any order."""

import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path, PurePosixPath
from tempfile import TemporaryFile

from dualreg.errors import ImageInvalid
from dualreg.image.layer import Compression, inflated
from dualreg.migrate.sources.base import SourceBytes, SourceInvalid
from dualreg.migrate.sources.streams import OpenFile
from dualreg.storage.base import read_chunks

#: Bytes of the largest document that is read.
_DOCUMENT_LIMIT = 16 << 20
#: How many links may lead to a file.
_LINKS = 10


@dataclass(frozen=True, slots=True)
class Archive:
    """A tar, looked through once.

    Attributes:
        file: Open, so that the archive stays the one that was looked through.
        members: Where each file's bytes are: offset and size.
        links: Where each link leads.
    """

    file: OpenFile
    updated: datetime
    members: Mapping[str, tuple[int, int]]
    links: Mapping[str, str]

    @classmethod
    def open(cls, path: Path) -> "Archive":
        """Look through the archive at *path*; one that is compressed is uncompressed into a temporary file.

        Raises:
            NoSource: it is no archive.
        """
        members, links = dict[str, tuple[int, int]](), dict[str, str]()
        try:
            updated = datetime.fromtimestamp(path.stat().st_mtime, UTC)
            file = _plain(path)
            with tarfile.open(fileobj=file.reader(), mode="r:") as archive:
                for member in archive:
                    name = _normal(member.name)
                    if member.isreg():
                        members[name] = (member.offset_data, member.size)
                    elif member.issym():
                        links[name] = _normal(str(PurePosixPath(name).parent / member.linkname))
                    elif member.islnk():
                        links[name] = _normal(member.linkname)
        except (OSError, tarfile.TarError, ImageInvalid) as error:
            raise SourceInvalid(f"{path}: no archive ({error})") from error
        return cls(file, updated, members, links)

    def bytes_of(self, name: str) -> SourceBytes:
        """Return a file of the archive, not read yet.

        Raises:
            FileNotFoundError: there is none.
        """
        name = _normal(name)
        for _ in range(_LINKS):
            name = self.links.get(name, name)
        if name not in self.members:
            raise FileNotFoundError(name)
        offset, size = self.members[name]
        changed = int(self.updated.timestamp() * 1e9)
        return SourceBytes(size, partial(self.file.reader, offset, size), changed=changed)

    def document(self, name: str) -> bytes:
        """Return a small file of the archive.

        Raises:
            OSError: there is none, or it is too large.
        """
        found = self.bytes_of(name)
        if found.size > _DOCUMENT_LIMIT:
            raise OSError(f"{name} is too large")
        with found.open() as reader:
            return b"".join(read_chunks(reader))


def _plain(path: Path) -> OpenFile:
    with path.open("rb") as file:
        compression = Compression.sniff(file.read(6))
        file.seek(0)
        if compression is Compression.NONE:
            return OpenFile(file)
        with TemporaryFile() as spool:
            spool.writelines(inflated(read_chunks(file), zstd=True))
            spool.flush()
            return OpenFile(spool)


def _normal(name: str) -> str:
    """Return a member's name without dots."""
    parts: list[str] = []
    for part in PurePosixPath(name).parts:
        if part == "..":
            parts = parts[:-1]
        elif part not in ("/", "."):
            parts.append(part)
    return "/".join(parts)
