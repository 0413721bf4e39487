"""Layers: their compression, and the digest of what they uncompress to."""

import gzip
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from typing import BinaryIO

from dualreg.image import media_types
from dualreg.image.descriptor import Descriptor
from dualreg.image.digest import Digest, Hasher
from dualreg.image.inflater import INFLATED_RATIO, LONGEST_MAGIC, Compression, Inflater

#: The gzip of an empty tar, as every Docker since 1.3 writes it for a step that changes no file.
#: Source: moby and distribution, ``digestSHA256GzippedEmptyTar``.
EMPTY_LAYER = bytes.fromhex("1f8b080000096e8800ff621805a360148c5800080000ffff2eafb5ef00040000")

#: The first bytes of a gzip layer that ``regzip`` makes.
GZIP_START = bytes.fromhex("1f8b08000000000000ff")
#: Bytes of layers whose content may be smaller than they are.
_SMALL_LAYER = 1 << 20
#: Bytes at the end of a layer that tell whether something follows its stream.
TAIL = 8
_TAR_BLOCK = 512
#: Bytes of a layer to read at a time.
_READ_AT_ONCE = 1 << 20


@cache
def empty_layer() -> Descriptor:
    """Return the descriptor of ``EMPTY_LAYER``."""
    return Descriptor(media_types.DOCKER_LAYER_GZIP, Digest.of(EMPTY_LAYER), len(EMPTY_LAYER))


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
    limit, stated = INFLATED_RATIO * size, int.from_bytes(tail[-4:], "little")
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
    head, size = layer.read(LONGEST_MAGIC), layer.seek(0, io.SEEK_END)
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
    return ends_with_padding(iter(partial(layer.read, _READ_AT_ONCE), b""))


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
