"""Listings: the files in the layers of V1 images."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count
from threading import Lock

from cachetools import LRUCache

from dualreg.catalog.rows import V1ImageRow
from dualreg.errors import ImageInvalid
from dualreg.image.digest import Digest
from dualreg.image.listing import TEXT_LIMIT, File, changes, dump_changes, dump_files, files
from dualreg.registry.inflating import InflatingSlots
from dualreg.registry.state import State
from dualreg.storage.base import read_chunks

#: Bytes of listings that each process keeps, even the longest one, and what remembering a failure counts as.
_CAPACITY, _FAILURE_SIZE = TEXT_LIMIT + (16 << 20), 1 << 10
#: Pieces of up to a megabyte that are uncompressed for a listing: the layers below may be a thousand.
_PIECES = 64 << 10
#: Seconds to wait while other layers are listed: threads are for pulls.
_PATIENCE = 2.0

_Listing = bytes | ImageInvalid


def _size(listing: _Listing) -> int:
    return len(listing) if isinstance(listing, bytes) else _FAILURE_SIZE


def _bounded(check: Callable[[], None]) -> Callable[[], None]:
    """Return *check*, which is called for each piece that is uncompressed, and ends the work after many."""
    pieces = count(1)

    def bounded() -> None:
        if next(pieces) > _PIECES:
            raise ImageInvalid(reason="too large to list")
        check()

    return bounded


@dataclass(frozen=True, slots=True)
class Listings:
    """Lists the files in the layers of V1 images, as JSON; what was listed, or cannot be, is remembered."""

    state: State
    inflating: InflatingSlots
    _known: LRUCache[tuple[object, ...], _Listing] = field(
        default_factory=lambda: LRUCache(_CAPACITY, getsizeof=_size)
    )
    _lock: Lock = field(default_factory=Lock)

    def files(self, row: V1ImageRow, check: Callable[[], None] = lambda: None) -> bytes:
        """Return the files of the image's own layer: a list of File.

        Args:
            check: Called as the work goes on; what it raises ends it.

        Raises:
            ImageInvalid: the layer is not a tar, or too large to be listed.
            ServerBusy: too many layers are being listed.
        """
        check = _bounded(check)
        return self._remember(("files", row.layer), lambda: dump_files(self._files(row.layer, check)))

    def changes(self, rows: Sequence[V1ImageRow], check: Callable[[], None] = lambda: None) -> bytes:
        """Return what the first image of an ancestry changes in the others, as ``listing.changes``.

        Raises:
            ImageInvalid, ServerBusy: as ``files``.
        """
        layers, check = [row.layer for row in rows], _bounded(check)
        read = (self._files(layer, check) for layer in layers)
        return self._remember(("changes", *layers), lambda: dump_changes(changes(next(read), read)))

    def _remember(self, key: tuple[object, ...], make: Callable[[], bytes]) -> bytes:
        """Return what was made before under *key*, or make it."""
        with self._lock:
            known = self._known.get(key)
        if known is None:
            with self.inflating.slot(patience=_PATIENCE):
                try:
                    known = make()
                except ImageInvalid as error:
                    known = error
            with self._lock:
                self._known[key] = known
        if isinstance(known, ImageInvalid):
            raise ImageInvalid(reason=known.reason)
        return known

    def _files(self, layer: Digest | None, check: Callable[[], None]) -> Iterator[File]:
        if layer is not None:
            with closing(self.state.store.open(layer)) as reader:
                yield from files(read_chunks(reader), check)
