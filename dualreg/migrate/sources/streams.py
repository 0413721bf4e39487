"""Readers over part of a file, and over chunks that are generated."""

import io
import os
from collections.abc import Iterable
from typing import IO, BinaryIO, cast


class OpenFile:
    """A file that stays open while a reader of it exists; readers do not affect each other."""

    def __init__(self, file: IO[bytes]) -> None:
        """Keep the file open, even after *file* is closed."""
        self._descriptor = os.dup(file.fileno())

    def __del__(self) -> None:
        os.close(self._descriptor)

    def reader(self, offset: int = 0, size: int | None = None) -> BinaryIO:
        """Return a reader of *size* bytes from *offset* on, or up to the end."""
        whole = os.fstat(self._descriptor).st_size
        return cast("BinaryIO", _Part(self, offset, offset + size if size is not None else whole))

    def read(self, buffer: memoryview, offset: int) -> int:
        """Fill *buffer* from *offset* on; return how many bytes were read."""
        return os.preadv(self._descriptor, [buffer], offset)


def streamed(chunks: Iterable[bytes]) -> BinaryIO:
    """Return a reader of *chunks*, which are generated as it is read."""
    return cast("BinaryIO", io.BufferedReader(_Streamed(chunks)))


class _Part(io.RawIOBase):
    def __init__(self, file: OpenFile, start: int, end: int) -> None:
        self._file, self._start, self._at, self._end = file, start, start, end

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: self._start, os.SEEK_CUR: self._at, os.SEEK_END: self._end}[whence]
        self._at = base + offset
        return self._at - self._start

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # what io passes
        wanted = max(min(len(buffer), self._end - self._at), 0)
        count = self._file.read(memoryview(buffer)[:wanted], self._at) if wanted else 0
        if wanted and not count:
            raise OSError("unexpected end of file")
        self._at += count
        return count


class _Streamed(io.RawIOBase):
    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks, self._left = iter(chunks), memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # what io passes
        while not self._left:
            piece = next(self._chunks, None)
            if piece is None:
                return 0
            self._left = memoryview(piece)
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count
