"""Flights: blobs on their way, each fetched by a thread of its own, or watched while another process does.

Readers wait for more of a blob; that they come and go changes nothing. When the process that fetches it ends,
those that watch it go on in its place.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from threading import Condition, Thread
from typing import BinaryIO, NamedTuple, Protocol

from dualreg.catalog.rows import BlobRow, UnderwayRow
from dualreg.errors import (
    BlobMissing,
    DigestMismatch,
    DownloadFailed,
    RegistryError,
    UploadBusy,
    UploadUnknown,
)
from dualreg.image.names import RepositoryName, UploadId
from dualreg.registry.incoming import DOWNLOAD, Incoming, Underway
from dualreg.tracing.spans import carried
from dualreg.upstreams.limits import Limits

#: The end of a blob that nothing reads before all of it has been verified, in bytes.
HELD_BACK = 64 << 10
#: Seconds for which nothing, or less than so many bytes, may arrive.
STALLED, _LEAST = 30.0, 16 << 10
#: Seconds between two looks at what another process fetches: at its bytes, and at the catalog.
_GLANCE, _LOOK = 0.02, 0.25
#: Bytes, or seconds, after which readers that wait are woken up.
_WAKE_BYTES, _WAKE_SECONDS = 1 << 20, 0.05


class Stream(Protocol):
    """The body of a response."""

    def read1(self, size: int, /) -> bytes:
        """Return up to *size* bytes that have arrived, after waiting for the first one; empty at the end."""

    def close(self) -> None:
        """Give the connection back, or close it."""


class BlobSource(Protocol):
    """A blob that an upstream has."""

    def open(self, offset: int) -> Stream:
        """Request its bytes from *offset* on.

        Raises:
            RegistryError, OSError: the upstream does not send them.
        """


class Counting(Protocol):
    """Adds to the counters of an upstream, by their names."""

    def __call__(self, **counts: int) -> None:
        """Add *counts*."""


def count_nothing(**counts: int) -> None:
    """Count nothing."""
    del counts


class Place(NamedTuple):
    """Where the bytes are that have arrived.

    Attributes:
        name: Another one if they may be other bytes.
        open: Returns a reader of them from a position on.
    """

    name: str
    open: Callable[[int], BinaryIO]


@dataclass
class Flight:
    """A blob on its way into a repository; to be started once.

    Attributes:
        require: Raises if nothing may be added to the repository, which it creates.
        count: Counts that the blob is requested from upstream, and the bytes that arrive.
        is_over: Whether it has landed, or failed.
        failure: Why it has failed.
    """

    incoming: Incoming
    repository: RepositoryName
    blob: BlobRow
    source: BlobSource
    limits: Limits
    require: Callable[[], None] = lambda: None
    count: Counting = count_nothing
    is_over: bool = False
    failure: Exception | None = None
    _place: Place | None = None
    _same: int = field(init=False)
    _durable: int = 0
    _arrived: int = 0
    _progress_at: float = field(default_factory=time.monotonic)
    _woken_at: tuple[int, float] = (0, 0.0)
    _watched: BinaryIO | None = None
    _changed: Condition = field(default_factory=Condition)

    def __post_init__(self) -> None:
        self._same = self.blob.size

    def start(self, on_end: Callable[["Flight"], None]) -> None:
        """Fetch the blob, or watch who does, in a thread; call *on_end* from there."""
        Thread(target=carried(self._run), args=(on_end,), name=DOWNLOAD, daemon=True).start()

    def wait(self, position: int) -> tuple[int, Place | None]:
        """Wait for bytes after *position*; return where those end that may be read, and where they are.

        At the end of the blob, there are none.

        Raises:
            DownloadFailed: the download has failed, or nothing has arrived for long.
            RegistryError: what the upstream has answered instead.
        """
        with self._changed:
            while not self.failure:
                end = self._readable()
                if end > position or self.is_over:
                    return end, self._place
                left = self._progress_at + STALLED - time.monotonic()
                if left <= 0:
                    raise self._failed("it has stalled")
                self._changed.wait(min(left, _LOOK))
            raise self.failure

    def continues(self, place: str, position: int) -> bool:
        """Return whether what was read up to *position* of another *place* is what is there now, too."""
        with self._changed:
            return position <= self._same or (self._place is not None and place == self._place.name)

    def _readable(self) -> int:
        return self.blob.size if self.is_over else min(self._arrived, max(self.blob.size - HELD_BACK, 0))

    def _failed(self, reason: str) -> DownloadFailed:
        return DownloadFailed(digest=str(self.blob.digest), reason=reason)

    def _run(self, on_end: Callable[["Flight"], None]) -> None:
        try:
            self._bring()
        except DigestMismatch as error:
            self.failure = self._failed(f"what it sent is {error.actual}")
        except RegistryError as error:
            self.failure = error
        except Exception as error:  # noqa: BLE001 -- raised to all who wait
            self.failure = self._failed(str(error))
            self.failure.__cause__ = error
        finally:
            if self._watched:
                self._watched.close()
            with self._changed:
                self.is_over = True
                self._changed.notify_all()
            on_end(self)

    def _bring(self) -> None:
        """Return when the blob is in the repository, whichever process has fetched it."""
        while not self._link():
            underway = self.incoming.look(self.blob.digest)
            if underway and underway.is_held:
                self._watch(underway)
                continue
            try:
                self._fetch()
            except (UploadBusy, UploadUnknown):  # another process is, or was, faster
                time.sleep(_GLANCE)
                continue
            self._land(is_same=True)
            return
        self._land(is_same=self._watched is None or self._has_become(self._watched))

    def _link(self) -> bool:
        self.require()  # each time: the repository may be deleted meanwhile
        return self.incoming.link(self.repository, self.blob)

    def _has_become(self, watched: BinaryIO) -> bool:
        """Return whether the blob is the bytes that were watched."""
        staged = UploadId(self._place.name) if self._place else None
        return self.incoming.has_become(watched, staged, self.blob.digest)

    def _land(self, *, is_same: bool) -> None:
        """Have readers go on with the blob; if it *is_same* as what they have read."""
        name = self._place.name if self._place and is_same else str(self.blob.digest)
        if not is_same:
            self._durable = 0
        self._move(Place(name, partial(self.incoming.open_blob, self.blob)))

    def _fetch(self) -> None:
        """Fetch the blob.

        Raises:
            UploadBusy, UploadUnknown: another process does, or did.
        """
        with (
            self.limits.connection(STALLED),
            self.incoming.receive(self.repository, self.blob, self._arrive) as receiving,
        ):
            self._move(Place(receiving.staged, partial(self.incoming.reopen, receiving.staged)))
            self._arrive(receiving.length)
            receiving.write(self._chunks(receiving.offset))
            receiving.finish(self.repository)

    def _chunks(self, offset: int) -> Iterator[bytes]:
        """Yield the bytes of the blob from *offset* on, as they arrive."""
        if not offset:
            self.count(misses=1)
        if offset < self.blob.size:
            with closing(self.source.open(offset)) as stream:
                yield from self._received(stream, self.blob.size - offset)

    def _received(self, stream: Stream, left: int) -> Iterator[bytes]:
        waited, moved = 0.0, 0
        while left:
            began = time.monotonic()
            chunk = stream.read1(min(self.limits.piece, left))
            waited, moved = waited + time.monotonic() - began, moved + len(chunk)
            if not chunk:
                raise self._failed(f"it ends {left} bytes early")
            if moved >= _LEAST:
                waited, moved = 0.0, 0
            elif waited > STALLED:
                raise self._failed("it has stalled")
            self.count(bytes=len(chunk))
            self.limits.spend(len(chunk))
            yield chunk
            left -= len(chunk)
        stream.read1(1)  # its end, so that the connection can be used again

    def _watch(self, underway: Underway) -> None:
        """Look for a moment how many bytes another process has fetched.

        Raises:
            DownloadFailed: these have been the same for long.
        """
        until = time.monotonic() + _LOOK
        try:
            watched = self._watched_at(underway.row)
            self._durable = underway.row.offset
            while time.monotonic() < until and self._arrived < self.blob.size:
                self._arrive(watched.seek(0, os.SEEK_END))
                time.sleep(_GLANCE)
        except BlobMissing:  # not yet, or not any longer
            time.sleep(_GLANCE)
        if time.monotonic() - self._progress_at > 2 * STALLED:
            raise self._failed("the process that fetches it has stalled")

    def _watched_at(self, row: UnderwayRow) -> BinaryIO:
        """Return a reader of the bytes that another process has fetched, and have others read there, too.

        Raises:
            BlobMissing: there are none.
        """
        known = self._place is not None and self._place.name == row.staged
        if self._watched is None or not known or not self.incoming.grows:
            reader = self.incoming.open(row, 0)
            if not known and not reader.seek(0, os.SEEK_END):  # one that may find the blob there, and go
                reader.close()
                raise BlobMissing(row.staged)
            if self._watched:
                self._watched.close()
            self._watched = reader
            self._move(Place(row.staged, partial(self.incoming.open, row)))
        return self._watched

    def _move(self, place: Place) -> None:
        """Have readers go on in *place*; if that has another name, only with what was durable before."""
        with self._changed:
            if self._place and self._place.name != place.name:
                self._same = min(self._same, self._durable)
                self._durable = 0
                self._arrived = 0
            self._place = place

    def _arrive(self, arrived: int) -> None:
        """Note how many bytes have arrived, and wake those who wait for them."""
        if arrived <= self._arrived:
            return
        self._arrived, now = arrived, time.monotonic()
        self._progress_at, (count, at) = now, self._woken_at
        if arrived - count >= _WAKE_BYTES or now - at >= _WAKE_SECONDS or arrived < _WAKE_BYTES:
            self._woken_at = arrived, now
            with self._changed:
                self._changed.notify_all()
