"""Transcoding: layers that are compressed with zstd, as gzip for clients that cannot read that.

Docker reads zstd since 23.0. The gzip edition of a layer uncompresses to the same bytes, so diff IDs and
configs stay as they are. It is made once for all repositories and instances, stored like any blob, and
recorded. Which process is making it is in the catalog, as a lease that it renews. See
docs/adr/0046-layers-are-transcoded-once.md.
"""

import time
import zlib
from collections import deque
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import FIRST_COMPLETED, CancelledError, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from threading import BoundedSemaphore
from typing import Self

from dualreg.catalog.database import Transaction
from dualreg.catalog.rows import BlobRow, Lease, RepositoryRow
from dualreg.errors import BlobDamaged, BlobUnknown, ImageInvalid, LayersPending
from dualreg.image.descriptor import Descriptor
from dualreg.image.digest import Digest, Hasher
from dualreg.image.layer import DiffIdHasher, regzip
from dualreg.image.media_types import ZSTD_TO_GZIP
from dualreg.image.names import RepositoryName, UploadId
from dualreg.registry.flights import Flights
from dualreg.registry.loaded import load_blobs
from dualreg.registry.processes import has_ended, own_name
from dualreg.registry.state import State
from dualreg.registry.uploads import Uploads
from dualreg.storage.base import read_chunks, tee
from dualreg.waiting import Budget

#: What the bytes of gzip editions depend on: the rules of ``image.layer.regzip``, and the library.
MADE_BY = f"1 zlib {zlib.ZLIB_RUNTIME_VERSION}"
#: How long a process may be silent before another one makes the edition; it renews its lease three times as
#: often.
LEASE = timedelta(seconds=30)
#: Layers that each process of the server transcodes at once.
_AT_ONCE = 2
#: Threads of each process that wait for them; the others are for other requests.
_WAITING = 4
#: Seconds between two looks at what another process makes.
_LOOK = 0.5
#: When a client that did not wait may try again, in seconds.
_RETRY_AFTER = 10


class _Taken(Exception):
    """Another process makes the edition, or has made it; or this one ends."""


@dataclass(frozen=True, slots=True)
class Transcoding:
    """Makes the gzip editions of layers, and finds those that were made.

    Attributes:
        patience: How many seconds ``gzipped`` waits for what other threads make; None: the caller's own
            makes it, which takes as long as it takes.
        require_room: Called before something is made; raises OSError if nothing may be stored.
        budget: The threads that may wait; None: any.
    """

    state: State
    uploads: Uploads
    patience: float | None = None
    require_room: Callable[[], None] = lambda: None
    budget: Budget | None = None
    flights: Flights = field(default_factory=lambda: Flights(_AT_ONCE))
    _places: BoundedSemaphore = field(default_factory=lambda: BoundedSemaphore(_WAITING))

    def gzipped(
        self, repository: RepositoryName, layers: Sequence[Descriptor]
    ) -> Mapping[Digest, Descriptor]:
        """Return the gzip editions of those of *layers* that are zstd, by the digests of these.

        They are blobs of the repository, which has the *layers*. One that another repository has is shared.
        Those that are missing are made in the order of *layers*.

        Raises:
            LayersPending: they are not all made yet, but will be.
            ImageInvalid: a layer cannot be uncompressed.
            BlobUnknown: the repository does not have it, or not any longer.
            BlobMissing, BlobDamaged: its bytes are lost or damaged.
        """
        gzip = {
            each.digest: ZSTD_TO_GZIP[each.media_type] for each in layers if each.media_type in ZSTD_TO_GZIP
        }
        blobs = self.editions(repository, gzip.keys())
        return {source: Descriptor(gzip[source], blobs[source].digest, blobs[source].size) for source in gzip}

    def editions(self, repository: RepositoryName, sources: AbstractSet[Digest]) -> Mapping[Digest, BlobRow]:
        """Return the gzip editions of layers, whatever they are compressed with; as ``gzipped``.

        They are made in the order of *sources*, if that has one.
        """
        made = self._made(repository, sources)
        if sources <= made.keys():
            return made
        with self._patient() as until:
            while missing := _without(sources, made := self._made(repository, sources)):
                if until is None:
                    self._make_each(repository, missing)
                elif not self._await(repository, missing, until):
                    raise LayersPending(retry_after=_RETRY_AFTER)
        return made

    def hasty(self) -> Self:
        """Return what does the same, but waits for nothing that other threads make."""
        return self if self.patience is None else replace(self, patience=0.0)

    @contextmanager
    def _patient(self) -> Iterator[float | None]:
        """Yield until when this thread waits, by the monotonic clock: not at all, if too many do."""
        if self.patience is None:
            yield None
            return
        has_place = self._places.acquire(blocking=False)
        waits = has_place and (self.budget is None or self.budget.take(waits=True))
        try:
            yield time.monotonic() + (self.patience if waits else 0.0)
        finally:
            if waits and self.budget:
                self.budget.give_back(waits=True)
            if has_place:
                self._places.release()

    def close(self) -> None:
        """End what is in progress; another process, or this one later, begins again."""
        self.flights.close()

    def _made(self, repository: RepositoryName, sources: Collection[Digest]) -> dict[Digest, BlobRow]:
        """Return the editions that the repository has, or shares now.

        Raises:
            ImageInvalid: it is known that there cannot be one.
        """
        with self.state.catalog.read() as tx:
            unreadable = tx.transcoded.unreadable(sources, MADE_BY)
            made = tx.transcoded.find(sources)
            known = tx.blobs.known(repository, [blob.digest for blob in made.values()])
        for source in unreadable:
            raise ImageInvalid(reason=f"layer {source} cannot be uncompressed")
        own = {digest for digest, (_, is_own) in known.items() if is_own}
        return {
            source: blob
            for source, blob in made.items()
            if blob.digest in own or self._share(repository, source, blob)
        }

    def _share(self, repository: RepositoryName, source: Digest, blob: BlobRow) -> bool:
        """Link the gzip edition of a layer to the repository; return False if its bytes are lost."""
        try:
            with (
                self.state.arriving(repository, (None, blob), counts=False) as arriving,
                self.state.begin() as tx,
            ):
                arriving.admit(tx, _holder(tx, repository, source))
        except BlobDamaged:
            with self.state.begin() as tx:
                tx.transcoded.forget(source, blob.digest)
            return False
        except BlobUnknown:
            if not self.state.upstream.covers(repository):
                raise
            return False  # the layer has to be loaded first
        return True

    def _make_each(self, repository: RepositoryName, sources: Collection[Digest]) -> None:
        """Make the editions of layers in this thread; wait a moment if another process makes one."""
        for source in sources:
            try:
                self._make(repository, source)
            except _Taken:
                time.sleep(_LOOK)

    def _await(self, repository: RepositoryName, sources: Collection[Digest], until: float) -> bool:
        """Have the editions of layers made, and wait until one is; return False if the time is over."""
        started = time.monotonic()
        works = {(repository, each): partial(self._make, repository, each) for each in sources}
        flights = [self.flights.start(name, work) for name, work in works.items()]
        ended, _ = wait(flights, max(until - started, 0), FIRST_COMPLETED)
        for flight in ended:
            with suppress(_Taken, CancelledError):
                flight.result()
                return True
        left = until - time.monotonic()
        time.sleep(max(min(_LOOK, left), 0))
        return left > 0

    def _make(self, repository: RepositoryName, source: Digest) -> None:
        """Make the gzip edition of a layer, which may be upstream; store it and record it.

        Raises:
            _Taken: another process does.
            ImageInvalid, BlobMissing, BlobDamaged, BlobUnknown: as ``gzipped``.
        """
        if self.flights.closing.is_set():
            raise _Taken
        load_blobs(self.state, repository, [source])
        with self.state.catalog.read() as tx:
            held = tx.transcoded.held(source)
        if held and not has_ended(held.process):
            raise _Taken
        self.require_room()
        lease = Lease(str(UploadId.new()), own_name())
        with self.state.catalog.begin(durable=False) as tx:
            _holder(tx, repository, source)
            if not tx.transcoded.lease(source, lease, duration=LEASE, over=held.token if held else None):
                raise _Taken
        try:
            self._transcode(repository, source, _Renewing(self, source, lease.token))
        except BaseException as error:
            with self.state.catalog.begin(durable=False) as tx:
                if isinstance(error, ImageInvalid):
                    tx.transcoded.record(source, None, MADE_BY)
                tx.transcoded.release(source, lease.token)
            raise

    def _transcode(self, repository: RepositoryName, source: Digest, renew: Callable[[], None]) -> None:
        hasher = Hasher()
        with self.uploads.staging() as staged:
            size = staged.write(tee(self._gzip(source, renew), hasher.update))
            blob = BlobRow(hasher.digest(), size)
            with (
                self.state.arriving(repository, (staged.upload, blob), counts=False) as arriving,
                self.state.begin() as tx,
            ):
                arriving.admit(tx, _holder(tx, repository, source))
                tx.transcoded.record(source, blob.digest, MADE_BY)

    def _gzip(self, source: Digest, renew: Callable[[], None]) -> Iterator[bytes]:
        """Yield the gzip edition of a layer; raise at its end unless all was read and written right."""
        stored, inside, made = Hasher(source.algorithm), Hasher(), DiffIdHasher()
        with self.state.store.open(source) as reader:
            chunks = tee(read_chunks(reader), stored.update)
            try:
                yield from tee(regzip(chunks, inside.update, lambda _: renew()), made.update)
            except ImageInvalid as error:
                deque(chunks, maxlen=0)
                _require(source, stored)
                raise ImageInvalid(reason=f"layer {source} cannot be uncompressed: {error.reason}") from error
        _require(source, stored)
        if made.digest() != inside.digest():
            raise BlobDamaged(f"{source}: its gzip edition uncompresses to other bytes")


@dataclass(slots=True)
class _Renewing:
    """Renews a lease while a layer is transcoded; raises _Taken if that has to end."""

    transcoding: Transcoding
    source: Digest
    lease: str
    _renewed_at: datetime = field(init=False)

    def __post_init__(self) -> None:
        self._renewed_at = self.transcoding.state.catalog.now()

    def __call__(self) -> None:
        catalog = self.transcoding.state.catalog
        if self.transcoding.flights.closing.is_set():
            raise _Taken
        if abs(catalog.now() - self._renewed_at) > LEASE / 3:  # the clock may be set back
            with catalog.begin(durable=False) as tx:
                if not tx.transcoded.renew(self.source, self.lease, duration=LEASE):
                    raise _Taken
            self._renewed_at = catalog.now()


def _holder(tx: Transaction, repository: RepositoryName, source: Digest) -> RepositoryRow:
    """Return the repository, locked against deletion, if it may read the layer."""
    row = tx.repositories.lock(repository)
    if row is None or not tx.blobs.hold(row.id, source):
        raise BlobUnknown(digest=str(source))
    return row


def _without(sources: Iterable[Digest], made: Container[Digest]) -> list[Digest]:
    """Return the layers whose editions are not *made*, in order."""
    return [source for source in sources if source not in made]


def _require(source: Digest, stored: Hasher) -> None:
    """Raise BlobDamaged unless the stored bytes of a layer have its digest."""
    if stored.digest() != source:
        raise BlobDamaged(f"{source}: its stored bytes have another digest")
