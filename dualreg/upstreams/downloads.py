"""Downloads: the blobs of an upstream, each transferred once, and read by all clients while they arrive."""

import io
import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from threading import Lock
from typing import BinaryIO

from dualreg.catalog.rows import BlobRow
from dualreg.errors import BlobMissing, DownloadFailed, UpstreamBusy
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName
from dualreg.messages import safe_line
from dualreg.registry.incoming import Incoming
from dualreg.upstreams.flights import BlobSource, Counting, Flight, Place, count_nothing
from dualreg.upstreams.limits import Limits

_log = logging.getLogger(__name__)
#: Blobs on their way into a process, at most: clients that leave do not end them.
_FLIGHTS = 64
#: When to try again if there are as many, in seconds.
_RETRY_AFTER = 10
#: How often a reader looks again for bytes that have arrived and just changed their place, and after how
#: many seconds.
_LOOKS, _PAUSE = 100, 0.01


class DownloadReader(io.RawIOBase):
    """A blob on its way, or one that has arrived, from its first byte; reading waits for what comes.

    Attributes:
        size: Of the whole blob, in bytes.
    """

    def __init__(self, flight: Flight) -> None:
        """Read what *flight* brings."""
        self.size = flight.blob.size
        self._flight, self._position = flight, 0
        self._reader: BinaryIO | None = None
        self._place: Place | None = None
        self._lent = list[BinaryIO]()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go on at a byte, which need not have arrived."""
        self._position = offset + {io.SEEK_CUR: self._position, io.SEEK_END: self.size}.get(whence, 0)
        if self._reader:
            self._reader.seek(self._position)
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # what io passes
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def read(self, size: int = -1, /) -> bytes:
        """Return up to *size* bytes, after waiting for the first one; empty at the end of the blob.

        The end comes once all of the blob is verified.

        Raises:
            RegistryError: the download has failed.
        """
        size, data = self.size if size < 0 else size, b""
        for _ in range(_LOOKS):
            end, place = self._flight.wait(self._position)
            length = min(size, end - self._position)
            if length <= 0 or place is None:
                return b""
            with suppress(BlobMissing, OSError):  # in a bucket, it may go while it is read
                data = self._at(place).read(length)
            if data:
                self._position += len(data)
                return data
            self._leave()  # that was what had arrived earlier, or the place has changed
            time.sleep(_PAUSE)
        raise self._lost()

    def fileno(self) -> int:
        """Return a descriptor of a file with what is there around the position; valid until ``close``.

        Raises:
            UnsupportedOperation: that is in no file.
            RegistryError: the download has failed.
        """
        if self._reader is None:
            self.reach(self._position)
        if self._reader is None:
            raise io.UnsupportedOperation("fileno")
        descriptor = self._reader.fileno()
        if self._reader not in self._lent:
            self._lent.append(self._reader)
        return descriptor

    def reach(self, position: int) -> int:
        """Go to a byte, wait for it, and return where those end that ``fileno`` has.

        Raises:
            RegistryError: the download has failed.
        """
        self._position = position
        for _ in range(_LOOKS):
            end, place = self._flight.wait(position)
            if end <= position or place is None:
                return position
            with suppress(BlobMissing, OSError):
                self._at(place)
                return end
            time.sleep(_PAUSE)
        raise self._lost()

    def _lost(self) -> DownloadFailed:
        return DownloadFailed(digest=str(self._flight.blob.digest), reason="its bytes are lost")

    def wait(self) -> None:
        """Wait until there are bytes to read, or the blob has none.

        Raises:
            RegistryError: the download has failed.
        """
        self._flight.wait(self._position)

    def _at(self, place: Place) -> BinaryIO:
        """Return a reader of *place* at the position.

        Raises:
            DownloadFailed: what was read before may not be what is there.
        """
        if self._reader is None or place is not self._place:
            if self._place and not self._flight.continues(self._place.name, self._position):
                raise DownloadFailed(digest=str(self._flight.blob.digest), reason="it was started again")
            self._leave()
            self._reader, self._place = place.open(self._position), place
        return self._reader

    def _leave(self) -> None:
        if self._reader and self._reader not in self._lent:
            self._reader.close()
        self._reader = None

    def close(self) -> None:
        self._leave()
        for reader in self._lent:
            reader.close()
        super().close()


@dataclass(frozen=True, slots=True)
class AwaitedBlob:
    """A ``ComingBlob``: one that the upstream of *downloads* has, for a repository here."""

    downloads: "Downloads"
    repository: RepositoryName
    blob: BlobRow
    source: BlobSource

    def open(self) -> DownloadReader:
        return self.downloads.open(self.repository, self.blob, self.source)

    def fetch(self) -> None:
        self.downloads.fetch(self.repository, self.blob, self.source)


@dataclass
class Downloads:
    """Downloads the blobs of one upstream.

    Attributes:
        upstream: What messages call it.
        require: Called before each download; raises if nothing may be added to the store.
        claim: Called before each download with the repository, for which it records where its content comes
            from; raises if that is from clients.
        count: Counts downloads, those that fail, and their bytes.
        slot: Returns what a thread holds that waits for the end of one.
    """

    incoming: Incoming
    upstream: str
    limits: Limits
    require: Callable[[], None] = lambda: None
    count: Counting = count_nothing
    claim: Callable[[RepositoryName], None] = lambda _: None
    slot: Callable[[], AbstractContextManager[None]] = nullcontext
    _flights: dict[tuple[RepositoryName, Digest], Flight] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def coming(self, repository: RepositoryName, digest: Digest) -> AwaitedBlob | None:
        """Return a blob that is on its way in this process; None if it is not."""
        with self._lock:
            flight = self._flights.get((repository, digest))
        return None if flight is None else AwaitedBlob(self, repository, flight.blob, flight.source)

    def open(self, repository: RepositoryName, blob: BlobRow, source: BlobSource) -> DownloadReader:
        """Return a reader of a blob that the upstream has, which starts to arrive unless it does already.

        The blob is linked to the repository when all of it has arrived and is verified.

        Args:
            blob: With the size that the manifest states.
            source: Sends the bytes; only used if no other download of the blob goes on.

        Raises:
            UpstreamBusy: too many blobs are on their way.
            RegistryError: the upstream does not send it.
        """
        reader = DownloadReader(self._flight(repository, blob, source))
        reader.wait()
        return reader

    def fetch(self, repository: RepositoryName, blob: BlobRow, source: BlobSource) -> None:
        """Wait until the repository has the blob; see ``open``.

        Raises:
            ServerBusy: too many threads wait.
        """
        with self.slot(), self.open(repository, blob, source) as reader:
            reader.seek(blob.size - 1 if blob.size else 0)
            reader.wait()

    def _flight(self, repository: RepositoryName, blob: BlobRow, source: BlobSource) -> Flight:
        key = repository, blob.digest
        with self._lock:
            known = self._flights.get(key)
            if known and not known.failure:  # else who has seen it fail may try again at once
                return known
            if len(self._flights) >= _FLIGHTS:
                raise UpstreamBusy(retry_after=_RETRY_AFTER)
            flight = Flight(
                self.incoming,
                repository,
                blob,
                source,
                self.limits,
                require=partial(self._require, repository),
                count=self.count,
            )
            self._flights[key] = flight
        flight.start(lambda ended: self._end(key, ended))
        return flight

    def _require(self, repository: RepositoryName) -> None:
        self.require()
        self.claim(repository)

    def _end(self, key: tuple[RepositoryName, Digest], flight: Flight) -> None:
        with self._lock:
            if self._flights.get(key) is flight:
                del self._flights[key]
        if flight.failure:
            self.count(errors=1)
            facts = *key[::-1], self.upstream, safe_line(str(flight.failure))
            _log.warning("cannot download %s of %s from %s: %s", *facts)
