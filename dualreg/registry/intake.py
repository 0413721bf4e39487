"""Intake: a request body on its way into an upload that this request alone may write."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from dualreg.catalog.rows import UploadRow
from dualreg.errors import BodyTruncated
from dualreg.image.digest import Digest, Hasher
from dualreg.storage.base import tap


class Renew(Protocol):
    """Keeps a lease: now and then, or at once if *force* is set."""

    def __call__(self, *, force: bool = False) -> None:
        """Raise UploadBusy if the lease is lost."""


@dataclass(frozen=True, slots=True)
class Leased:
    """An upload that this request alone may write now.

    Attributes:
        lease: Proves it to the catalog.
        renew: To be called while bytes move; keeps the lease from running out.
    """

    row: UploadRow
    lease: str
    renew: Renew


class Intake:
    """A request body on its way into the store, keeping the lease alive and, where that helps, hashing.

    A body that ends early ends the iteration like any other, so that what did arrive becomes durable and
    counts; *failure* keeps the error for later.
    """

    def __init__(self, leased: Leased, chunks: Iterable[bytes], algorithm: str) -> None:
        """Hash only from the very first byte on.

        A hash cannot be taken up again where another request left it.
        """
        self._row = leased.row
        self._hasher = Hasher(algorithm) if leased.row.offset == 0 else None
        updates = [self._hasher.update] if self._hasher else []
        self._chunks = tap(chunks, *updates, lambda _: leased.renew())
        self.failure: BodyTruncated | None = None

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._chunks
        except BodyTruncated as error:
            self.failure = error

    def digest_so_far(self, length: int) -> Digest | None:
        """Return the digest of the whole upload, now *length* bytes, if no reading is needed for it."""
        if self._hasher:
            return self._hasher.digest()
        return self._row.digest_so_far if length == self._row.offset else None
