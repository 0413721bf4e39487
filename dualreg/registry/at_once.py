"""At once: bytes of uploads that are short enough to be held in memory.

If all bytes of an upload come in one request, it needs no lease: they are written under a name of their own,
which no other request knows, and one transaction gives them to the upload, unless another request was first.
Nobody writes to them from then on: to add more, they are copied. So the request that ends the upload without
more needs no lease either: whatever comes meanwhile, they have the digest that they had. The process that
gave them does not look for them again: the transaction that makes them a blob finds out if others are there.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import chain
from threading import Lock
from typing import NamedTuple

from cachetools import LRUCache

from dualreg.catalog.at_once import WholeBytes
from dualreg.catalog.rows import BlobRow
from dualreg.errors import BlobMissing, QuotaExceeded, TooManyStagedBytes, UploadUnknown
from dualreg.image.digest import CANONICAL, Digest, Hasher
from dualreg.image.names import RepositoryName, UploadId
from dualreg.registry.state import State
from dualreg.registry.upload_limits import UploadLimits

#: The most bytes that are held in memory.
SHORT = 256 << 10
#: Uploads that each process remembers.
_REMEMBERED = 1000


class Beginning(NamedTuple):
    """The beginning of a body.

    Attributes:
        pieces: What was read of it.
        is_all: Whether that is the whole body, and arrived without an error.
        chunks: The body from its first byte on, with the error with which it ends, if it does.
    """

    pieces: list[bytes]
    is_all: bool
    chunks: Iterator[bytes]


def read_beginning(chunks: Iterable[bytes]) -> Beginning:
    """Read a body until it ends, or is no longer short."""
    pieces, size, rest = list[bytes](), 0, iter(chunks)
    try:
        while size <= SHORT:
            piece = next(rest, None)
            if piece is None:
                return Beginning(pieces, is_all=True, chunks=iter(pieces))
            pieces.append(bytes(piece))
            size += len(piece)
    except Exception as error:  # noqa: BLE001 -- whoever reads all of it gets it
        rest = _raising(error)
    return Beginning(pieces, is_all=False, chunks=chain(pieces, rest))


def _raising(error: Exception) -> Iterator[bytes]:
    """Raise *error* instead of yielding anything."""
    yield from ()
    raise error


class Given(NamedTuple):
    """The bytes that an upload of a repository got at a time, and their digest."""

    repository: RepositoryName
    digest: Digest
    at: datetime
    whole: WholeBytes


class Givings:
    """The last uploads that got all their bytes from this process. Threads may share it."""

    def __init__(self) -> None:
        """Remember none."""
        self._known = LRUCache[UploadId, Given](_REMEMBERED)
        self._lock = Lock()

    def add(self, upload: UploadId, given: Given) -> None:
        """Remember what an upload has got."""
        with self._lock:
            self._known[upload] = given

    def take(
        self, repository: RepositoryName, upload: UploadId, digest: Digest, since: datetime
    ) -> WholeBytes | None:
        """Return what an upload has got, and forget it, if it has that digest and came after *since*."""
        with self._lock:
            given = self._known.pop(upload, None)
        is_asked = given and (given.repository, given.digest) == (repository, digest) and given.at >= since
        return given.whole if given and is_asked else None


@dataclass(frozen=True, slots=True)
class AtOnce:
    """Gives uploads all their bytes, and makes them blobs.

    Attributes:
        ttl, limits: As of ``Uploads``.
        givings: What this process has given.
    """

    state: State
    ttl: timedelta
    limits: UploadLimits
    givings: Givings

    def fill(self, repository: RepositoryName, upload: UploadId, body: list[bytes]) -> bool:
        """Give *body* to an upload that has no bytes; return False if that must be done under a lease.

        That is so if there is no such upload, another request has written to it or does so now, or there are
        too many bytes with these. Then nothing is changed.
        """
        hasher, staged = Hasher(CANONICAL), UploadId.new()
        for piece in body:
            hasher.update(piece)
        try:
            length = self.state.store.append(staged, body, offset=0)
        except BaseException:
            self.state.store.discard(staged)
            raise
        whole = WholeBytes(staged, self.state.store.layout(staged), length)
        given = self._record(repository, upload, whole, hasher.digest())
        if given:
            self._require(upload, staged)
            self.givings.add(upload, given)
            if self.state.store.is_local():  # elsewhere, it costs more than to collect it later
                self.state.store.discard(upload)  # what a request left under its first name that failed
        return given is not None

    def finish(self, repository: RepositoryName, upload: UploadId, digest: Digest) -> BlobRow | None:
        """Make an upload that has its bytes from ``fill`` the blob *digest* of the repository.

        Return None if that must be done under a lease, which finds out the reason: there is no such upload,
        its bytes have another digest or came otherwise, or another request holds its lease. Then nothing is
        changed.

        Raises:
            QuotaExceeded: the blob does not fit, and the upload is gone.
        """
        whole = self._find(repository, upload, digest)
        if whole is None:
            return None
        self.state.store.adopt(whole.staged, whole.layout)
        try:
            blob = BlobRow(digest, whole.size)
            return blob if self._admit(repository, upload, whole.staged, blob) else None
        except BlobMissing:
            return None
        except QuotaExceeded:
            with self.state.begin() as tx:
                is_gone = tx.at_once.finish(upload, whole.staged, repository) is not None
            if is_gone:
                self.state.store.discard(whole.staged)
            raise

    def _find(self, repository: RepositoryName, upload: UploadId, digest: Digest) -> WholeBytes | None:
        """Return the bytes of an upload as ``AtOnceQueries.find``; they may have been replaced since."""
        since = self.state.catalog.now() - self.ttl
        if whole := self.givings.take(repository, upload, digest, since):
            return whole
        with self.state.catalog.read() as tx:
            return tx.at_once.find(repository, upload, digest, since=since)

    def _admit(self, repository: RepositoryName, upload: UploadId, staged: UploadId, blob: BlobRow) -> bool:
        """Make the bytes a blob of the repository, unless they are not those of the upload any more."""
        with self.state.arriving(repository, (staged, blob)) as arriving, self.state.begin() as tx:
            owner = tx.at_once.finish(upload, staged, repository)
            if owner:
                arriving.admit(tx, owner)
        return owner is not None

    def _require(self, upload: UploadId, staged: UploadId) -> None:
        """Raise UploadUnknown if a process whose clock is ahead discarded the bytes before they had a row."""
        try:
            self.state.store.reopen(staged).close()
        except BlobMissing as error:
            raise UploadUnknown(upload=upload) from error

    def _record(
        self, repository: RepositoryName, upload: UploadId, whole: WholeBytes, digest: Digest
    ) -> Given | None:
        """Give the bytes to the upload by its row; return None, and discard them, if that cannot be done."""
        discard = partial(self.state.store.discard, whole.staged)
        with suppress(TooManyStagedBytes), self.state.catalog.begin(undo=discard) as tx:
            others = tx.at_once.fill(
                repository,
                upload,
                whole.staged,
                offset=whole.size,
                layout=whole.layout,
                digest_so_far=digest,
                since=tx.now - self.ttl,
            )
            if others is not None:
                self.limits.require(others, whole.size)
                return Given(repository, digest, tx.now, whole)
        discard()
        return None
