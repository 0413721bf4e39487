"""Inflater: uncompresses layers of any compression piece by piece, in bounded memory and time."""

import bz2
import lzma
import sys
import zlib
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Protocol, Self

from dualreg.errors import ImageInvalid

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdDecompressor, ZstdError
else:
    from backports.zstd import ZstdDecompressor, ZstdError

#: Bytes to uncompress at a time: a small layer may uncompress to gigabytes.
_INFLATE_STEP = 1 << 20
#: Bytes of a layer to hand over at a time: what follows a member is copied, and 20 bytes may be a member.
_FED_AT_ONCE = 16 << 10
#: Bytes of memory that uncompressing xz may take; its presets take up to 65 MiB.
_XZ_MEMORY = 128 << 20
#: Bytes from which the compression is known.
LONGEST_MAGIC = 6
#: What a compressed layer may uncompress to: so many bytes, and so many times its own size. gzip, which every
#: daemon writes, cannot exceed 1032 times. The others can, and would cost hours for a few kilobytes.
_INFLATED_ALLOWANCE, INFLATED_RATIO = 64 << 20, 1100
#: What any compressed layer may uncompress to, in bytes: even at the ratio of gzip, a large layer must cost
#: minutes, not days. Larger files, such as those of language models, come uncompressed.
_INFLATED_LIMIT = 256 << 30


class Compression(Enum):
    """The compression of a layer; the value is the magic number at its start.

    Source: the file formats' own specifications (RFC 1952, bzip2, xz, RFC 8878).
    """

    GZIP = b"\x1f\x8b\x08"
    BZIP2 = b"BZh"
    XZ = b"\xfd7zXZ\x00"
    ZSTD = b"\x28\xb5\x2f\xfd"
    NONE = b""

    @classmethod
    def sniff(cls, head: bytes) -> Self:
        """Return the compression of a layer that starts with *head*; six bytes suffice."""
        return next(compression for compression in cls if head.startswith(compression.value))


class _Inflater(Protocol):
    """The common interface of the decompressors of bz2, lzma and zstd."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gunzip:
    """zlib's gzip decompressor with the interface of bz2's and lzma's."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)

    @property
    def eof(self) -> bool:
        return self._inflate.eof

    @property
    def needs_input(self) -> bool:
        return not self._inflate.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inflate.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inflate.decompress(self._inflate.unconsumed_tail + data, max_length)


def _unxz() -> _Inflater:
    return lzma.LZMADecompressor(memlimit=_XZ_MEMORY)


_INFLATERS: dict[Compression, Callable[[], _Inflater]] = {
    Compression.GZIP: _Gunzip,
    Compression.BZIP2: bz2.BZ2Decompressor,
    Compression.XZ: _unxz,
    Compression.ZSTD: ZstdDecompressor,
}


class Inflater:
    """Uncompresses a layer of any compression piece by piece, in bounded memory.

    Attributes:
        compression: Detected from the first six bytes (or the whole layer); None before.
        padded: Whether zeros follow the compressed stream. They are ignored here, as by gzip itself, but
            Docker and podman read no such layer ("gzip: invalid header").
    """

    def __init__(self, *, zstd: bool = False) -> None:
        """Start before the first byte; refuse zstd, which no V1 client sends or reads, unless *zstd*."""
        self.compression: Compression | None = None
        self.padded = False
        self._may_be_zstd = zstd
        self._head = b""
        self._inflater: _Inflater | None = None
        self._fed = self._inflated = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what *data*, the next piece of the layer, uncompresses to, in all members of the stream.

        Raises:
            ImageInvalid: the stream is corrupt, zstd though that is refused, or far larger than its size
                lets expect.
        """
        self._fed += len(data)
        if self.compression is None:
            self._head += data
            if len(self._head) < LONGEST_MAGIC:
                return
            data = self._begin()
        yield from self._inflate(data)

    def finish(self) -> Iterator[bytes]:
        """Yield the rest, after the last piece was fed.

        Raises:
            ImageInvalid: the compressed stream is truncated.
        """
        if self.compression is None:
            yield from self._inflate(self._begin())
        if self._inflater is not None and not self._inflater.eof:
            raise ImageInvalid(reason="compressed layer is truncated")

    def _begin(self) -> bytes:
        self.compression = Compression.sniff(self._head)
        if self.compression is Compression.ZSTD and not self._may_be_zstd:
            raise ImageInvalid(reason="V1 layers cannot be zstd")
        self._renew()
        head, self._head = self._head, b""
        return head

    def _renew(self) -> None:
        inflater = _INFLATERS.get(self.compression) if self.compression else None
        self._inflater = inflater() if inflater else None

    def _inflate(self, data: bytes) -> Iterator[bytes]:
        if self._inflater is None:
            yield data
            return
        for start in range(0, max(1, len(data)), _FED_AT_ONCE):
            yield from self._inflate_some(data[start : start + _FED_AT_ONCE])

    def _inflate_some(self, data: bytes) -> Iterator[bytes]:
        try:
            while self._inflater and (data or not self._inflater.needs_input):
                if self._inflater.eof:
                    if not data.strip(b"\0"):
                        self.padded = self.padded or bool(data)
                        return
                    self._begin_member(data)
                piece = self._inflater.decompress(data, _INFLATE_STEP)
                self._count(len(piece))
                yield piece
                data = self._inflater.unused_data if self._inflater.eof else b""
        except (zlib.error, OSError, lzma.LZMAError, ZstdError) as error:
            raise ImageInvalid(reason="compressed layer is corrupt") from error

    def _begin_member(self, data: bytes) -> None:
        """Begin the next member of the stream; raise ImageInvalid if *data* is none."""
        magic = Compression.GZIP.value if self.compression is Compression.GZIP else b""
        if self.padded or data[: len(magic)] != magic[: len(data)]:
            raise ImageInvalid(reason="other bytes follow the compressed layer")
        self._renew()

    def _count(self, size: int) -> None:
        """Count uncompressed bytes; raise ImageInvalid if they are too many."""
        self._inflated += size
        if self._inflated > _INFLATED_ALLOWANCE + INFLATED_RATIO * self._fed:
            raise ImageInvalid(reason=f"layer uncompresses to more than {INFLATED_RATIO} times its size")
        if self._inflated > _INFLATED_LIMIT:
            raise ImageInvalid(reason=f"layer uncompresses to more than {_INFLATED_LIMIT >> 30} GiB")
