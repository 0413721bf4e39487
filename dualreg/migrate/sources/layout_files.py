"""The blobs of an OCI layout: files in a folder, or members of tar archives, its volumes."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from dualreg.image.digest import Digest
from dualreg.migrate.findings import Broken, Finding, FindingKind
from dualreg.migrate.inventory import Held, Inventory, read_inventory
from dualreg.migrate.sources.archive import Archive
from dualreg.migrate.sources.base import SourceBytes, SourceInvalid
from dualreg.migrate.sources.files import DOCUMENT_LIMIT, blob_file, open_file, read_document
from dualreg.migrate.sources.streams import streamed
from dualreg.migrate.volume_names import INVENTORY, member_name, volume_name
from dualreg.storage.base import read_chunks

#: Members of a volume, at most.
_MEMBERS_LIMIT = 10_000_000


class LayoutFiles(Protocol):
    """Where the blobs of a layout are."""

    def findings(self) -> Sequence[Finding]:
        """Return what is wrong with all of them."""

    def document(self, digest: Digest, where: str) -> bytes:
        """Return the manifest *where*.

        Raises:
            Broken: it is missing, or cannot be read.
        """

    def blob(self, digest: Digest, where: str) -> SourceBytes:
        """Return the blob *where*, not read yet.

        Raises:
            Broken: it is missing.
        """

    def lacks(self, digest: Digest) -> bool:
        """Return whether a blob was left out, since the registry that the layout is for has it."""


@dataclass(frozen=True, slots=True)
class FolderFiles:
    """A file for each blob."""

    root: Path

    def findings(self) -> Sequence[Finding]:
        return ()

    def document(self, digest: Digest, where: str) -> bytes:
        return read_document(self._path(digest), self.root, where)

    def blob(self, digest: Digest, where: str) -> SourceBytes:
        return blob_file(self._path(digest), self.root, where)

    def _path(self, digest: Digest) -> Path:
        return self.root / "blobs" / digest.algorithm / digest.hex

    def lacks(self, digest: Digest) -> bool:
        del digest
        return False


@dataclass(frozen=True, slots=True)
class VolumeFiles:
    """Volumes, some of which may be missing or damaged: blobs in these are only read if they are needed.

    Attributes:
        archives: By number; why one cannot be read, instead of it.
    """

    inventory: Inventory
    archives: Mapping[int, Archive | str]

    @classmethod
    def open(cls, root: Path) -> "VolumeFiles":
        """Return the volumes in a folder.

        Raises:
            SourceInvalid: there is no inventory, or it is invalid.
        """
        path = root / INVENTORY
        try:
            with open_file(path, root) as file:
                text = b"".join(read_chunks(file)).decode("ascii")
            found = read_inventory(text.splitlines())
        except FileNotFoundError as error:
            raise SourceInvalid(f"{path}: no such file; copy it with the volumes") from error
        except (OSError, ValueError) as error:
            raise SourceInvalid(f"{path}: {error}") from error
        return cls(found, {number: _archive(root, number) for number in range(1, found.volumes + 1)})

    def findings(self) -> Sequence[Finding]:
        return [
            Finding(FindingKind.UNREADABLE, volume_name(number), each)
            for number, each in self.archives.items()
            if isinstance(each, str)
        ]

    def document(self, digest: Digest, where: str) -> bytes:
        if digest not in self.inventory.blobs:
            raise Broken(FindingKind.MISSING_MANIFEST, where, "no such manifest")
        try:
            with self.blob(digest, where).open() as reader:
                return b"".join(_limited(read_chunks(reader)))
        except OSError as error:
            raise Broken(FindingKind.UNREADABLE, where, str(error)) from error

    def blob(self, digest: Digest, where: str) -> SourceBytes:
        held = self.inventory.blobs.get(digest)
        if held is None:
            raise Broken(FindingKind.MISSING_BLOB, where, "no such blob")
        return SourceBytes(held.size, lambda: self._open(digest, held))

    def lacks(self, digest: Digest) -> bool:
        held = self.inventory.blobs.get(digest)
        return held is not None and not held.volumes

    def _open(self, digest: Digest, held: Held) -> BinaryIO:
        """Open a blob.

        Raises:
            OSError: a volume of it is missing, or it was left out.
        """
        if not held.volumes:
            raise OSError("it was left out of the volumes, as the registry that they are for had it")
        parts = [self._part(digest, number, place, held) for place, number in enumerate(held.volumes, 1)]
        if not parts[1:]:
            return parts[0].open()
        return streamed(_joined(parts))

    def _part(self, digest: Digest, number: int, place: int, held: Held) -> SourceBytes:
        archive, name = self.archives.get(number, "missing"), volume_name(number)
        if isinstance(archive, str):
            raise OSError(f"it is in {name}: {archive}")
        try:
            return archive.bytes_of(member_name(digest, place if held.volumes[1:] else 0))
        except FileNotFoundError as error:
            raise OSError(f"{name} belongs to another export: it lacks {error}") from error


def _limited(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the chunks of a manifest.

    Raises:
        OSError: it is too large for one.
    """
    left = DOCUMENT_LIMIT
    for chunk in chunks:
        left -= len(chunk)
        if left < 0:
            raise OSError(f"it has more than {DOCUMENT_LIMIT} bytes")
        yield chunk


def _joined(parts: Sequence[SourceBytes]) -> Iterator[bytes]:
    for part in parts:
        with part.open() as reader:
            yield from read_chunks(reader)


def _archive(root: Path, number: int) -> Archive | str:
    """Return a volume; or why it cannot be read."""
    path = root / volume_name(number)
    if not path.exists():
        return "the volume is missing"
    try:
        return Archive.open(path, members=_MEMBERS_LIMIT)
    except SourceInvalid as error:
        return f"the volume is damaged or incomplete: {error}"
