"""Rows: big blobs up and down over the V2 API, whole, in parallel and in ranges."""

import hashlib
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from tests.benchmarks.images import REPOSITORY, with_digest
from tests.benchmarks.rows import Ask, Effort, Row, has, read
from tests.benchmarks.servers import Server
from tests.benchmarks.wire import CHUNKED, LAST_CHUNK, STREAM, Connection, Refused, chunked, discard

_BLOBS = f"/v2/{REPOSITORY}/blobs"
#: Bytes of the block that big blobs are made of, over and over, and of what makes one like no other.
_BLOCK, _NONCE = 4 << 20, 32
_MEBI = 1 << 20
#: Pulls at once.
_PARALLEL = 8
#: Bytes of a range, and how many different ones are asked for.
_RANGE, _RANGES = 64 << 10, 256


def rows(effort: Effort) -> Sequence[Row]:
    """Return the rows."""
    big, part = effort.big, max(effort.big // _PARALLEL, _BLOCK)
    return (
        Row(f"push {size(big)}, chunked PATCH", "MiB/s", lambda server: _pushing(server, big, _chunked)),
        Row(f"push {size(big)}, monolithic PUT", "MiB/s", lambda server: _pushing(server, big, _monolithic)),
        Row(f"pull {size(big)}", "MiB/s", lambda server: _pulling(server, big, 1)),
        Row(
            f"pull {size(part)}, {_PARALLEL} at once",
            "MiB/s",
            lambda server: _pulling(server, part, _PARALLEL),
        ),
        read(f"GET range of {size(_RANGE)}", lambda server: _ranges(server, big), effort),
    )


def size(count: int) -> str:
    """Return a number of bytes for people."""
    for unit, name in ((1 << 30, "GiB"), (_MEBI, "MiB")):
        if count >= unit:
            return f"{count / unit:g} {name}"
    return f"{count / 1024:g} KiB"


def mebibytes(length: int, began: float) -> float:
    """Return MiB per second of what began at that time of ``time.perf_counter``, and ends now."""
    return length / _MEBI / (time.perf_counter() - began)


class Blob:
    """A big blob like no other, which is never in memory as a whole.

    It starts with zeros, so that as a V1 layer it is not compressed.
    """

    def __init__(self, length: int) -> None:
        """Make one of *length* bytes, a multiple of 4 MiB."""
        self.length = length
        self._nonce = os.urandom(_NONCE)
        hasher = _hashed(length).copy()
        hasher.update(self._nonce)
        self.digest = f"sha256:{hasher.hexdigest()}"

    def pieces(self) -> Iterator[bytes]:
        """Yield it."""
        yield from _pieces(self.length)
        yield self._nonce

    def coded(self) -> Iterator[bytes]:
        """Yield it in chunked transfer coding."""
        yield from map(_coded, _pieces(self.length))
        yield chunked(self._nonce) + LAST_CHUNK


@cache
def _block() -> bytes:
    return bytes(16) + os.urandom(_BLOCK - 16)


@cache
def _last() -> bytes:
    return _block()[:-_NONCE]


def _pieces(length: int) -> Iterator[bytes]:
    """Yield a blob but for its nonce."""
    for _ in range(length // _BLOCK - 1):
        yield _block()
    yield _last()


@cache
def _coded(piece: bytes) -> bytes:
    return chunked(piece)


@cache
def _hashed(length: int) -> "hashlib._Hash":
    """Return the hash of a blob but for its nonce."""
    hasher = hashlib.sha256()
    for piece in _pieces(length):
        hasher.update(piece)
    return hasher


def _pushing(server: Server, length: int, push: Callable[[Connection, Blob], None]) -> Callable[[], float]:
    """Push a new blob for each sample, and take it away again: a run needs little room on the disk."""

    def sample() -> float:
        blob = Blob(length)
        with Connection(server.host, server.login(REPOSITORY)) as connection:
            began = time.perf_counter()
            push(connection, blob)
            rate = mebibytes(length, began)
            if connection.ask("HEAD", f"{_BLOBS}/{blob.digest}").length != length:
                raise Refused(f"{blob.digest} has another length than was pushed")
        server.forget(REPOSITORY, blob.digest)
        return rate

    return sample


def _chunked(connection: Connection, blob: Blob) -> None:
    """Push as Docker does: POST, one PATCH of unknown length, PUT."""
    location = connection.ask("POST", f"{_BLOBS}/uploads/").location
    location = connection.ask("PATCH", location, blob.coded(), CHUNKED).location
    connection.ask("PUT", with_digest(location, blob.digest))


def _monolithic(connection: Connection, blob: Blob) -> None:
    """Push in one PUT of known length."""
    location = connection.ask("POST", f"{_BLOBS}/uploads/").location
    headers = {"Content-Length": str(blob.length), **STREAM}
    connection.ask("PUT", with_digest(location, blob.digest), blob.pieces(), headers)


@cache
def _pushed(server: Server, length: int) -> str:
    """Push a blob that stays, and return its digest."""
    blob = Blob(length)
    with Connection(server.host, server.login(REPOSITORY)) as connection:
        _monolithic(connection, blob)
    return blob.digest


def _pulling(server: Server, length: int, clients: int) -> Callable[[], float]:
    path, login = f"{_BLOBS}/{_pushed(server, length)}", server.login(REPOSITORY)
    return lambda: pull(server.host, path, login, length, clients)


def pull(host: str, path: str, headers: Mapping[str, str], length: int, clients: int = 1) -> float:
    """Pull *length* bytes by each of several clients, and return MiB per second of all together."""
    with ThreadPoolExecutor(clients) as pool:
        began = time.perf_counter()
        received = [*pool.map(lambda _: discard(host, path, headers), range(clients))]
        rate = mebibytes(clients * length, began)
    if received != [length] * clients:
        raise Refused(f"GET {path}: {received} bytes came instead of {length}")
    return rate


def _ranges(server: Server, length: int) -> Ask:
    """Ask for ranges anywhere in the big blob."""
    path, places = f"{_BLOBS}/{_pushed(server, length)}", random.Random(1)  # noqa: S311 -- the same in each run
    starts = [places.randrange(length - _RANGE) for _ in range(_RANGES)]
    ranges = [f"bytes={start}-{start + _RANGE - 1}" for start in starts]
    login = server.login(REPOSITORY)
    return Ask(server.host, "GET", path, has(_RANGE), login, status=206, ranges=ranges)
