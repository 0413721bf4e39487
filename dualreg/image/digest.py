"""Digest: the identity of bytes. Hasher: computes it while the bytes are streamed."""

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from queue import SimpleQueue
from sys import intern
from threading import Lock, Thread
from typing import Self

from dualreg.errors import DigestInvalid

#: Lower-case hex digits of each registered algorithm.  Source: OCI image-spec v1.1, descriptor.md,
#: "Registered algorithms".
HEX_DIGITS = {"sha256": 64, "sha512": 128}
CANONICAL = "sha256"
#: The algorithm of a digest of so many bytes.
_ALGORITHMS = {32: "sha256", 64: "sha512"}
#: Bytes of a piece that takes much longer to hash than to hand over to another thread.
_OVERLAPPED = 128 << 10

_DIGEST = re.compile(r"([a-z0-9]+):([0-9a-f]+)", re.ASCII)


def check_algorithm(algorithm: str) -> None:
    """Raise DigestInvalid unless *algorithm* is supported."""
    if algorithm not in HEX_DIGITS:
        raise DigestInvalid(algorithm=algorithm[:50])


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """The identity of bytes: algorithm and lower-case hex digits; ``str()`` gives ``sha256:…``."""

    algorithm: str
    hex: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the digest whose wire form is *text*.

        Raises:
            DigestInvalid: *text* is not ``algorithm:hex``, the algorithm is not supported, or the number of
                digits is wrong.

        Source: OCI image-spec v1.1, descriptor.md, "Digests".
        """
        match = _DIGEST.fullmatch(text)
        if match is None or HEX_DIGITS.get(match[1]) != len(match[2]):
            raise DigestInvalid(digest=text[:200])
        return cls(intern(match[1]), match[2])  # one text for the algorithm of millions of digests

    @classmethod
    def of(cls, data: bytes, algorithm: str = CANONICAL) -> Self:
        """Return the digest of *data*."""
        return cls(algorithm, hashlib.new(algorithm, data).hexdigest())

    @classmethod
    def unpack(cls, packed: bytes) -> Self:
        """Return the digest that ``packed`` is of: its length says the algorithm."""
        return cls(_ALGORITHMS[len(packed)], packed.hex())

    @property
    def packed(self) -> bytes:
        """The bytes that the digits spell: as a key, they take less than half the memory of the digest."""
        return bytes.fromhex(self.hex)

    def __str__(self) -> str:
        """Return the wire form."""
        return f"{self.algorithm}:{self.hex}"


class Hasher:
    """Computes a digest of consecutive pieces of bytes."""

    def __init__(self, algorithm: str = CANONICAL, prefix: bytes = b"") -> None:
        """Start with *prefix*, as if it had been fed already."""
        self._algorithm = algorithm
        self._hash = hashlib.new(algorithm, prefix)
        self._free = Lock()
        self._failure: Exception | None = None

    def update(self, data: bytes) -> None:
        """Feed the next piece; a large one is hashed by another thread, while the caller goes on."""
        self._free.acquire()
        if len(data) < _OVERLAPPED:
            self._hash_piece(data)
        else:
            _pieces(os.getpid()).put((self._hash_piece, data))

    def digest(self) -> Digest:
        """Return the digest of everything fed so far; more may be fed afterwards."""
        with self._free:
            if self._failure:
                raise self._failure
            return Digest(self._algorithm, self._hash.hexdigest())

    def _hash_piece(self, data: bytes) -> None:
        try:
            self._hash.update(data)
        except Exception as error:  # noqa: BLE001 -- raised where the digest is asked for
            self._failure = error
        finally:
            self._free.release()


_Pieces = SimpleQueue[tuple[Callable[[bytes], None], bytes]]


@lru_cache(maxsize=1)
def _pieces(_process: int) -> _Pieces:
    """Return the queue of the threads that hash large pieces; after a fork, a process needs its own."""
    pieces: _Pieces = SimpleQueue()
    for _ in range(os.cpu_count() or 1):
        Thread(target=_hash_pieces, args=(pieces,), name="hash", daemon=True).start()
    return pieces


def _hash_pieces(pieces: _Pieces) -> None:
    while True:
        update, data = pieces.get()
        update(data)
        del update, data  # they may be large, and the next may come late
