"""Layers: compressions by their first bytes, and the digest of what is inside, whatever the pieces."""

import bz2
import gzip
import hashlib
import lzma
import os
import random
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from time import process_time

import pytest

from dualreg.errors import ImageInvalid
from dualreg.image.digest import Digest
from dualreg.image.inflater import Compression, Inflater
from dualreg.image.layer import EMPTY_LAYER, DiffIdHasher, LayerHasher, empty_diff_ids, regzip
from tests.builders import tar, zstd_compress

#: Docker up to 1.2 wrote this for a step that changes no file: the gzip of nothing at all.
OLD_EMPTY_LAYER = bytes.fromhex("1f8b080000096e8800ff010000ffff0000000000000000")
TAR = tar({"hello": b"hello\n", "noise": hashlib.shake_256(b"noise").digest(3000)})
ZSTD = bytes.fromhex("28b52ffd040009000068690a")

LAYERS = [
    pytest.param(TAR, TAR, Compression.NONE, id="plain"),
    pytest.param(gzip.compress(TAR), TAR, Compression.GZIP, id="gzip"),
    pytest.param(gzip.compress(TAR[:99]) + gzip.compress(TAR[99:]), TAR, Compression.GZIP, id="two members"),
    pytest.param(gzip.compress(TAR) + bytes(700), TAR, Compression.GZIP, id="gzip, padded"),
    pytest.param(bz2.compress(TAR), TAR, Compression.BZIP2, id="bzip2"),
    pytest.param(bz2.compress(TAR[:99]) + bz2.compress(TAR[99:]), TAR, Compression.BZIP2, id="bzip2 twice"),
    pytest.param(lzma.compress(TAR), TAR, Compression.XZ, id="xz"),
    pytest.param(lzma.compress(TAR[:99]) + lzma.compress(TAR[99:]), TAR, Compression.XZ, id="xz twice"),
    pytest.param(lzma.compress(TAR) + bytes(8), TAR, Compression.XZ, id="xz, padded"),
    pytest.param(EMPTY_LAYER, bytes(1024), Compression.GZIP, id="empty"),
    pytest.param(OLD_EMPTY_LAYER, b"", Compression.GZIP, id="old empty"),
    pytest.param(b"", b"", Compression.NONE, id="no byte"),
    pytest.param(b"a", b"a", Compression.NONE, id="one byte"),
    pytest.param(b"BZ", b"BZ", Compression.NONE, id="a start of bzip2's magic"),
    pytest.param(b"\x1f\x8b", b"\x1f\x8b", Compression.NONE, id="a start of gzip's magic"),
    pytest.param(b"\xfd7zXZ", b"\xfd7zXZ", Compression.NONE, id="a start of xz's magic"),
    pytest.param(b"12345", b"12345", Compression.NONE, id="five bytes"),
    pytest.param(b"123456", b"123456", Compression.NONE, id="six bytes"),
    pytest.param(bytes(512), bytes(512), Compression.NONE, id="zeros"),
]


def _pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


@pytest.mark.parametrize("size", [1, 2, 5, 6, 7, 100, 1 << 20])
@pytest.mark.parametrize(("layer", "inside", "compression"), LAYERS)
def test_diff_ids(layer: bytes, inside: bytes, compression: Compression, size: int) -> None:
    """The diff id is the digest of all that is inside, every member, in pieces of whichever size."""
    hasher = DiffIdHasher()
    for piece in _pieces(layer, size):
        hasher.update(piece)
    assert hasher.digest() == Digest.of(inside)
    assert hasher.compression is compression


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("layer", "inside", "compression"), LAYERS)
def test_diff_ids_of_random_pieces(layer: bytes, inside: bytes, compression: Compression, seed: int) -> None:
    """Pieces of mixed sizes, empty ones among them, change nothing; nor that the layer is hashed as well."""
    sizes = random.Random(seed)  # noqa: S311 -- a test, not a secret
    hasher, whole, rest = DiffIdHasher(), LayerHasher(), layer
    while rest:
        size = sizes.choice((0, 1, 2, 3, 50, 1000))
        hasher.update(rest[:size])
        whole.update(rest[:size])
        rest = rest[size:]
    assert (hasher.digest(), hasher.compression) == (Digest.of(inside), compression)
    assert (whole.digest(), whole.diff_id()) == (Digest.of(layer), Digest.of(inside))


@pytest.mark.parametrize(
    ("layer", "digest"),
    [
        (EMPTY_LAYER, "a3ed95caeb02ffe68cdd9fd84406680ae93d633cb16422d00e8a7c22955b46d4"),
        (bytes(1024), "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"),
        (OLD_EMPTY_LAYER, "1775fca35fb6a4d31c541746eaea63c5cb3c00280c8b5a351d4e944cdca7489d"),
        (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    ],
)
def test_well_known_blobs(layer: bytes, digest: str) -> None:
    """The constants that every registry and daemon knows."""
    assert Digest.of(layer) == Digest("sha256", digest)


CUT_SHORT = [
    pytest.param(gzip.compress(TAR)[:-1], id="gzip without its last byte"),
    pytest.param(gzip.compress(TAR)[:-8], id="gzip without its trailer"),
    pytest.param(gzip.compress(TAR)[:100], id="gzip"),
    pytest.param(gzip.compress(TAR)[:6], id="gzip's first six bytes"),
    pytest.param(gzip.compress(TAR)[:3], id="gzip's magic alone"),
    pytest.param(gzip.compress(TAR) + gzip.compress(TAR)[:50], id="second gzip member"),
    pytest.param(bz2.compress(TAR)[:-1], id="bzip2"),
    pytest.param(bz2.compress(TAR)[:3], id="bzip2's magic alone"),
    pytest.param(lzma.compress(TAR)[:-1], id="xz"),
    pytest.param(lzma.compress(TAR) + lzma.compress(TAR)[:50], id="second xz stream"),
]
DAMAGED = [
    pytest.param(gzip.compress(TAR)[:10] + b"\xff" * 100, id="gzip header, then garbage"),
    pytest.param(gzip.compress(TAR)[:-8] + b"\xff" * 8, id="gzip, wrong checksum"),
    pytest.param(gzip.compress(TAR) + b"garbage", id="gzip, then garbage"),
    pytest.param(bz2.compress(TAR)[:10] + b"\xff" * 100, id="bzip2 header, then garbage"),
    pytest.param(lzma.compress(TAR)[:12] + b"\xff" * 100, id="xz header, then garbage"),
    pytest.param(lzma.compress(TAR) + b"garbage!!", id="xz, then garbage"),
    pytest.param(ZSTD, id="zstd"),
    pytest.param(ZSTD[:4], id="zstd's magic alone"),
]


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
@pytest.mark.parametrize("layer", [*CUT_SHORT, *DAMAGED])
def test_broken_layers_have_no_diff_id(layer: bytes, size: int) -> None:
    """A stream cut short, damaged, or in zstd is refused by the last call at the latest."""
    hasher = DiffIdHasher()
    with pytest.raises(ImageInvalid) as caught:  # noqa: PT012 -- which call raises depends on the pieces
        for piece in _pieces(layer, size):
            hasher.update(piece)
        hasher.digest()
    assert caught.value.reason


def test_nothing_is_known_before_six_bytes() -> None:
    """The compression is told from six bytes, or from all there are."""
    hasher = DiffIdHasher()
    hasher.update(b"12345")
    assert hasher.compression is None
    hasher.update(b"6")
    assert hasher.compression is Compression.NONE


@pytest.mark.parametrize(
    ("head", "compression"),
    [
        (b"\x1f\x8b\x08\x00\x00\x00", Compression.GZIP),
        (b"\x1f\x8b\x07", Compression.NONE),
        (b"BZh91A", Compression.BZIP2),
        (b"\xfd7zXZ\x00", Compression.XZ),
        (b"\xfd7zXZ\x01", Compression.NONE),
        (b"\x28\xb5\x2f\xfd", Compression.ZSTD),
        (b"hello\x00", Compression.NONE),
        (b"", Compression.NONE),
    ],
)
def test_sniffing(head: bytes, compression: Compression) -> None:
    """A layer's first bytes tell its compression."""
    assert Compression.sniff(head) is compression


@pytest.mark.parametrize(
    "compress",
    [
        pytest.param(lambda size: zlib.compress(bytes(size), 9, 31), id="gzip"),
        pytest.param(lambda size: bz2.compress(bytes(size)), id="bzip2"),
        pytest.param(lambda size: lzma.compress(bytes(size), preset=0), id="xz"),
    ],
)
def test_a_bomb_inflates_in_bounded_memory(compress: Callable[[int], bytes]) -> None:
    """A small layer that inflates hugely comes out a piece at a time."""
    size = 48 << 20
    bomb = compress(size)
    assert len(bomb) < size // 500
    inflater = Inflater()
    tracemalloc.start()
    try:
        inflated = sum(map(len, inflater.feed(bomb))) + sum(map(len, inflater.finish()))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert inflated == size
    assert peak < 8 << 20


@pytest.mark.parametrize("layer", [bz2.compress(TAR), lzma.compress(TAR)], ids=["bzip2", "xz"])
def test_regzip_keeps_what_is_inside(layer: bytes) -> None:
    """Only the compression changes, and the same bytes come out however they came in."""
    outcomes = {b"".join(regzip(_pieces(layer, size))) for size in (1, 100, 1 << 20)}
    (made,) = outcomes
    assert gzip.decompress(made) == TAR
    # Neither a time nor a name; OS byte 255, "unknown".
    assert made[:10] == bytes.fromhex("1f8b08000000000000ff")


def test_regzip_gives_the_same_bytes_everywhere() -> None:
    """With zlib, whichever release of Python; digests of what was made are in catalogs and with clients."""
    if "ng" in zlib.ZLIB_RUNTIME_VERSION:
        pytest.skip("this Python has another library than zlib")
    noise = hashlib.shake_256(b"noise").digest(300_000)
    plain = tar({"noise": noise, "text": b"".join(b"line %d\n" % number for number in range(200_000))})
    digests = {
        Digest.of(b"".join(regzip(_pieces(zstd_compress(plain), size)))).hex for size in (999, 1 << 20)
    }
    assert digests == {"8e138cd7dbbb93e2b3b322ee7a0d2d6367ef7fcc10b213196b52b1ed9520e197"}


def test_regzip_of_a_broken_layer_fails() -> None:
    """A layer that is cut short is not turned into one that looks whole."""
    with pytest.raises(ImageInvalid):
        b"".join(regzip([lzma.compress(TAR)[:-1]]))


def test_blank_diff_ids_are_zeros_only() -> None:
    """Nothing, and whole blocks of zeros up to GNU tar's record, count as layers without files."""
    for blank in (b"", bytes(512), bytes(1024), bytes(10240), tar({})):
        assert Digest.of(blank) in empty_diff_ids()
    for other in (bytes(1), bytes(511), bytes(10241), tar({"a": b""})):
        assert Digest.of(other) not in empty_diff_ids()


@pytest.mark.parametrize(
    "compress",
    [
        pytest.param(lambda zeros: bz2.compress(zeros) * 12, id="bzip2"),
        pytest.param(lambda zeros: lzma.compress(zeros, preset=0) * 12, id="xz"),
        pytest.param(lambda zeros: zstd_compress(zeros) * 12, id="zstd"),
    ],
)
def test_a_bomb_ends_long_before_it_is_inflated(compress: Callable[[bytes], bytes]) -> None:
    """What uncompresses to more than 64 MiB and 1,100 times its size is refused there."""
    inflater, inflated = Inflater(zstd=True), 0
    with pytest.raises(ImageInvalid, match="times its size"):  # noqa: PT012 -- counts up to there
        for piece in inflater.feed(compress(bytes(8 << 20))):
            inflated += len(piece)
    assert inflated < 100 << 20


def test_many_members_cost_no_more_than_their_bytes() -> None:
    """What follows each of them in a piece is not copied for it."""
    inflater, layer = Inflater(), gzip.compress(b"") * 100_000
    began = process_time()
    assert not b"".join(inflater.feed(layer))
    assert process_time() - began < 5  # it takes 0.3 s; copying took 20


def test_xz_takes_bounded_memory() -> None:
    """A dictionary of 1 GiB is refused before there is memory for it; that of the highest preset is not."""
    large = lzma.compress(TAR, filters=[{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 30}])
    with pytest.raises(ImageInvalid):
        [*Inflater().feed(large)]
    highest = lzma.compress(TAR, filters=[{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 64 << 20}])
    assert b"".join(Inflater().feed(highest)) == TAR


def test_no_layer_uncompresses_without_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a limit in bytes, a compressed layer is refused at any ratio; an uncompressed one never is."""
    monkeypatch.setattr("dualreg.image.inflater._INFLATED_LIMIT", 1 << 20)
    content = os.urandom((1 << 20) + 1)
    with pytest.raises(ImageInvalid, match="uncompresses to more than"):
        b"".join(Inflater().feed(gzip.compress(content)))
    assert b"".join(Inflater().feed(content)) == content


@pytest.mark.slow
def test_no_gzip_is_a_bomb() -> None:
    """The densest gzip that there can be, of any size, is a layer."""
    dense = zlib.compress(bytes(160 << 20), 9, 31)
    hasher = DiffIdHasher()
    for piece in _pieces(dense, 1 << 16):
        hasher.update(piece)
    hasher.digest()
