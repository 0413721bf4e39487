"""Streams: readers over parts of a file, and over what is made on the way."""

import io
import os
from collections.abc import Iterable
from typing import IO, BinaryIO, cast


class OpenFile:
    """A file that stays open as long as anybody reads it; readers do not disturb each other."""

    def __init__(self, file: IO[bytes]) -> None:
        """Keep *file* open, even when it is closed."""
        self._descriptor = os.dup(file.fileno())

    def __del__(self) -> None:
        """Let it go."""
        os.close(self._descriptor)

    def reader(self, offset: int = 0, size: int | None = None) -> BinaryIO:
        """Return a reader of *size* bytes from *offset* on; None: of all."""
        whole = os.fstat(self._descriptor).st_size
        return cast("BinaryIO", _Part(self, offset, offset + size if size is not None else whole))

    def read(self, buffer: memoryview, offset: int) -> int:
        """Fill *buffer* with what is at *offset*; return how many bytes there were."""
        return os.preadv(self._descriptor, [buffer], offset)


def streamed(chunks: Iterable[bytes]) -> BinaryIO:
    """Return a reader of *chunks*, which are asked for as it is read."""
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
            raise OSError("the file ends early")
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
