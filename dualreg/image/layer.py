"""Layers: their compression, and the digest of what they uncompress to."""

import bz2
import gzip
import io
import lzma
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum
from functools import cache, partial
from typing import BinaryIO, Protocol, Self

from dualreg.errors import ImageInvalid
from dualreg.image import media_types
from dualreg.image.descriptor import Descriptor
from dualreg.image.digest import Digest, Hasher

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdDecompressor, ZstdError
else:
    from backports.zstd import ZstdDecompressor, ZstdError

#: The gzip of an empty tar, as every Docker since 1.3 writes it for a step that changes no file.
#: Source: moby and distribution, ``digestSHA256GzippedEmptyTar``.
EMPTY_LAYER = bytes.fromhex("1f8b080000096e8800ff621805a360148c5800080000ffff2eafb5ef00040000")

#: The first bytes of a gzip layer that ``regzip`` makes.
GZIP_START = bytes.fromhex("1f8b08000000000000ff")
#: Bytes to uncompress at a time: a small layer may uncompress to gigabytes.
_INFLATE_STEP = 1 << 20
#: Bytes of a layer to hand over at a time: what follows a member is copied, and 20 bytes may be a member.
_FED_AT_ONCE = 16 << 10
#: Bytes of memory that uncompressing xz may take; its presets take up to 65 MiB.
_XZ_MEMORY = 128 << 20
_LONGEST_MAGIC = 6
#: What a compressed layer may uncompress to: so many bytes, and so many times its own size. gzip, which every
#: daemon writes, cannot exceed 1032 times. The others can, and would cost hours for a few kilobytes.
_INFLATED_ALLOWANCE, _INFLATED_RATIO = 64 << 20, 1100
#: What any compressed layer may uncompress to, in bytes: even at the ratio of gzip, a large layer must cost
#: minutes, not days. Larger files, such as those of language models, come uncompressed.
_INFLATED_LIMIT = 256 << 30
#: Bytes of layers whose content may be smaller than they are.
_SMALL_LAYER = 1 << 20
#: Bytes at the end of a layer that tell whether something follows its stream.
TAIL = 8
_TAR_BLOCK = 512


@cache
def empty_layer() -> Descriptor:
    """Return the descriptor of ``EMPTY_LAYER``."""
    return Descriptor(media_types.DOCKER_LAYER_GZIP, Digest.of(EMPTY_LAYER), len(EMPTY_LAYER))


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


_INFLATERS: dict[Compression, Callable[[], _Inflater]] = {
    Compression.GZIP: _Gunzip,
    Compression.BZIP2: bz2.BZ2Decompressor,
    Compression.XZ: partial(lzma.LZMADecompressor, memlimit=_XZ_MEMORY),
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
            if len(self._head) < _LONGEST_MAGIC:
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
        if self._inflated > _INFLATED_ALLOWANCE + _INFLATED_RATIO * self._fed:
            raise ImageInvalid(reason=f"layer uncompresses to more than {_INFLATED_RATIO} times its size")
        if self._inflated > _INFLATED_LIMIT:
            raise ImageInvalid(reason=f"layer uncompresses to more than {_INFLATED_LIMIT >> 30} GiB")


class DiffIdHasher:
    """Computes the diff ID of a layer while it is streamed."""

    def __init__(self, *, zstd: bool = False) -> None:
        """Start before the first byte; *zstd* as for ``Inflater``."""
        self._inflater = Inflater(zstd=zstd)
        self._hasher = Hasher()

    @property
    def compression(self) -> Compression | None:
        """The compression of the layer; None while it is unknown, as for ``Inflater``."""
        return self._inflater.compression

    def update(self, data: bytes) -> None:
        """Feed the next piece of the layer.

        Raises:
            ImageInvalid: as ``Inflater.feed``.
        """
        for piece in self._inflater.feed(data):
            self._hasher.update(piece)

    def digest(self) -> Digest:
        """Return the diff ID of the layer; call this after the last piece.

        Raises:
            ImageInvalid: the compressed stream is truncated.
        """
        for piece in self._inflater.finish():
            self._hasher.update(piece)
        return self._hasher.digest()


class LayerHasher:
    """Computes the digest and the diff ID of a layer while it is streamed.

    They are the same for a layer that is not compressed, whose bytes are hashed once.
    """

    def __init__(self, *, zstd: bool = False) -> None:
        """Start before the first byte; *zstd* as for ``Inflater``."""
        self._inside, self._packed = DiffIdHasher(zstd=zstd), Hasher()

    def update(self, data: bytes) -> None:
        """Feed the next piece of the layer.

        Raises:
            ImageInvalid: as ``Inflater.feed``.
        """
        self._inside.update(data)
        if self._inside.compression is not Compression.NONE:
            self._packed.update(data)

    def diff_id(self) -> Digest:
        """Return the diff ID of the layer; call this after the last piece.

        Raises:
            ImageInvalid: the compressed stream is truncated.
        """
        return self._inside.digest()

    def digest(self) -> Digest:
        """Return the digest of the layer, as ``diff_id``."""
        diff_id = self.diff_id()
        return diff_id if self._inside.compression is Compression.NONE else self._packed.digest()


def read_diff_id(chunks: Iterable[bytes], *, zstd: bool = False) -> tuple[Digest, Compression]:
    """Return the diff ID and the compression of a layer, which is read through.

    Raises:
        ImageInvalid: as ``Inflater``.
    """
    hasher = DiffIdHasher(zstd=zstd)
    for chunk in chunks:
        hasher.update(chunk)
    diff_id = hasher.digest()
    return diff_id, hasher.compression or Compression.NONE


def inflated(chunks: Iterable[bytes], *, zstd: bool = False) -> Iterator[bytes]:
    """Yield what a layer of any compression uncompresses to.

    Raises:
        ImageInvalid: as ``Inflater``.
    """
    inflater = Inflater(zstd=zstd)
    for chunk in chunks:
        yield from inflater.feed(chunk)
    yield from inflater.finish()


def regzip(chunks: Iterable[bytes], *updates: Callable[[bytes], None]) -> Iterator[bytes]:
    """Yield a layer of any compression as gzip, which every client reads.

    The output depends on the uncompressed bytes and the release of zlib alone: level 6, without time and
    name.

    Args:
        updates: Called with each uncompressed piece.

    Raises:
        ImageInvalid: the stream is corrupt.
    """
    inflater, out = Inflater(zstd=True), io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=6, mtime=0, filename="") as target:
        for chunk in chunks:
            target.writelines(_passed(inflater.feed(chunk), updates))
            yield out.getvalue()
            out.seek(0)
            out.truncate()
        target.writelines(_passed(inflater.finish(), updates))
    yield out.getvalue()


def _passed(pieces: Iterable[bytes], updates: Sequence[Callable[[bytes], None]]) -> Iterator[bytes]:
    """Yield *pieces* after passing each to every one of *updates*."""
    for piece in pieces:
        for update in updates:
            update(piece)
        yield piece


def may_be_padded(head: bytes, tail: bytes, size: int) -> bool:
    """Return whether zeros may follow the stream of a gzip layer, judging by little of it.

    The last four bytes of gzip are the size of its content. If they are not, because other bytes follow, they
    hardly ever fit the size of the layer. It may be a layer of several members as well. Of a small layer, the
    size must be that of a tar, and must not be one if it is read some zeros earlier.

    Args:
        head: Its first bytes, at least three.
        tail: Its last bytes, TAIL of them.
        size: Of the layer.

    Source: RFC 1952, section 2.3.1.
    """
    if not head.startswith(Compression.GZIP.value):
        return False
    limit, stated = _INFLATED_RATIO * size, int.from_bytes(tail[-4:], "little")
    if size > _SMALL_LAYER:
        return not size - _SMALL_LAYER // 2 <= stated <= limit
    if tail[-1]:
        return stated > limit
    zeros = len(tail) - len(tail.rstrip(b"\0"))
    ends = (tail[-4 - shift : len(tail) - shift] for shift in range(min(zeros, 4) + 1))
    fits = [0 < (end := int.from_bytes(each, "little")) <= limit and not end % _TAR_BLOCK for each in ends]
    return not fits[0] or any(fits[1:])


def looks_padded(layer: BinaryIO) -> bool:
    """Return whether zeros may follow the stream of a gzip layer, as ``may_be_padded``."""
    layer.seek(0)
    head, size = layer.read(_LONGEST_MAGIC), layer.seek(0, io.SEEK_END)
    layer.seek(max(size - TAIL, 0))
    return may_be_padded(head, layer.read(TAIL), size)


def is_padded(layer: BinaryIO) -> bool:
    """Return whether zeros follow the stream of a gzip layer; it is read through only if it may be so.

    Raises:
        ImageInvalid: as ``Inflater.feed``.
    """
    if not looks_padded(layer):
        return False
    layer.seek(0)
    return ends_with_padding(iter(partial(layer.read, _INFLATE_STEP), b""))


def ends_with_padding(chunks: Iterable[bytes]) -> bool:
    """Read a layer through; return whether zeros follow its compressed stream.

    Raises:
        ImageInvalid: as ``Inflater.feed``.
    """
    inflater = Inflater()
    for chunk in chunks:
        for _ in inflater.feed(chunk):
            pass
    return inflater.padded


@cache
def empty_diff_ids() -> frozenset[Digest]:
    """Return the diff IDs of layers without files.

    Such a tar has no bytes, or up to twenty blocks (a record of GNU tar) of zeros.
    """
    return frozenset(Digest.of(bytes(512 * blocks)) for blocks in range(21))


def have_same_files(one: Digest | None, other: Digest | None) -> bool:
    """Return whether layers of these diff IDs are the same, or both without files.

    Releases write a layer without files differently.
    """
    return one == other or empty_diff_ids() >= {one, other}
