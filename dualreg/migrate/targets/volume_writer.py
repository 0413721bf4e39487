"""Writer of volumes: tar archives of a limited size, one after the other."""

import os
import tarfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from dualreg.image.digest import Digest
from dualreg.migrate.findings import Broken
from dualreg.migrate.sources.base import SourceBytes
from dualreg.migrate.targets.base import TargetInvalid
from dualreg.migrate.targets.files import replace_durably, temporary_name
from dualreg.migrate.transfer import DigestVerifier, read_blob
from dualreg.migrate.volume_names import member_name, volume_name
from dualreg.storage.base import CHUNK_SIZE, read_chunks, tee

_BLOCK = tarfile.BLOCKSIZE
#: Bytes that end an archive: zeros.
_END = 2 * _BLOCK


class VolumeWriter:
    """Writes blobs to volumes. A volume appears under its name when it is full.

    Attributes:
        complete: How many volumes are.
        in_parts: Whether a blob is being written whose first parts are in complete volumes.
    """

    def __init__(self, folder: Path, limit: int, complete: int, on_complete: Callable[[], None]) -> None:
        """Write to *folder*, in which the first volumes are *complete* already.

        Args:
            limit: The size of a volume in bytes, at most; 0: any size.
            on_complete: Called after each volume that is complete.
        """
        self.complete, self.in_parts = complete, False
        self._folder, self._limit, self._on_complete = folder, limit, on_complete
        self._file: BinaryIO | None = None

    def add(self, digest: Digest, source: SourceBytes) -> tuple[int, ...]:
        """Write a blob; return the numbers of its volumes.

        Raises:
            Broken: its bytes do not have the digest; nothing of it is in a volume.
            TargetInvalid: they do not have it any more.
        """
        header = _header(member_name(digest), source.size)
        if not self._limit or self._fits(len(header) + _padded(source.size), _END):
            return self._add_whole(digest, source, header)
        if len(header) + _padded(source.size) + _END <= self._limit:
            self.close()
            return self._add_whole(digest, source, header)
        return self._add_parts(digest, source)

    def close(self) -> None:
        """Complete the volume that is being written, if there is one."""
        if self._file is None or not self._file.tell():
            return
        self._file.write(bytes(_END))
        replace_durably(self._file, self._folder / volume_name(self.complete + 1))
        self._file, self.complete = None, self.complete + 1
        self._on_complete()

    def discard(self) -> None:
        """Remove the volume that is being written, if there is one."""
        if self._file:
            self._file.close()
            Path(self._file.name).unlink(missing_ok=True)
            self._file = None

    def _add_whole(self, digest: Digest, source: SourceBytes, header: bytes) -> tuple[int, ...]:
        file = self._open()
        start, verifier = file.tell(), DigestVerifier(digest)
        try:
            with source.open() as reader:
                _write_member(file, header, tee(read_chunks(reader), verifier.update), source.size)
            verifier.check()
        except (Broken, OSError):
            file.seek(start)
            file.truncate()
            raise
        return (self.complete + 1,)

    def _add_parts(self, digest: Digest, source: SourceBytes) -> tuple[int, ...]:
        """Write a blob that is larger than a volume; it is read before, as its parts cannot be taken back."""
        read_blob(source, digest, str(digest))
        verifier, numbers, left = DigestVerifier(digest), list[int](), source.size
        self.in_parts = True
        with source.open() as reader:
            while left:
                room = self._room(_header(member_name(digest, len(numbers) + 1), left))
                if room <= 0:
                    self.close()
                    continue
                size = min(room, left)
                header = _header(member_name(digest, len(numbers) + 1), size)
                chunks = tee(_read_exactly(reader, size), verifier.update)
                _write_member(self._open(), header, chunks, size)
                numbers.append(self.complete + 1)
                left -= size
        self.in_parts = False
        if not verifier.matches:
            raise TargetInvalid(f"{digest} was changed while it was exported; run `dualreg fsck --read`")
        return tuple(numbers)

    def _open(self) -> BinaryIO:
        if self._file is None:
            self._file = temporary_name(self._folder / volume_name(self.complete + 1)).open("x+b")
        return self._file

    def _room(self, header: bytes) -> int:
        """Return how many bytes of a part fit into the current volume, in whole blocks."""
        used = self._file.tell() if self._file else 0
        return (self._limit - used - len(header) - _END) // _BLOCK * _BLOCK

    def _fits(self, *sizes: int) -> bool:
        return (self._file.tell() if self._file else 0) + sum(sizes) <= self._limit


def _header(name: str, size: int) -> bytes:
    """Return the header of a regular file, which depends on nothing else."""
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf(tarfile.PAX_FORMAT)


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _write_member(file: BinaryIO, header: bytes, chunks: Iterable[bytes], size: int) -> None:
    file.write(header)
    start = file.tell()
    file.writelines(chunks)
    if file.tell() - start != size:
        raise OSError(f"{os.fspath(file.name)}: a blob has {file.tell() - start} bytes instead of {size}")
    file.write(bytes(_padded(size) - size))


def _read_exactly(reader: BinaryIO, size: int) -> Iterator[bytes]:
    while size and (chunk := reader.read(min(CHUNK_SIZE, size))):
        size -= len(chunk)
        yield chunk
