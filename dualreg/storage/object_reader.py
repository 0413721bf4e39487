"""ObjectReader: bytes of objects in a bucket, one after another, read like a file."""

import io
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Self, TypeVar

from dualreg.storage.base import StoreUnavailable
from dualreg.storage.s3 import FETCHES, Bucket, Found, Range
from dualreg.storage.s3_library import PlainBody

Received = TypeVar("Received")


class ObjectReader(io.RawIOBase):
    """A reader of ranges of objects. A request is sent when a byte is read, unless it follows the last one.

    Reading raises StoreUnavailable if an object ends too early, is gone, or was replaced: what was read is
    never continued by the bytes of another object.
    """

    def __init__(self, bucket: Bucket, ranges: Sequence[Range], found: Found | None = None) -> None:
        """Read *ranges* from the beginning of the first one.

        Args:
            found: The object that they are all of.
        """
        super().__init__()
        self.found = found
        self._bucket, self._ranges = bucket, [each for each in ranges if each.length]
        self._size = sum(each.length for each in self._ranges)
        self._position = 0
        self._stream: Any = None
        self._streamed = 0, 0  # what is left of the stream: from which byte on, and how many

    @classmethod
    def of(cls, bucket: Bucket, key: str, start: int, length: int | None) -> Self | None:
        """Return a reader of a whole object, positioned at byte *start*; None if there is none.

        Args:
            length: How many bytes are asked for now; None: all from *start* on.
        """
        opened = bucket.get(key, start=start, length=length)
        if opened is None:
            return None
        found, stream = opened
        reader = cls(bucket, [Range(key, found.size, found.size)], found)
        reader._stream = stream
        left = found.size - start
        reader._position, reader._streamed = start, (start, left if length is None else min(length, left))
        return reader

    @property
    def size(self) -> int:
        """How many bytes there are in all."""
        return self._size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 -- any writable buffer
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def read(self, size: int = -1) -> bytes:
        """Return up to *size* bytes, as they came: the base class would copy them twice."""
        return self.readall() if size < 0 else self._receive(size, self._bucket.client.read, len) or b""

    @property
    def can_move(self) -> bool:
        """Whether ``move`` works."""
        return isinstance(self._stream, PlainBody)

    def move(self, pipe: int, size: int) -> int:
        """Move up to *size* bytes into a pipe, which is empty, within the kernel; return how many."""

        def move(key: str, stream: Any, size: int) -> int:  # noqa: ANN401 -- as of read
            return self._bucket.client.move(key, stream, pipe, size)

        return self._receive(size, move, int) or 0

    def _receive(
        self, size: int, take: Callable[[str, Any, int], Received], length: Callable[[Received], int]
    ) -> Received | None:
        """Return what *take* receives of the bytes from the position on; None at the end.

        Args:
            take: Receives up to a number of bytes of a stream; none if it broke.
            length: Returns how many they are.
        """
        if self._position >= self._size or not size:
            return None
        for _ in range(FETCHES):
            received = self._try_to_receive(size, take)
            if received and (count := length(received)):
                begin, left = self._streamed
                self._streamed = begin + count, left - count
                self._position += count
                return received
            self._drop()
        raise StoreUnavailable(f"an object ends before byte {self._position} of {self._size}")

    def close(self) -> None:
        self._drop()
        super().close()

    def _try_to_receive(self, size: int, take: Callable[[str, Any, int], Received]) -> Received | None:
        """Return what *take* receives from the position on; None if the stream broke."""
        begin, left = self._streamed
        if begin != self._position or not left or self._stream is None:
            self._open()
            begin, left = self._streamed
        with suppress(StoreUnavailable):
            return take(self._ranges[0].key, self._stream, min(size, left))
        return None

    def _open(self) -> None:
        """Open a stream at the position.

        Raises:
            StoreUnavailable: the object is gone, or is another one.
        """
        self._drop()
        start = 0
        for each in self._ranges:
            if self._position < start + each.length:
                break
            start += each.length
        skipped = self._position - start
        left, etag = each.length - skipped, self.found and self.found.etag
        opened = self._bucket.get(each.key, start=skipped, length=left, etag=etag)
        if opened is None:
            raise StoreUnavailable(f"{each.key} was deleted while it was read")
        self._stream, self._streamed = opened[1], (self._position, left)

    def _drop(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
